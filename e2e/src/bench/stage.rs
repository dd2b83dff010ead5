//! What every measurement works with: the installed product, its processes, its clients.

use super::processes::Process;
use crate::cluster::{Progress, Target, shell};
use crate::product;
use crate::support::pods::{self, Component};
use crate::support::{ClickHouse, Gateway};
use anyhow::{Context as _, Result, ensure};
use aviary_crds::ByteSize;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

/// How long the operator may take to start or end.
const ROLLOUT: Duration = Duration::from_secs(90);
const OPERATOR: &str = "aviary-operator";

/// The installed product and the means to ask it.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) gateway: Gateway,
    pub(crate) clickhouse: ClickHouse,
    /// The engine's address, such as `10.244.0.9:8123`.
    pub(crate) engine: String,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
}

/// The gateway's one pod.
pub(crate) struct GatewayPod {
    pub(crate) address: String,
    pub(crate) process: Process,
    /// MiB that its container may use.
    pub(crate) memory_limit: f64,
    /// How often its container was started again.
    pub(crate) restarts: i32,
}

impl GatewayPod {
    /// Where it answers, without its Service.
    pub(crate) fn base(&self) -> String {
        format!("http://{}:8080", self.address)
    }
}

impl Stage {
    /// Finds everything. Only the box has an audit log and its processes on this machine.
    pub(crate) async fn set(target: Target, progress: &Progress) -> Result<Self> {
        let cluster = target.as_box()?;
        let client = target.client().await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), product::ENGINE_NAMESPACE);
        let engine = pods
            .get("engine-0")
            .await
            .context("find the engine's pod")?;
        Ok(Self {
            gateway: Gateway::shared(&client).await?,
            clickhouse: ClickHouse::shared(&client).await?,
            engine: format!("{}:8123", address(&engine)?),
            kubectl: cluster.tool("kubectl", progress).await?,
            kubeconfig: target.kubeconfig(),
            client,
        })
    }

    /// Runs kubectl, as a user would.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        shell::output(command).await
    }

    /// The process of a component.
    pub(crate) async fn process(&self, component: Component) -> Result<Process> {
        let pod = self.pod(component).await?;
        let uid = pod.uid().unwrap_or_default();
        pods::process_of(&uid, component.name()).map(Process::from)
    }

    /// The pod and the process of the gateway.
    pub(crate) async fn gateway_pod(&self) -> Result<GatewayPod> {
        let pod = self.pod(Component::Gateway).await?;
        Ok(GatewayPod {
            address: address(&pod)?.to_owned(),
            process: self.process(Component::Gateway).await?,
            memory_limit: memory_limit(&pod)?,
            restarts: restarts(&pod),
        })
    }

    /// The program that runs in the engine's pod.
    pub(crate) async fn engine_program(&self) -> Result<PathBuf> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), product::ENGINE_NAMESPACE);
        let engine = pods
            .get("engine-0")
            .await
            .context("find the engine's pod")?;
        let process = pods::process_of(&engine.uid().unwrap_or_default(), "engine")?;
        Ok(format!("/proc/{}/exe", process.as_raw_nonzero()).into())
    }

    async fn pod(&self, component: Component) -> Result<Pod> {
        let mut pods = pods::pods(&self.client, component).await?;
        ensure!(
            pods.len() == 1,
            "{} pods of the {}: the measurements need exactly one",
            pods.len(),
            component.name()
        );
        Ok(pods.remove(0))
    }

    /// A value in a Secret.
    pub(crate) async fn secret(&self, namespace: &str, name: &str, key: &str) -> Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets
            .get(name)
            .await
            .with_context(|| format!("read Secret {namespace}/{name}"))?;
        let value = secret.data.unwrap_or_default().remove(key);
        let value = value.with_context(|| format!("Secret {namespace}/{name} has no `{key}`"))?;
        String::from_utf8(value.0).with_context(|| format!("Secret {namespace}/{name} is not text"))
    }

    /// Does `work` with no operator running; starts it again whatever comes of the work.
    pub(crate) async fn without_operator<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let stopped = self.scale_operator(0).await;
        let outcome = match stopped {
            Ok(()) => work.await,
            Err(error) => Err(error),
        };
        self.scale_operator(1).await?;
        outcome
    }

    async fn scale_operator(&self, replicas: i32) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), product::NAMESPACE);
        let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments
            .patch_scale(OPERATOR, &PatchParams::default(), &scale)
            .await
            .context("scale the operator")?;
        let namespace = format!("--namespace={}", product::NAMESPACE);
        let timeout = format!("--timeout={}s", ROLLOUT.as_secs());
        if replicas == 0 {
            let pods = format!("app.kubernetes.io/component={}", Component::Operator.name());
            self.kubectl(&[
                "wait",
                "pod",
                "--for=delete",
                "-l",
                &pods,
                &namespace,
                &timeout,
            ])
            .await?;
        } else {
            let deployment = format!("deployment/{OPERATOR}");
            self.kubectl(&["rollout", "status", &deployment, &namespace, &timeout])
                .await?;
        }
        Ok(())
    }
}

fn memory_limit(pod: &Pod) -> Result<f64> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut limits = containers.filter_map(|container| {
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        limits.get("memory")?.0.parse::<ByteSize>().ok()
    });
    let limit = limits
        .next()
        .with_context(|| format!("pod {} has no memory limit", pod.name_any()))?;
    Ok(limit.get() as f64 / 1024.0 / 1024.0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| &status.container_statuses);
    statuses
        .flatten()
        .map(|container| container.restart_count)
        .sum()
}

fn address(pod: &Pod) -> Result<&str> {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.pod_ip.as_deref())
        .with_context(|| format!("pod {} has no address", pod.name_any()))
}

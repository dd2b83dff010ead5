//! What tests do to Aviary's pods: end them without warning, freeze them, take them away.

use super::logs;
use super::pods::{Component, all_pods, pods, process_of, until_all_ready};
use super::wait::eventually;
use crate::cluster::Target;
use crate::product;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Ends the process of every pod of a component with SIGKILL, as a crash or the
/// kernel would: nothing in it can notice. Needs the box, whose processes are
/// this machine's. The log is kept, but only until the next time.
pub async fn kill(client: &Client, component: Component) -> Result<()> {
    Target::from_environment().as_box()?;
    let pods = pods(client, component).await?;
    ensure!(!pods.is_empty(), "no pod of the {}", component.name());
    for pod in pods {
        let uid = pod.uid().context("the pod has no uid")?;
        let process = process_of(&uid, component.name())
            .with_context(|| format!("find the process of {}", pod.name_any()))?;
        kill_process(process, Signal::KILL).context("kill")?;
    }
    Ok(())
}

/// A process that is stopped, and goes on when this is dropped.
#[derive(Debug)]
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Stops the process `aviary <program>` of a pod, as a machine would that hangs. Needs the box.
pub async fn freeze(client: &Client, namespace: &str, name: &str, program: &str) -> Result<Frozen> {
    Target::from_environment().as_box()?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = pods.get(name).await;
    let pod = pod.with_context(|| format!("get the pod {name}"))?;
    let uid = pod.uid().context("the pod has no uid")?;
    let process =
        process_of(&uid, program).with_context(|| format!("find the process of {name}"))?;
    kill_process(process, Signal::STOP).context("stop")?;
    Ok(Frozen(process))
}

/// Says how many pods a component is to have, and waits until it has as many that are ready. The
/// logs of those that go are checked before.
pub async fn scale(client: &Client, component: Component, replicas: usize) -> Result<()> {
    if !pods(client, component).await?.is_empty() {
        logs::check(client).await?;
    }
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), product::NAMESPACE);
    let name = format!("{}-{}", product::RELEASE, component.name());
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments
        .patch(&name, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("scale {name}"))?;
    eventually(&format!("{name} has {replicas} pods"), async || {
        let there = all_pods(client, component).await?.len();
        Ok((there == replicas).then_some(()).ok_or(there.to_string()))
    })
    .await?;
    until_all_ready(client, component, replicas).await
}

/// Deletes every pod of a component.
pub async fn delete(client: &Client, component: Component) -> Result<()> {
    for pod in pods(client, component).await? {
        delete_one(client, &pod.name_any()).await?;
    }
    Ok(())
}

/// Deletes a pod. Its log goes with it, so it is checked before.
pub async fn delete_one(client: &Client, name: &str) -> Result<()> {
    logs::check(client).await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), product::NAMESPACE);
    let deleted = api.delete(name, &DeleteParams::default()).await;
    deleted.map(drop).with_context(|| format!("delete {name}"))
}

//! Aviary's own pods: their logs, their metrics, and how to end them without warning.

use super::{logs, reach};
use crate::cluster::Target;
use crate::product;
use crate::support::eventually;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// One of the chart's two Deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// `aviary operator`.
    Operator,
    /// `aviary gateway`.
    Gateway,
}

impl Component {
    /// Its label, and the program's first argument.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Gateway => "gateway",
        }
    }

    /// Its user at the apiserver.
    pub fn user(self) -> String {
        let (namespace, release) = (product::NAMESPACE, product::RELEASE);
        format!(
            "system:serviceaccount:{namespace}:{release}-{}",
            self.name()
        )
    }

    fn metrics_port(self) -> u16 {
        match self {
            Self::Operator => 8081,
            Self::Gateway => 9090,
        }
    }
}

/// The output of one container, from its start to its end or to now.
#[derive(Debug)]
pub struct Log {
    /// Pod, and whether it is of the container before the running one.
    pub source: String,
    /// What it wrote.
    pub text: String,
}

/// The pods of a component that are not on their way out.
pub async fn pods(client: &Client, component: Component) -> Result<Vec<Pod>> {
    let mut pods = all_pods(client, component).await?;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

async fn all_pods(client: &Client, component: Component) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), product::NAMESPACE);
    let labels = format!("app.kubernetes.io/component={}", component.name());
    let found = pods
        .list(&ListParams::default().labels(&labels))
        .await
        .context("list Aviary's pods")?;
    Ok(found.items)
}

/// The logs of all containers of a component, those before the last restart included.
pub async fn logs(client: &Client, component: Component) -> Result<Vec<Log>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), product::NAMESPACE);
    let mut logs = Vec::new();
    for pod in pods(client, component).await? {
        // A container that has not begun has no log, and asking for it is an error.
        if !has_begun(&pod) {
            continue;
        }
        let name = pod.name_any();
        for previous in [true, false] {
            if previous && restarts(&pod) == 0 {
                continue;
            }
            let parameters = LogParams {
                previous,
                ..LogParams::default()
            };
            let text = api
                .logs(&name, &parameters)
                .await
                .with_context(|| format!("read the log of {name}"))?;
            let source = if previous {
                format!("{name}, before its restart")
            } else {
                name.clone()
            };
            logs.push(Log { source, text });
        }
    }
    Ok(logs)
}

/// Waits until a pod of a component is ready that is not on its way out.
pub async fn until_ready(client: &Client, component: Component) -> Result<()> {
    let what = format!("a ready pod of the {}", component.name());
    eventually(&what, async || {
        let pods = pods(client, component).await?;
        let ready = pods.iter().any(is_ready);
        Ok(ready.then_some(()).ok_or("there is none".to_owned()))
    })
    .await
}

/// Waits until this many pods of a component are there and all of them are ready.
pub async fn until_all_ready(client: &Client, component: Component, count: usize) -> Result<()> {
    let what = format!("{count} ready pods of the {}", component.name());
    eventually(&what, async || {
        let pods = pods(client, component).await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let all = ready == count && pods.len() == count;
        let found = format!("{ready} of {} are ready", pods.len());
        Ok(all.then_some(()).ok_or(found))
    })
    .await
}

fn is_ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn has_begun(pod: &Pod) -> bool {
    let states = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .filter_map(|container| container.state.as_ref());
    states
        .into_iter()
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

/// How often the pod's containers were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// The sum of a metric over the pods of a component and over its labels that hold `labels`.
pub async fn metric(
    client: &Client,
    component: Component,
    name: &str,
    labels: &str,
) -> Result<f64> {
    let mut sum = 0.0;
    for pod in pods(client, component).await? {
        let address = reach::address(client, &pod, component.metrics_port()).await?;
        let url = format!("http://{address}/metrics");
        let text = reqwest::get(url).await.context("ask for metrics")?;
        let text = text.text().await.context("read metrics")?;
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (metric, of) = series.split_once('{').unwrap_or((series, ""));
            (metric == name && of.contains(labels)).then(|| value.parse::<f64>().ok())?
        });
        sum += values.sum::<f64>();
    }
    Ok(sum)
}

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

/// One of Aviary's pods.
pub async fn get(client: &Client, name: &str) -> Result<Pod> {
    let api: Api<Pod> = Api::namespaced(client.clone(), product::NAMESPACE);
    let pod = api.get(name).await;
    pod.with_context(|| format!("get the pod {name}"))
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

/// The process `aviary <component>` in the pod's cgroup.
pub(crate) fn process_of(pod_uid: &str, component: &str) -> Result<Pid> {
    let processes = std::fs::read_dir("/proc").context("read /proc")?;
    let numbers =
        processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // The systemd driver would write the dashes of a uid as underscores; the box has cgroupfs.
    let found = numbers.into_iter().find(|number| {
        let read = |file: &str| std::fs::read(format!("/proc/{number}/{file}")).unwrap_or_default();
        let arguments = read("cmdline");
        let mut arguments = arguments.split(|byte| *byte == 0);
        String::from_utf8_lossy(&read("cgroup")).contains(pod_uid)
            && arguments
                .next()
                .is_some_and(|program| program.ends_with(b"aviary"))
            && arguments.next() == Some(component.as_bytes())
    });
    found
        .and_then(Pid::from_raw)
        .context("no such process on this machine")
}

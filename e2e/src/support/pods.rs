//! Aviary's own pods: their logs, their metrics and their processes.

use super::reach;
use crate::product;
use crate::support::eventually;
use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, ResourceExt as _};
use rustix::process::Pid;

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

/// The pods of a component, those on their way out included.
pub(super) async fn all_pods(client: &Client, component: Component) -> Result<Vec<Pod>> {
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

/// One of Aviary's pods.
pub async fn get(client: &Client, name: &str) -> Result<Pod> {
    let api: Api<Pod> = Api::namespaced(client.clone(), product::NAMESPACE);
    let pod = api.get(name).await;
    pod.with_context(|| format!("get the pod {name}"))
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

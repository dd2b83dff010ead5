//! What runs in the cluster from the start, and when the cluster is whole.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Api, Client};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::layout::{DNS_SERVICE_ADDRESS, Layout, NODE_NAME};
use super::shell;

const MANIFESTS: &str = include_str!("addons.yaml");

/// Apply the manifests.
pub(crate) async fn apply(layout: &Layout, kubectl: &Path) -> Result<()> {
    let mut command = Command::new(kubectl);
    command
        .args([
            "apply",
            "--server-side",
            "--force-conflicts",
            "--filename=-",
        ])
        .env("KUBECONFIG", layout.kubeconfig());
    shell::fed(command, MANIFESTS).await.map(drop)
}

/// Wait until the apiserver says that it is ready, etcd included.
pub(crate) async fn wait_for_api(
    client: &Client,
    deadline: Duration,
    alive: impl Fn() -> Result<()>,
) -> Result<()> {
    shell::wait_for(deadline, || async {
        alive()?;
        Ok(match api_is_ready(client).await {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("/readyz: {error:#}")),
        })
    })
    .await
}

/// Wait until pods can be run and names resolved. That takes every part of the
/// box: CoreDNS is made by the controller manager, placed by the scheduler, run
/// by kubelet and containerd, and ready only when it reaches the apiserver
/// through the service address of kube-proxy.
///
/// `stale` is the kubelet's heartbeat from before it was started: what the
/// apiserver says of node and pods counts from the next one on.
pub(crate) async fn wait_until_whole(
    client: &Client,
    stale: Option<&MicroTime>,
    deadline: Duration,
    alive: impl Fn() -> Result<()>,
) -> Result<()> {
    shell::wait_for(deadline, || async {
        alive()?;
        if stale.is_some() && heartbeat(client).await?.as_ref() == stale {
            return Ok(Err("the kubelet has not reported".to_owned()));
        }
        Ok(match missing(client).await {
            Ok(None) => Ok(()),
            Ok(Some(missing)) => Err(missing),
            Err(error) => Err(format!("{error:#}")),
        })
    })
    .await
}

/// What keeps the cluster from being whole.
pub(crate) async fn missing(client: &Client) -> Result<Option<String>> {
    let nodes = Api::<Node>::all(client.clone());
    if !nodes
        .get_opt(NODE_NAME)
        .await?
        .is_some_and(|node| is_ready(&node))
    {
        return Ok(Some("the node is not Ready".to_owned()));
    }
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    if accounts.get_opt("default").await?.is_none() {
        return Ok(Some("the default service account is not there".to_owned()));
    }
    let deployments = Api::<Deployment>::namespaced(client.clone(), "kube-system");
    let resolver = deployments.get_opt("coredns").await?;
    if !resolver.is_some_and(|deployment| is_complete(&deployment)) {
        return Ok(Some("CoreDNS is not available".to_owned()));
    }
    if !resolver_answers().await {
        return Ok(Some(format!("nothing answers at {DNS_SERVICE_ADDRESS}")));
    }
    Ok(None)
}

/// When the kubelet last said that it is alive.
pub(crate) async fn heartbeat(client: &Client) -> Result<Option<MicroTime>> {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let lease = leases
        .get_opt(NODE_NAME)
        .await
        .context("read the node's lease")?;
    Ok(lease.and_then(|lease| lease.spec?.renew_time))
}

/// Through kube-proxy's rules, as a pod would.
async fn resolver_answers() -> bool {
    let connect = TcpStream::connect((DNS_SERVICE_ADDRESS, 53));
    let connected = tokio::time::timeout(Duration::from_secs(1), connect).await;
    matches!(connected, Ok(Ok(_)))
}

pub(crate) async fn api_is_ready(client: &Client) -> Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    let ask = client.request_text(request);
    let answer = tokio::time::timeout(Duration::from_secs(3), ask).await;
    answer.context("no answer within 3 s")??;
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == Some(wanted)
            && status.ready_replicas == Some(wanted)
    })
}

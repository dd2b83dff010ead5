//! The way from this machine to a port of a pod. This machine is on the network
//! of the box's pods; into a cluster of the user's own a port is forwarded.

use crate::cluster::Target;
use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Where a port of the pod answers, such as `10.244.0.9:8123`.
pub(crate) async fn address(client: &Client, pod: &Pod, port: u16) -> Result<String> {
    match Target::from_environment() {
        Target::Box(_) => {
            let address = pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ip.as_ref());
            let address = address.with_context(|| format!("{} has no address", pod.name_any()))?;
            Ok(format!("{address}:{port}"))
        }
        Target::Own { .. } => forward(client, pod, port).await,
    }
}

/// Forwards a port of this machine for as long as the runtime of the caller lives.
async fn forward(client: &Client, pod: &Pod, port: u16) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.context("listen for a forwarded port")?;
    let address = listener
        .local_addr()
        .context("listen for a forwarded port")?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (pods, name) = (pods.clone(), name.clone());
            tokio::spawn(async move {
                // Whoever asked sees a broken connection, as from a pod that is gone.
                if let Err(error) = carry(connection, &pods, &name, port).await {
                    tracing::debug!("port {port} of {name}: {error:#}");
                }
            });
        }
    });
    Ok(address.to_string())
}

async fn carry(mut connection: TcpStream, pods: &Api<Pod>, name: &str, port: u16) -> Result<()> {
    let mut forwarder = pods.portforward(name, &[port]).await?;
    let mut stream = forwarder.take_stream(port).context("no stream")?;
    tokio::io::copy_bidirectional(&mut connection, &mut stream).await?;
    Ok(())
}

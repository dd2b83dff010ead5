//! The HTTP data plane: serves pipes as endpoints and takes rows, for every
//! workspace, from an in-memory index of what the operator has published.
//!
//! This crate does not know specs, conditions, or how ClickHouse gets its tables.
//! It reads `status.published` and the published Secrets, and talks to ClickHouse's
//! HTTP interface as the users named there. Isolation between tenants rests on
//! those users' grants, never on anything checked here.
//!
//! ```text
//! request -> route -> token -> rate -> endpoint: template -> ClickHouse -> client
//!                                      ingest:   body -> block -> ClickHouse -> receipt
//! ```

mod answer_body;
mod append;
mod args;
mod attempts;
mod browser;
mod budgets;
mod client_stream;
mod connections;
mod context;
mod endpoint;
mod error;
mod error_code;
mod event;
mod format;
mod head_timer;
mod index;
mod ingest;
mod limits;
mod memory;
mod metrics;
mod open_files;
mod origin;
pub mod rbac;
mod request_body;
mod request_id;
mod rights;
mod route;
mod server;
mod service;
mod token_value;
mod upstream;
mod watch;
mod workers;
mod workspace_key;

pub use args::GatewayArgs;
pub use budgets::BudgetError;
pub use error_code::ErrorCode;
pub use index::{Index, Kind, Object, ObjectKey, Published};
pub use metrics::Metrics;
pub use server::{Gateway, GatewayError};

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs the gateway until SIGTERM or SIGINT.
pub async fn run(args: GatewayArgs) -> Result<(), GatewayError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(GatewayError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(GatewayError::Signals)?;
    let listener = listen(args.listen)?;
    let metrics_listener = listen(args.metrics_listen)?;
    let client = kube::Client::try_default()
        .await
        .map_err(|error| GatewayError::Kubernetes(Box::new(error)))?;
    let gateway = Gateway::new(args.clone())?;
    let background = {
        let gateway = gateway.clone();
        let namespace = args.namespace.clone();
        tokio::spawn(async move {
            let listed = || {
                gateway.set_ready(true);
                tracing::info!("everything is listed: ready");
            };
            let feeding = watch::feed(client, &namespace, Arc::clone(gateway.index()), listed);
            futures::join!(feeding, gateway.serve_metrics(metrics_listener));
        })
    };
    tracing::info!(address = %args.listen, metrics = %args.metrics_listen, "gateway listens");
    let stop = CancellationToken::new();
    let stopping = async {
        tokio::select! {
            _ = terminate.recv() => {
                gateway.set_ready(false);
                tracing::info!("ending: no new connections after the drain delay");
                tokio::time::sleep(args.drain_delay.get()).await;
            }
            _ = interrupt.recv() => gateway.set_ready(false),
        }
        stop.cancel();
    };
    let stopping = async {
        stopping.await;
        Ok(())
    };
    futures::try_join!(stopping, gateway.serve(listener, stop.clone()))?;
    background.abort();
    tracing::info!("ended");
    Ok(())
}

/// Clients that may wait to be accepted. Beyond that the kernel drops what they send, and they try again
/// after a second: a burst of connections by one must not cost others that.
const BACKLOG: u32 = 1024;

fn listen(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    let listening = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listening().map_err(|source| GatewayError::Listen { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::try_join_all;
    use std::time::Duration;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    /// More than the usual backlog of 128, of which none is accepted.
    #[tokio::test]
    async fn a_burst_of_connections_is_not_dropped() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let burst = (0..500).map(|_| TcpStream::connect(address));
        let connected = timeout(Duration::from_secs(10), try_join_all(burst)).await;
        assert_eq!(connected.unwrap().unwrap().len(), 500);
    }
}

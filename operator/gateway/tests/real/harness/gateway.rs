//! Gateways, fed by hand instead of by Kubernetes: in the process of the tests, or in one of their own.

use super::log::Log;
use super::process::{Process, serve_at};
use super::workspace::{ALL, Workspace};
use aviary_gateway::{Gateway, GatewayArgs};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A gateway that serves in this process.
pub(crate) struct Served {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
}

impl Served {
    /// A counter, by its name and labels as they are exported; 0 if it is not there.
    pub(crate) fn counter(&self, series: &str) -> u64 {
        let text = self.gateway.metrics().encode();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(series));
        values
            .next()
            .map_or(0, |value| value.trim().parse().unwrap())
    }

    /// How many rows had this outcome, in all workspaces.
    pub(crate) fn rows(&self, outcome: &str) -> u64 {
        let text = self.gateway.metrics().encode();
        let outcome = format!("outcome=\"{outcome}\"");
        let series = text.lines().filter(|line| {
            line.starts_with("aviary_gateway_rows_total{") && line.contains(&outcome)
        });
        series
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

/// Starts a gateway on a free port.
pub(crate) async fn start_gateway(change: impl FnOnce(&mut GatewayArgs)) -> Served {
    serve(0, change).await
}

/// The same, and its access log.
pub(crate) async fn start_logging_gateway(change: impl FnOnce(&mut GatewayArgs)) -> (Served, Log) {
    let mut args = GatewayArgs {
        access_log: true,
        ..GatewayArgs::default()
    };
    change(&mut args);
    let log = Log::default();
    let gateway = Gateway::with_access_log(args, log.clone()).unwrap();
    (serve_with(gateway, 0).await, log)
}

async fn serve(port: u16, change: impl FnOnce(&mut GatewayArgs)) -> Served {
    let mut args = GatewayArgs::default();
    change(&mut args);
    serve_with(Gateway::new(args).unwrap(), port).await
}

async fn serve_with(gateway: Gateway, port: u16) -> Served {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = gateway.clone();
    let stopped = stop.clone();
    tokio::spawn(async move { serving.serve(listener, stopped).await.unwrap() });
    Served {
        gateway,
        address,
        stop,
    }
}

/// Tells a process that it is a gateway.
const PORT: &str = "AVIARY_TEST_GATEWAY_PORT";
const REPLICA: &str = "AVIARY_TEST_GATEWAY_REPLICA";
const MANIFESTS: &str = "AVIARY_TEST_GATEWAY_MANIFESTS";

/// Starts a gateway in a process of its own, for a workspace that ClickHouse has at this URL, to
/// everything in which `token` opens. Port 0 takes a free one.
pub(crate) fn start_gateway_process(port: u16, replica: &str, manifests: &str) -> Process {
    let variables = [
        (PORT, port.to_string()),
        (REPLICA, replica.to_owned()),
        (MANIFESTS, manifests.to_owned()),
    ];
    Process::start("gateway::gateway_of_the_other_tests", &variables)
}

/// The gateway, in the process that is one; in every other, that the harness is not one.
#[test]
fn gateway_of_the_other_tests() {
    let Ok(port) = std::env::var(PORT) else {
        assert!(std::env::var_os(REPLICA).is_none());
        return;
    };
    let replica = std::env::var(REPLICA).unwrap();
    let shop = Workspace::of(&std::env::var(MANIFESTS).unwrap(), &replica);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let served = runtime.block_on(serve(port.parse().unwrap(), |_| {}));
    shop.publish(served.gateway.index(), "token", ALL);
    serve_at(served.address);
    // Nobody reads the outcome of this test.
    std::process::exit(0);
}

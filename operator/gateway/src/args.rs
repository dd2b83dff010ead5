//! How the gateway is run.

use aviary_crds::{ByteSize, Duration};
use clap::Args;
use std::net::SocketAddr;

/// Serves endpoints and takes rows, for every workspace.
#[derive(Args, Clone, Debug)]
pub struct GatewayArgs {
    /// Where clients are served.
    #[arg(long, env = "AVIARY_GATEWAY_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Where /metrics, /healthz and /readyz are served.
    #[arg(
        long,
        env = "AVIARY_GATEWAY_METRICS_LISTEN",
        default_value = "0.0.0.0:9090"
    )]
    pub metrics_listen: SocketAddr,

    /// The operator's namespace, which holds the Secrets with users and token hashes.
    #[arg(long, env = "POD_NAMESPACE", default_value = "aviary-system")]
    pub namespace: String,

    /// How long a connection to ClickHouse may take to come up.
    #[arg(long, default_value = "2s")]
    pub connect_timeout: Duration,

    /// How long a client may take for the head of a request, and be idle between requests.
    #[arg(long, default_value = "75s")]
    pub header_timeout: Duration,

    /// How long a client may send nothing of a body it has begun.
    #[arg(long, default_value = "30s")]
    pub body_timeout: Duration,

    /// How long a client may read nothing of an answer; then its query ends.
    #[arg(long, default_value = "30s")]
    pub write_timeout: Duration,

    /// How long an INSERT may take.
    #[arg(long, default_value = "5m")]
    pub insert_timeout: Duration,

    /// Rows go to ClickHouse in blocks of about this size.
    #[arg(long, default_value = "16Mi")]
    pub insert_block: ByteSize,

    /// Memory for rows on their way to ClickHouse; uploads wait for each other beyond it.
    #[arg(long, default_value = "256Mi")]
    pub insert_memory: ByteSize,

    /// Memory for Parquet files, which are read as a whole; larger ones are refused.
    #[arg(long, default_value = "256Mi")]
    pub parquet_memory: ByteSize,

    /// After SIGTERM: how long to go on taking requests, until load balancers know.
    #[arg(long, default_value = "5s")]
    pub drain_delay: Duration,

    /// After that: how long requests in flight may take to end.
    #[arg(long, default_value = "30s")]
    pub drain_timeout: Duration,
}

impl Default for GatewayArgs {
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            gateway: GatewayArgs,
        }
        <Defaults as clap::Parser>::parse_from(["gateway"]).gateway
    }
}

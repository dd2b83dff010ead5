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

    /// How long a client may take for the head of a request, from its first byte to its last.
    #[arg(long, default_value = "10s")]
    pub header_timeout: Duration,

    /// How long a connection may be idle: before its first request, and between two.
    #[arg(long, default_value = "75s")]
    pub idle_timeout: Duration,

    /// How long a client may send nothing of a body it has begun.
    #[arg(long, default_value = "30s")]
    pub body_timeout: Duration,

    /// How long a client may read nothing of an answer; then its query ends.
    #[arg(long, default_value = "30s")]
    pub write_timeout: Duration,

    /// How long an INSERT may take.
    #[arg(long, default_value = "5m")]
    pub insert_timeout: Duration,

    /// How long to repeat an INSERT of which ClickHouse did not say whether its rows are stored.
    #[arg(long, default_value = "30s")]
    pub insert_repeat: Duration,

    /// Rows go to ClickHouse in blocks of about this size, or of an eighth of the memory for rows.
    #[arg(long, default_value = "16Mi")]
    pub insert_block: ByteSize,

    /// The memory that the process may use, of which the parts below are taken.
    #[arg(long, env = "AVIARY_GATEWAY_MEMORY", default_value = "1Gi")]
    pub memory: ByteSize,

    /// Memory for rows on their way to ClickHouse [default: a quarter of --memory]. A workspace may
    /// hold as much of it as it leaves free; beyond that its uploads are slowed down and new ones refused.
    #[arg(long)]
    pub insert_memory: Option<ByteSize>,

    /// Memory for Parquet files, which are read as a whole [default: a quarter of --memory]. Files
    /// of more than half of it are refused.
    #[arg(long)]
    pub parquet_memory: Option<ByteSize>,

    /// Memory for answers and forms of more than 16 KiB [default: a sixteenth of --memory].
    #[arg(long)]
    pub answer_memory: Option<ByteSize>,

    /// Connections of clients at once; more are answered 503 and closed [default: one for each
    /// 256 KiB of --memory].
    #[arg(long)]
    pub connections: Option<u32>,

    /// Connections at once from one address, or one IPv6 network of 64 bits [default: half of
    /// --connections]. Behind a proxy all clients have its address.
    #[arg(long)]
    pub connections_per_address: Option<u32>,

    /// Requests of a workspace that send rows at once; more are answered 429.
    #[arg(long, default_value = "512")]
    pub uploads_per_workspace: u32,

    /// Unknown tokens per second from one address before it is answered 429, with bursts of ten
    /// times as many; tokens that have worked from there go on working. 0 for any number.
    #[arg(long, default_value = "10")]
    pub failed_logins_per_address: u32,

    /// Writes a line of JSON on standard output for every request that ends.
    #[arg(long)]
    pub access_log: bool,

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

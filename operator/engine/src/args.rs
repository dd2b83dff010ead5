//! The engine as a command: its arguments, and a run until a signal.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{EngineConfig, Macro, QUERIES_AT_ONCE, ZooKeeperNode};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::in_process;

/// Arguments of `aviary engine`.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// Directory for everything the engine keeps.
    #[arg(long, env = "AVIARY_ENGINE_DATA", default_value = "./aviary-engine")]
    pub data_path: PathBuf,

    /// Address to serve ClickHouse's HTTP interface on; can be given several times.
    #[arg(
        long,
        env = "AVIARY_ENGINE_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:8123"
    )]
    pub listen: Vec<SocketAddr>,

    /// libchdb.so to load; else AVIARY_LIBCHDB, else the copy in the cache.
    #[arg(long)]
    pub library: Option<PathBuf>,

    /// File with the password of the user `default`; else AVIARY_ENGINE_PASSWORD, else none is asked for.
    #[arg(long, env = "AVIARY_ENGINE_PASSWORD_FILE")]
    pub password_file: Option<PathBuf>,

    /// Queries that may run at once.
    #[arg(long, env = "AVIARY_ENGINE_MAX_QUERIES", default_value_t = QUERIES_AT_ONCE)]
    pub max_concurrent_queries: usize,

    /// Seconds that a change of users or a stop waits for running queries.
    #[arg(long, default_value_t = 10)]
    pub drain_seconds: u64,

    /// A macro of this replica, as NAME=VALUE; can be given several times. Replicated tables need `shard` and `replica`.
    #[arg(long = "macro", value_name = "NAME=VALUE")]
    pub macros: Vec<Macro>,

    /// A ZooKeeper or Keeper, as HOST:PORT; can be given several times, for the members of one ensemble.
    #[arg(long, value_name = "HOST:PORT")]
    pub zookeeper: Vec<ZooKeeperNode>,

    /// For benchmarks: do not serve, but run SELECT 1 in this process for so long, and print the
    /// median microseconds.
    #[arg(long, hide = true, value_name = "MILLISECONDS")]
    pub time_in_process: Option<u64>,
}

/// Runs an engine until SIGTERM or SIGINT.
#[expect(clippy::print_stdout, reason = "a measurement is printed")]
pub async fn run(args: EngineArgs) -> Result<(), EngineError> {
    let default_password = password(args.password_file)?;
    let deadline = Duration::from_secs(args.drain_seconds);
    let config = EngineConfig {
        data_path: args.data_path,
        listen: args.listen,
        library: args.library,
        default_password,
        max_concurrent_queries: args.max_concurrent_queries,
        drain_deadline: deadline,
        shutdown_deadline: deadline,
        macros: args.macros,
        zookeeper: args.zookeeper,
    };
    if let Some(milliseconds) = args.time_in_process {
        let median = in_process::median(config, Duration::from_millis(milliseconds)).await?;
        println!("{}", median.as_micros());
        return Ok(());
    }
    let stopped = stop_signal()?;
    let engine = Engine::start(config).await?;
    stopped.await;
    tracing::info!("stopping");
    engine.shutdown().await;
    Ok(())
}

/// The signals are caught before the engine starts, so that an early one is not lost.
fn stop_signal() -> Result<impl Future<Output = ()>, EngineError> {
    let catch = |kind| {
        signal(kind).map_err(|source| EngineError::Io {
            action: "catch signals in",
            path: "this process".into(),
            source,
        })
    };
    let mut terminate = catch(SignalKind::terminate())?;
    let mut interrupt = catch(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn password(file: Option<PathBuf>) -> Result<Option<SecretString>, EngineError> {
    let text = match file {
        Some(path) => Some(
            std::fs::read_to_string(&path)
                .map_err(|source| EngineError::PasswordFile { path, source })?,
        ),
        None => std::env::var("AVIARY_ENGINE_PASSWORD").ok(),
    };
    Ok(text
        .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        .filter(|text| !text.is_empty())
        .map(SecretString::from))
}

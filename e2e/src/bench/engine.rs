//! What the engine adds to ClickHouse: `SELECT 1` over HTTP beside the same library in process.
//!
//! The program is that of the engine's pod, run twice on this machine with nothing to do but this:
//! once as a server on loopback, and once a round for the library alone, with a connection set up
//! in the same way.

use super::report::{Figure, Report};
use super::stage::Stage;
use super::statistics::median;
use super::wrk::{Load, Series};
use crate::cluster::{Progress, shell};
use crate::support::eventually;
use anyhow::{Context as _, Result};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

/// Of the time in process: half of what HTTP added when the engine shared its caller's runtime, 1.7.
const RATIO: f64 = 1.35;

/// Compares in rounds that take turns.
pub(crate) async fn measure(stage: &Stage, progress: &Progress) -> Result<Report> {
    let program = stage.engine_program().await?;
    let server = Server::start(&program).await?;
    // As the operator asks, who wants exceptions in the status.
    let url = format!("http://{}/?wait_end_of_query=1", server.address);
    let mut over_http = Series::new(Load::post(url, &[], "SELECT 1")?);
    let mut in_process = Vec::new();
    let what = format!(
        "Asking the engine over HTTP and its library in process, {ROUNDS} rounds of {} s",
        ROUND.as_secs()
    );
    progress
        .step(&what, async {
            for round in 0..ROUNDS {
                for is_http in [round % 2 == 0, round % 2 != 0] {
                    if is_http {
                        over_http.add_round(1, ROUND).await?;
                    } else {
                        in_process.push(time_in_process(&program).await?);
                    }
                }
            }
            Ok(())
        })
        .await?;
    let (over_http, in_process) = (over_http.median(|round| round.p50), median(&in_process));
    let title = format!("Engine: SELECT 1 over one connection, medians of {ROUNDS} rounds");
    let ratio = Figure::new("p50, HTTP / in process", over_http / in_process, "");
    let note = format!("{over_http:.2} ms and {in_process:.2} ms");
    Ok(Report::new(title).with(ratio.at_most(RATIO).note(note)))
}

/// An engine on loopback, killed when dropped.
struct Server {
    address: SocketAddr,
    _process: Child,
    _data: TempDir,
}

impl Server {
    async fn start(program: &Path) -> Result<Self> {
        let data = tempfile::tempdir().context("make a folder for the engine's data")?;
        let free = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let address = free.local_addr().context("find a free port")?;
        drop(free);
        let process = engine(program, data.path())
            .arg(format!("--listen={address}"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start the engine")?;
        let ping = format!("http://{address}/ping");
        eventually("the engine on loopback answers", async || {
            let answer = reqwest::get(&ping).await;
            Ok(answer.map(drop).map_err(|error| error.to_string()))
        })
        .await?;
        Ok(Self {
            address,
            _process: process,
            _data: data,
        })
    }
}

/// Milliseconds that half of the queries of a round take at most.
async fn time_in_process(program: &Path) -> Result<f64> {
    let data = tempfile::tempdir().context("make a folder for the library's data")?;
    let mut command = engine(program, data.path());
    command.arg(format!("--time-in-process={}", ROUND.as_millis()));
    let output = shell::output(command).await?;
    // What else the program says, it says before.
    let microseconds = output
        .lines()
        .last()
        .and_then(|line| line.parse::<f64>().ok());
    let microseconds = microseconds.with_context(|| format!("no time in {output:?}"))?;
    Ok(microseconds / 1000.0)
}

fn engine(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    let data_path = PathBuf::from(data).join("engine");
    command
        .arg("engine")
        .arg("--data-path")
        .arg(data_path)
        .env_remove("AVIARY_ENGINE_PASSWORD");
    command
}

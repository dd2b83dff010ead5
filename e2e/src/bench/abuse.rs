//! What strangers and a careless tenant can do to a gateway with the chart's own memory limit: its peak of
//! memory beside the limit, whether it had to restart, and what another tenant notices of it.

use super::report::{Figure, Report};
use super::stage::{GatewayPod, Stage};
use super::statistics::quantile;
use crate::cluster::Progress;
use crate::support::{self, Scene};
use anyhow::{Context as _, Result, ensure};
use futures::future::{join_all, try_join_all};
use reqwest::Method;
use rustix::process::setpriority_process;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

/// How long each attack goes on.
const ATTACK: Duration = Duration::from_secs(10);
/// Of the memory limit, the rest is for what the process does not count.
const MEMORY: f64 = 0.9;
/// How many times its usual p99 the other tenant may see.
const SLOWER: f64 = 3.0;
/// Connections of the other tenant.
const CONNECTIONS: usize = 8;
/// Before an attacker tries again that was cut off: with 500 of them, a flood of connections would be another
/// attack than what they send.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two bytes of an upload that trickles.
const TRICKLE: Duration = Duration::from_millis(200);

const OBJECTS: &str = "
apiVersion: aviary.dev/v1alpha1
kind: Workspace
metadata: {name: WORKSPACE}
spec:
  clusterRef: {name: shared, namespace: clickhouse}
  deletionPolicy: Delete
  limits: {requestsPerSecond: 1000000}
---
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {name: WORKSPACE-events}
spec:
  workspace: WORKSPACE
  name: events
  deletionPolicy: Delete
  columns: [{name: id, type: UInt64}, {name: text, type: Nullable(String)}]
";

#[derive(Clone, Copy, Debug)]
enum Attack {
    CompressedUploads,
    EmptyRows,
    UnfinishedHeads,
    TricklingUploads,
    WrongTokens,
}

impl Attack {
    const ALL: [Self; 5] = [
        Self::CompressedUploads,
        Self::EmptyRows,
        Self::UnfinishedHeads,
        Self::TricklingUploads,
        Self::WrongTokens,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CompressedUploads => "compressed uploads",
            Self::EmptyRows => "empty rows",
            Self::UnfinishedHeads => "unfinished heads",
            Self::TricklingUploads => "trickling uploads",
            Self::WrongTokens => "wrong tokens",
        }
    }

    fn clients(self) -> usize {
        match self {
            Self::CompressedUploads => 60,
            Self::EmptyRows => 8,
            Self::UnfinishedHeads => 500,
            Self::TricklingUploads => 96,
            Self::WrongTokens => 16,
        }
    }
}

/// Who attack, on a thread that runs when nobody else wants to: they have the same cores as the gateway. The other
/// tenant's client is in this process, too, and may wait for them.
struct Attackers {
    arms: Arc<Arms>,
    runtime: Runtime,
}

impl Attackers {
    const LOWEST_PRIORITY: i32 = 19;

    fn new(arms: Arms) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(|| {
                if let Err(error) = setpriority_process(None, Self::LOWEST_PRIORITY) {
                    eprintln!("attackers run like everybody else: {error}");
                }
            })
            .build()
            .context("make a runtime for the attackers")?;
        Ok(Self {
            arms: Arc::new(arms),
            runtime,
        })
    }

    /// One kind of attack, for as long as one takes.
    async fn attack(&self, attack: Attack) -> Result<()> {
        let arms = Arc::clone(&self.arms);
        let attacking = self.runtime.spawn(async move {
            let clients = (0..attack.clients()).map(|number| arms.repeat(attack, number));
            // They do not end by themselves.
            let _ = timeout(ATTACK, join_all(clients)).await;
        });
        attacking.await.context("attack the gateway")
    }

    /// Ends what is left of them, without waiting on this thread, which may not wait.
    fn end(self) {
        self.runtime.shutdown_background();
    }
}

/// Where the attacks go, and what they send, made once.
struct Arms {
    address: String,
    token: String,
    newlines: Vec<u8>,
    empty_rows: Vec<u8>,
}

/// Runs the attacks in a namespace of their own.
pub(crate) async fn measure(stage: &Stage, progress: &Progress) -> Result<Report> {
    support::run_alone("bench-abuse", async move |scene: Scene| {
        attack_all(stage, progress, &scene).await
    })
    .await
}

async fn attack_all(stage: &Stage, progress: &Progress, scene: &Scene) -> Result<Report> {
    let mut tokens = Vec::new();
    for workspace in ["attacker", "other"] {
        scene
            .apply(&OBJECTS.replace("WORKSPACE", workspace))
            .await?;
        let token = scene.token(workspace, workspace).await?;
        scene
            .ready("DataSource", &format!("{workspace}-events"))
            .await?;
        scene.gateway.takes("events", &token).await?;
        tokens.push(token);
    }
    let [attacker, other] = &tokens[..] else {
        anyhow::bail!("two workspaces have two tokens");
    };
    let gateway = stage.gateway_pod().await?;
    let attackers = Attackers::new(Arms {
        address: gateway.address.clone(),
        token: attacker.clone(),
        newlines: newlines()?,
        empty_rows: empty_rows()?,
    })?;
    let measured = measure_under(stage, progress, scene, other, &gateway, &attackers).await;
    attackers.end();
    measured
}

async fn measure_under(
    stage: &Stage,
    progress: &Progress,
    scene: &Scene,
    other: &str,
    gateway: &GatewayPod,
    attackers: &Attackers,
) -> Result<Report> {
    gateway.process.forget_peak()?;
    let what = format!("Sending events alone, {} s", ATTACK.as_secs());
    let alone = progress.step(&what, p99_of_events(scene, other)).await?;
    let mut slower = Vec::new();
    for attack in Attack::ALL {
        let what = format!("Sending events beside {}", attack.name());
        let before = gateway.process.cpu()?;
        let attacked = progress.step(&what, async {
            let attacking = attackers.attack(attack);
            tokio::try_join!(p99_of_events(scene, other), attacking)
        });
        let (p99, ()) = attacked.await?;
        let used = gateway.process.cpu()? - before;
        slower.push((attack, p99 / alone, used.total() / ATTACK.as_secs_f64()));
    }
    let peak = gateway.process.peak_memory()?;
    let after = stage.gateway_pod().await?;
    let limit = gateway.memory_limit;
    let mut report = Report::new("A gateway under attack, and another tenant's events meanwhile")
        .with(Figure::new("memory, peak / limit", peak / limit, "").at_most(MEMORY))
        .with(Figure::new("memory, peak", peak, "MiB"))
        .with(Figure::new("memory limit", limit, "MiB"))
        .with(
            Figure::new("restarts", f64::from(after.restarts - gateway.restarts), "").at_most(0.0),
        )
        .with(Figure::new("p99 of events, alone", alone, "ms"));
    for (attack, ratio, cores) in slower {
        let name = format!("p99 beside {} / alone", attack.name());
        let figure = Figure::new(name, ratio, "").at_most(SLOWER);
        report = report.with(figure.note(format!("the gateway used {cores:.2} cores")));
    }
    Ok(report)
}

/// Milliseconds that 99 of 100 events of the other tenant take at most; every one has to be stored.
async fn p99_of_events(scene: &Scene, token: &str) -> Result<f64> {
    let senders = (0..CONNECTIONS).map(|_| async {
        let mut samples = Vec::new();
        let end = Instant::now() + ATTACK;
        while Instant::now() < end {
            let path = "/v0/events?name=events&wait=true";
            let request = scene.gateway.request(Method::POST, path, token);
            let started = Instant::now();
            let answer = request
                .body("{\"id\": 1, \"text\": \"an event\"}\n")
                .send()
                .await;
            let status = answer.context("send an event")?.status();
            ensure!(
                status.is_success(),
                "the other tenant's event was answered {status}"
            );
            samples.push(started.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok(samples)
    });
    let samples = try_join_all(senders).await?.concat();
    Ok(quantile(&samples, 0.99))
}

impl Arms {
    /// One attacker, who begins anew when he is refused or cut off.
    async fn repeat(&self, attack: Attack, number: usize) {
        for round in 0_usize.. {
            // What becomes of an attack is the gateway's to say, and seen in the figures.
            let _ = self.once(attack, number, round).await;
            if !matches!(attack, Attack::EmptyRows | Attack::WrongTokens) {
                sleep(PAUSE).await;
            }
        }
    }

    async fn once(&self, attack: Attack, number: usize, round: usize) -> Result<()> {
        let mut client = TcpStream::connect((self.address.as_str(), 8080)).await?;
        let token = &self.token;
        let upload = |headers: &str| {
            format!(
                "POST /v0/events?name=events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
            )
        };
        match attack {
            Attack::CompressedUploads => {
                let head = upload("Content-Encoding: zstd\r\nContent-Length: 1000000\r\n");
                client.write_all(head.as_bytes()).await?;
                client.write_all(&self.newlines).await?;
            }
            Attack::EmptyRows => {
                let rows = &self.empty_rows;
                let length = format!(
                    "Content-Encoding: gzip\r\nContent-Length: {}\r\n",
                    rows.len()
                );
                client.write_all(upload(&length).as_bytes()).await?;
                client.write_all(rows).await?;
            }
            Attack::UnfinishedHeads => {
                let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(120 * 1024));
                client.write_all(head.as_bytes()).await?;
            }
            Attack::TricklingUploads => {
                let head = upload("Content-Length: 100000000\r\n");
                client.write_all(head.as_bytes()).await?;
                client.write_all("x".repeat(100_000).as_bytes()).await?;
                loop {
                    client.write_all(b"x").await?;
                    sleep(TRICKLE).await;
                }
            }
            Attack::WrongTokens => {
                let head = format!(
                    "GET /v0/pipes HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer wrong-{number}-{round}\r\nConnection: close\r\n\r\n"
                );
                client.write_all(head.as_bytes()).await?;
            }
        }
        // Until it is answered or cut off.
        client.read(&mut [0; 1024]).await.map(drop)?;
        Ok(())
    }
}

/// A few hundred bytes of zstd that are 8 MiB of newlines, with a window for all of them, and no end.
fn newlines() -> Result<Vec<u8>> {
    let mut packing = zstd::Encoder::new(Vec::new(), 1)?;
    packing.window_log(23)?;
    packing.write_all(&vec![b'\n'; 8 << 20])?;
    packing.flush()?;
    Ok(std::mem::take(packing.get_mut()))
}

/// Some kilobytes of gzip that are ten million bytes of empty objects.
fn empty_rows() -> Result<Vec<u8>> {
    let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packing.write_all("{}\n".repeat(3_333_333).as_bytes())?;
    Ok(packing.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_small() {
        assert!(newlines().unwrap().len() < 10_000);
        assert!(empty_rows().unwrap().len() < 100_000);
    }
}

//! What the gateway takes from ClickHouse's own rate, and adds to its latency, with nginx beside it.

use super::nginx::Nginx;
use super::processes::{Cpu, Process};
use super::report::{Figure, Report};
use super::stage::{GatewayPod, Stage};
use super::wrk::{Load, Round, Series};
use crate::cluster::Progress;
use crate::product;
use crate::support::{self, Scene};
use anyhow::{Context as _, Result, ensure};
use aviary_crds::names::{PUBLISHED_SECRET_KEY, published_secret};
use aviary_crds::published::WorkspaceAccess;
use kube::ResourceExt as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;

/// Each round makes its connections anew, and how they are spread over workers and cores changes what it costs.
/// Of few rounds, neither that nor even the median p99 is steady.
const ROUNDS: usize = 30;
const ROUND: Duration = Duration::from_secs(2);
/// Kept open, each with one request under way.
const CONNECTIONS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(1);

/// nginx keeps this much of the direct rate; the gateway has to, too.
const RATE: f64 = 0.85;
/// nginx adds this many milliseconds to p99; the gateway may, too.
const ADDED_P99: f64 = 1.5;

/// No limit of the workspace may end the load.
const WORKSPACE: &str = "
apiVersion: aviary.dev/v1alpha1
kind: Workspace
metadata: {name: bench}
spec:
  clusterRef: {name: shared, namespace: clickhouse}
  deletionPolicy: Delete
  limits: {requestsPerSecond: 1000000, concurrentQueries: 1000}
---
apiVersion: aviary.dev/v1alpha1
kind: Pipe
metadata: {name: one}
spec:
  workspace: bench
  nodes:
    - name: answer
      sql: 'SELECT {{ Int32(n, 1) }} AS n, toString(n) AS text'
  endpoint: {node: answer}
";
/// The same question, as ClickHouse itself takes it.
const SQL: &str = "SELECT {n:Int32} AS n, toString(n) AS text FORMAT JSON";

/// One of the three ways to the answer, and its rounds so far.
struct Way {
    series: Series,
    cpu: Cpu,
}

/// Runs the rounds in a namespace of their own.
pub(crate) async fn measure(stage: &Stage, progress: &Progress) -> Result<Report> {
    support::run_alone("bench-throughput", async move |scene: Scene| {
        let gateway = stage.gateway_pod().await?;
        let nginx = Nginx::start(stage, &gateway).await?;
        let measured = compare(stage, progress, &scene, &nginx, &gateway).await;
        nginx.stop().await?;
        measured
    })
    .await
}

async fn compare(
    stage: &Stage,
    progress: &Progress,
    scene: &Scene,
    nginx: &Nginx,
    gateway: &GatewayPod,
) -> Result<Report> {
    scene.apply(WORKSPACE).await?;
    let token = scene.token("bench", "bench").await?;
    scene.ready("Pipe", "one").await?;
    let bases = [nginx.base(), &gateway.base()];
    let mut ways = ways(stage, scene, bases, &token).await?;
    let gateway = gateway.process;

    for way in &ways {
        way.series.load.round(CONNECTIONS, WARM_UP).await?;
    }
    let what = format!(
        "Asking directly, through nginx and through the gateway, {ROUNDS} rounds of {} s",
        ROUND.as_secs()
    );
    progress
        .step(&what, async {
            for round in 0..ROUNDS {
                take_turns(&mut ways, round, nginx, gateway).await?;
            }
            Ok(())
        })
        .await?;
    let [direct, proxied, published] = ways;
    let report = rates(&direct, &proxied, &published);
    let report = latencies(report, &direct, &proxied, &published);
    costs(report, &proxied, &published, nginx, gateway)
}

/// One round each, every time beginning with another, so that none always comes first.
async fn take_turns(
    ways: &mut [Way; 3],
    round: usize,
    nginx: &Nginx,
    gateway: Process,
) -> Result<()> {
    for turn in 0..ways.len() {
        let index = (turn + round) % ways.len();
        // What answered: the engine itself, nginx, the gateway.
        let used = || match index {
            0 => Ok(Cpu::default()),
            1 => nginx.cpu(),
            _ => gateway.cpu(),
        };
        let before = used()?;
        let way = &mut ways[index];
        way.series.add_round(CONNECTIONS, ROUND).await?;
        way.cpu = way.cpu + (used()? - before);
    }
    Ok(())
}

/// The engine, nginx and the gateway, each seen to give the same answer. Directly the question is asked as the
/// workspace's reader, as the gateway does.
async fn ways(
    stage: &Stage,
    scene: &Scene,
    [nginx, gateway]: [&str; 2],
    token: &str,
) -> Result<[Way; 3]> {
    let workspace = scene.ready("Workspace", "bench").await?;
    let secret = published_secret(&workspace.uid().unwrap_or_default());
    let access = stage
        .secret(product::NAMESPACE, &secret, PUBLISHED_SECRET_KEY)
        .await?;
    let access: WorkspaceAccess =
        serde_json::from_str(&access).context("read what the gateways are told")?;
    let database = scene.database("bench");
    let reader = [
        ("X-ClickHouse-User", access.reader.name.as_str()),
        ("X-ClickHouse-Key", access.reader.password.expose_secret()),
        ("X-ClickHouse-Database", &database),
    ];
    let bearer = format!("Bearer {token}");
    let question = |base: String| {
        Url::parse_with_params(&base, [("query", SQL), ("param_n", "7")])
            .with_context(|| format!("{base} is no address"))
            .map(String::from)
    };
    let published = format!("{gateway}/v0/pipes/one.json?n=7");
    Ok([
        Way::new(question(format!("http://{}/", stage.engine))?, &reader).await?,
        Way::new(question(format!("{nginx}/"))?, &reader).await?,
        Way::new(published, &[("Authorization", &bearer)]).await?,
    ])
}

impl Way {
    async fn new(url: String, headers: &[(&str, &str)]) -> Result<Self> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().context("a header's name")?;
            map.insert(name, HeaderValue::from_str(value).context("a header")?);
        }
        let answer = reqwest::Client::new().get(&url).headers(map).send().await;
        let answer = answer.with_context(|| format!("ask {url}"))?.text().await;
        let answer = answer.with_context(|| format!("read the answer of {url}"))?;
        let rows = serde_json::from_str::<Value>(&answer).map(|body| body["data"].clone());
        let expected = json!([{"n": 7, "text": "7"}]);
        ensure!(
            rows.is_ok_and(|rows| rows == expected),
            "{url} answered {answer}"
        );
        Ok(Self {
            series: Series::new(Load::new(url, headers)?),
            cpu: Cpu::default(),
        })
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        self.series.median(of)
    }

    /// Seconds of CPU for 1,000 requests: all, in the program, and in the kernel.
    fn cpu_per_thousand(&self) -> [f64; 3] {
        let thousands = self.series.requests() / 1_000.0;
        [self.cpu.total(), self.cpu.user, self.cpu.system].map(|cpu| cpu / thousands)
    }
}

fn rates(direct: &Way, nginx: &Way, gateway: &Way) -> Report {
    let rate = |way: &Way| way.median(|round| round.rate);
    let title = format!(
        "Endpoint with a one-row answer: {CONNECTIONS} connections, medians of {ROUNDS} rounds"
    );
    Report::new(title)
        .with(
            Figure::new("rate, gateway / direct", rate(gateway) / rate(direct), "").at_least(RATE),
        )
        .with(Figure::new(
            "rate, nginx / direct",
            rate(nginx) / rate(direct),
            "",
        ))
        .with(Figure::new("rate, direct", rate(direct), "/s"))
        .with(Figure::new("rate, nginx", rate(nginx), "/s"))
        .with(Figure::new("rate, gateway", rate(gateway), "/s"))
}

fn latencies(mut report: Report, direct: &Way, nginx: &Way, gateway: &Way) -> Report {
    let p50 = |way: &Way| way.median(|round| round.p50);
    let p99 = |way: &Way| way.median(|round| round.p99);
    for (name, way) in [("direct", direct), ("nginx", nginx), ("gateway", gateway)] {
        report = report
            .with(Figure::new(format!("p50, {name}"), p50(way), "ms"))
            .with(Figure::new(format!("p99, {name}"), p99(way), "ms"));
    }
    report
        .with(
            Figure::new("p99 added by the gateway", p99(gateway) - p99(direct), "ms")
                .at_most(ADDED_P99)
                .note("docs/guides/benchmarks.md says how steady it is"),
        )
        .with(Figure::new(
            "p99 added by nginx",
            p99(nginx) - p99(direct),
            "ms",
        ))
}

fn costs(
    report: Report,
    proxied: &Way,
    published: &Way,
    nginx: &Nginx,
    gateway: Process,
) -> Result<Report> {
    let [limit, limit_user, limit_system] = proxied.cpu_per_thousand();
    let [used, user, system] = published.cpu_per_thousand();
    Ok(report
        .with(
            Figure::new("CPU per request, gateway / nginx", used / limit, "")
                .at_most(1.0)
                .note("docs/guides/benchmarks.md says what the profile shows"),
        )
        .with(
            Figure::new("CPU per 1,000 requests, gateway", used, "s").note(format!(
                "{user:.3} s of its own, {system:.3} s in the kernel"
            )),
        )
        .with(
            Figure::new("CPU per 1,000 requests, nginx", limit, "s").note(format!(
                "{limit_user:.3} s of its own, {limit_system:.3} s in the kernel"
            )),
        )
        .with(Figure::new("memory, gateway", gateway.memory()?, "MiB"))
        .with(Figure::new("memory, nginx", nginx.memory()?, "MiB")))
}

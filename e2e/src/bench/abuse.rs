//! What strangers and a careless tenant can do to a gateway with the chart's own memory limit: its peak of
//! memory beside the limit, whether it had to restart, and what another tenant notices of it.

use super::attack::{self, Attack, Kind};
use super::report::{Figure, Report};
use super::stage::Stage;
use super::wrk::Load;
use crate::cluster::Progress;
use crate::support::{self, Scene, eventually};
use anyhow::Result;
use clap::ValueEnum as _;

/// Of the memory limit, the rest is for what the process does not count.
const MEMORY: f64 = 0.9;
/// How many times its usual p99 the other tenant may see.
const SLOWER: f64 = 3.0;
/// Connections of the other tenant.
const CONNECTIONS: usize = 8;

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
    measure_under(stage, progress, scene, [attacker, other]).await
}

async fn measure_under(
    stage: &Stage,
    progress: &Progress,
    scene: &Scene,
    [attacker, other]: [&str; 2],
) -> Result<Report> {
    let gateway = stage.gateway_pod().await?;
    let events = events_of(stage, other)?;
    gateway.process.forget_peak()?;
    let what = format!("Sending events alone, {} s", attack::DURATION.as_secs());
    let alone = progress.step(&what, p99(&events)).await?;
    let mut slower = Vec::new();
    for kind in Kind::value_variants() {
        let what = format!("Waiting until nothing is merged, before {}", kind.name());
        progress.step(&what, no_merges(scene)).await?;
        let what = format!("Sending events beside {}", kind.name());
        let attack = Attack::new(*kind, &gateway.address, attacker);
        let before = gateway.process.cpu()?;
        let attacked = progress.step(&what, async {
            tokio::try_join!(p99(&events), attack.by_others())
        });
        let (p99, ()) = attacked.await?;
        let used = gateway.process.cpu()? - before;
        let cores = used.total() / attack::DURATION.as_secs_f64();
        slower.push((kind.name(), p99 / alone, cores));
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
        let name = format!("p99 beside {attack} / alone");
        let figure = Figure::new(name, ratio, "").at_most(SLOWER);
        report = report.with(figure.note(format!("the gateway used {cores:.2} cores")));
    }
    Ok(report)
}

/// Waits until ClickHouse is done with what an attack brought it.
async fn no_merges(scene: &Scene) -> Result<()> {
    eventually("no part is merged", async || {
        let merges = scene.clickhouse.number("SELECT count() FROM system.merges");
        let merges = merges.await?;
        let none = (merges == 0).then_some(());
        Ok(none.ok_or(format!("{merges} merges")))
    })
    .await
}

/// What the other tenant sends over and over. An event that is not stored is an error of the measurement.
fn events_of(stage: &Stage, token: &str) -> Result<Load> {
    let url = format!("{}/v0/events?name=events&wait=true", stage.gateway.base());
    let bearer = format!("Bearer {token}");
    let event = "{\"id\": 1, \"text\": \"an event\"}\n";
    Load::post(url, &[("Authorization", &bearer)], event)
}

/// Milliseconds that 99 of 100 events of the other tenant take at most.
async fn p99(events: &Load) -> Result<f64> {
    Ok(events.round(CONNECTIONS, attack::DURATION).await?.p99)
}

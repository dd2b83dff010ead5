//! How long 500 objects take from `kubectl apply` to ready, and what the operator needs for them.

use super::floor::Floor;
use super::manifests::{apply, file_of};
use super::report::{Figure, Report};
use super::stage::Stage;
use super::tenants::{OBJECTS, Tenants};
use crate::cluster::Progress;
use crate::support::pods::{self, Component};
use crate::support::{AuditMark, Request};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// Times the floor.
const TIME: f64 = 2.0;
/// MiB of memory of the operator.
const MEMORY: f64 = 64.0;
/// Requests to the apiserver per object.
const REQUESTS: f64 = 2.0;
/// When 500 objects count as never ready.
const DEADLINE: Duration = Duration::from_mins(3);

const STATEMENTS: &str = "aviary_clickhouse_statements_total";

/// What was seen while the objects became ready.
pub(crate) struct Arrival {
    seconds: f64,
    apply_seconds: f64,
    peak_memory: f64,
    cpu_seconds: f64,
    requests: usize,
    requests_by_kind: String,
    statements: f64,
}

/// Applies all manifests and waits until all are ready.
pub(crate) async fn measure(
    stage: &Stage,
    progress: &Progress,
    tenants: &Tenants,
) -> Result<Arrival> {
    let file = file_of(tenants)?;
    let operator = stage.process(Component::Operator).await?;
    let statements_before = statements(stage).await?;
    let cpu_before = operator.cpu()?.total();
    operator.forget_peak()?;
    let mark = AuditMark::now()?;
    let what = format!("Applying {OBJECTS} objects and waiting until all are ready");
    let (seconds, apply_seconds) = progress
        .step(&what, apply_until_ready(stage, tenants, &file))
        .await?;
    let requests = mark.requests_of(Component::Operator)?;
    let statements = statements(stage).await? - statements_before;
    ensure!(
        statements > 0.0,
        "the operator's metrics have no {STATEMENTS}"
    );
    Ok(Arrival {
        seconds,
        apply_seconds,
        peak_memory: operator.peak_memory()?,
        cpu_seconds: operator.cpu()?.total() - cpu_before,
        requests: requests.len(),
        requests_by_kind: Request::summary(&requests),
        statements,
    })
}

/// Statements that the operator has sent so far.
async fn statements(stage: &Stage) -> Result<f64> {
    pods::metric(&stage.client, Component::Operator, STATEMENTS, "").await
}

/// Seconds until all are ready, and until kubectl has ended.
async fn apply_until_ready(
    stage: &Stage,
    tenants: &Tenants,
    file: &NamedTempFile,
) -> Result<(f64, f64)> {
    let started = Instant::now();
    let since_start = |outcome: Result<()>| outcome.map(|()| started.elapsed().as_secs_f64());
    let ready = tenants.until_ready(&stage.client, DEADLINE);
    tokio::try_join!(async { since_start(ready.await) }, async {
        since_start(apply(stage, file).await)
    })
}

/// The arrival beside the floor.
pub(crate) fn report(arrival: &Arrival, floor: &Floor) -> Report {
    let per_object = |count: f64| count / OBJECTS as f64;
    Report::new(format!(
        "{OBJECTS} objects in 50 workspaces, from kubectl apply to ready"
    ))
    .with(Figure::new("time / floor", arrival.seconds / floor.seconds(), "").at_most(TIME))
    .with(Figure::new(
        "time until all are ready",
        arrival.seconds,
        "s",
    ))
    .with(Figure::new(
        "of that until kubectl had ended",
        arrival.apply_seconds,
        "s",
    ))
    .with(Figure::new("floor", floor.seconds(), "s").note(format!(
        "kubectl apply {:.1} s, {} statements by one client {:.1} s",
        floor.apply_seconds, floor.statements, floor.statement_seconds
    )))
    .with(Figure::new("memory of the operator, peak", arrival.peak_memory, "MiB").at_most(MEMORY))
    .with(Figure::new("CPU of the operator", arrival.cpu_seconds, "s"))
    .with(
        Figure::new(
            "API requests per object",
            per_object(arrival.requests as f64),
            "",
        )
        .at_most(REQUESTS)
        .note(arrival.requests_by_kind.clone()),
    )
    .with(Figure::new(
        "SQL statements per object",
        per_object(arrival.statements),
        "",
    ))
}

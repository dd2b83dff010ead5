//! How long a changed pipe takes until its endpoint gives the new answer, with 500 objects around it.

use super::report::{Figure, Report};
use super::stage::Stage;
use super::statistics::quantile;
use super::tenants::{CHANGED_OBJECT, CHANGED_PIPE, TOKEN, Tenants};
use crate::cluster::Progress;
use anyhow::{Context as _, Result, bail};
use aviary_crds::Pipe;
use kube::api::{Api, Patch, PatchParams};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CHANGES: u64 = 40;
/// Milliseconds.
const P99: f64 = 500.0;
/// When a change counts as never live.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the endpoint is asked: fine against the figure, and little load.
const INTERVAL: Duration = Duration::from_millis(5);

/// Changes one pipe again and again.
pub(crate) async fn measure(
    stage: &Stage,
    progress: &Progress,
    tenants: &Tenants,
) -> Result<Report> {
    let namespace = tenants.first_namespace();
    let token = stage.secret(&namespace, TOKEN, "token").await?;
    let pipes: Api<Pipe> = Api::namespaced(stage.client.clone(), &namespace);
    let what = format!("Changing a pipe {CHANGES} times");
    let samples = progress
        .step(&what, async {
            let mut samples = Vec::new();
            for version in 1..=CHANGES {
                pause(version).await;
                samples.push(change(stage, &pipes, &token, version).await?);
            }
            Ok(samples)
        })
        .await?;
    Ok(Report::new(format!(
        "{CHANGES} changes of a pipe, from the patch to the new answer"
    ))
    .with(Figure::new("p50", quantile(&samples, 0.5), "ms"))
    .with(Figure::new("p99", quantile(&samples, 0.99), "ms").below(P99)))
}

/// Between changes, of a different length each time, so that they do not keep step with any timer.
async fn pause(version: u64) {
    tokio::time::sleep(Duration::from_millis(50 + version * 37 % 200)).await;
}

/// Milliseconds from sending the patch to the first answer of the new version.
async fn change(stage: &Stage, pipes: &Api<Pipe>, token: &str, version: u64) -> Result<f64> {
    let sql = format!("SELECT {version} AS version, count() AS events FROM events");
    let patch = json!({"spec": {"nodes": [{"name": "answer", "sql": sql}]}});
    let started = Instant::now();
    pipes
        .patch(
            CHANGED_OBJECT,
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
        .context("change the pipe")?;
    let path = format!("/v0/pipes/{CHANGED_PIPE}.json");
    while started.elapsed() < DEADLINE {
        let answer = stage
            .gateway
            .request(Method::GET, &path, token)
            .send()
            .await;
        let answer: Value = answer
            .and_then(reqwest::Response::error_for_status)
            .context("ask the endpoint")?
            .json()
            .await
            .context("read the endpoint's answer")?;
        if answer["data"][0]["version"] == version {
            return Ok(started.elapsed().as_secs_f64() * 1_000.0);
        }
        tokio::time::sleep(INTERVAL).await;
    }
    bail!(
        "version {version} is not live after {} s",
        DEADLINE.as_secs()
    )
}

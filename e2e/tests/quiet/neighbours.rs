//! A change goes live in under a second whatever trouble the neighbours are in: a
//! workspace on the same cluster whose checks take seconds, a replica of the cluster that
//! freezes, and a tenant whose webhook lets every Secret hang.

use crate::ALONE;
use crate::webhook::{Trouble, Webhook};
use anyhow::{Context as _, Result, bail, ensure};
use aviary_e2e::support::disruption;
use aviary_e2e::support::replicated::zookeeper;
use aviary_e2e::support::{Cluster, Engines, SALES, Scene, pipe, run, run_alone, workspace_on};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Pipes of the neighbour whose checks take long.
const SLOW_PIPES: usize = 100;
/// What takes a check five seconds and no processor: a check computes scalar subqueries.
const SLOW: &str = "SELECT (SELECT sleep(2.5)) + (SELECT sleep(2.5)) AS slept";
/// Tokens whose Secrets hang: more than the operator sends requests at once.
const HANGING_TOKENS: usize = 40;

const CHANGES: usize = 10;
/// The requirement, for the middle one of the changes.
const LIVE: Duration = Duration::from_secs(1);
/// When a change counts as never live.
const NEVER: Duration = Duration::from_secs(60);
/// How long an answer of the endpoint is waited for before it is asked again.
const ANSWER: Duration = Duration::from_millis(100);
/// How often the endpoint is asked: fine against the requirement, and little load.
const INTERVAL: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_live_in_a_second_whatever_neighbours_do() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("neighbours", |scene| async move {
        run("hanging", |tenant| async move {
            let token = shop_on_a_pair(&scene).await?;
            let webhook = Webhook::install(&tenant, Trouble::Silent).await?;
            let measured = amid_trouble(&scene, &tenant, &token).await;
            webhook.remove().await?;
            measured
        })
        .await
    })
    .await
}

/// The workspace whose changes are measured, on a cluster of two engines; gives its token.
async fn shop_on_a_pair(scene: &Scene) -> Result<String> {
    zookeeper(scene).await?;
    let engines = Engines {
        replicas: 2,
        disk: "400Mi",
        arguments: &[
            "--macro=shard=01",
            "--macro=replica=$(POD_NAME)",
            "--zookeeper=zookeeper:2181",
        ],
    };
    scene.engines(&engines).await?;
    let pair = Cluster::of_pods(scene, "pair", "engine", 2).with("probeInterval", json!("15s"));
    scene.apply(&pair.manifest()).await?;
    scene.apply(&workspace_on("pair", "shop")).await?;
    scene.apply(SALES).await?;
    scene.ready("DataSource", "sales").await?;
    let token = scene.token("shop", "all").await?;
    goes_live(scene, &token, 0).await?;
    Ok(token)
}

async fn amid_trouble(scene: &Scene, tenant: &Scene, token: &str) -> Result<()> {
    secrets_that_hang(tenant).await?;
    checks_that_take_long(scene).await?;
    let frozen = disruption::freeze(&scene.client, &scene.namespace, "engine-1", "engine").await?;
    // This one finds out that a replica is silent, and waits for it a moment.
    let first = goes_live(scene, token, 1).await?;
    let mut times = Vec::new();
    for version in 2..CHANGES + 2 {
        times.push(goes_live(scene, token, version).await?);
    }
    eprintln!("live after {times:?}; the first after {first:?}");
    still_in_trouble(scene, tenant).await?;
    drop(frozen);
    let all = format!("{times:?}; the one before them after {first:?}");
    times.sort();
    ensure!(times[CHANGES / 2] < LIVE, "changes were live after {all}");
    Ok(())
}

/// A workspace with more tokens than the operator sends requests at once, none of which is answered.
async fn secrets_that_hang(tenant: &Scene) -> Result<()> {
    tenant.workspace("shop").await?;
    let tokens = (0..HANGING_TOKENS).map(|index| async move {
        let token = json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "AccessToken",
            "metadata": {"name": format!("token-{index}")},
            "spec": {"workspace": "shop", "scopes": [{"type": "PIPES:READ", "resource": "*"}]},
        });
        tenant.apply(&token.to_string()).await
    });
    try_join_all(tokens).await?;
    tenant
        .condition("AccessToken", "token-0", "Ready", "False")
        .await
        .map(drop)
}

/// A workspace on the same cluster, so many of whose checks take seconds that they last longer
/// than the test.
async fn checks_that_take_long(scene: &Scene) -> Result<()> {
    scene.apply(&workspace_on("pair", "busy")).await?;
    let pipes = (0..SLOW_PIPES).map(|index| async move {
        let mut pipe: Value = serde_json::from_str(&pipe(&slow(index), SLOW))?;
        pipe["spec"]["workspace"] = json!("busy");
        scene.apply(&pipe.to_string()).await
    });
    try_join_all(pipes).await?;
    scene
        .reason("Pipe", &slow(SLOW_PIPES - 1), "Published", "InProgress")
        .await
        .map(drop)
}

fn slow(index: usize) -> String {
    format!("slow-{index}")
}

/// The trouble has lasted to the end.
async fn still_in_trouble(scene: &Scene, tenant: &Scene) -> Result<()> {
    let pipes = scene
        .api("Pipe")
        .list(&kube::api::ListParams::default())
        .await?;
    let published = pipes.items.iter().filter(|pipe| {
        pipe.data["spec"]["workspace"] == "busy" && !pipe.data["status"]["published"].is_null()
    });
    let published = published.count();
    ensure!(published < SLOW_PIPES, "every check was over");
    let tokens = tenant.api("AccessToken");
    let token = tokens.get("token-0").await?;
    let conditions = token.data["status"]["conditions"].to_string();
    ensure!(!conditions.contains("Succeeded"), "{conditions}");
    Ok(())
}

/// Changes the pipe and waits until its endpoint gives the new answer; tells how long that took.
async fn goes_live(scene: &Scene, token: &str, version: usize) -> Result<Duration> {
    let sql = format!("SELECT {version} AS version, count() AS sales FROM sales");
    let begun = Instant::now();
    scene.apply(&pipe("answer", &sql)).await?;
    let mut last = None;
    while begun.elapsed() < NEVER {
        let rows = scene.gateway.rows("answer", "", token);
        match tokio::time::timeout(ANSWER, rows).await {
            Ok(Ok(rows)) if rows == [json!({"version": version, "sales": 0})] => {
                return Ok(begun.elapsed());
            }
            Ok(answer) => last = Some(answer),
            Err(_) => {}
        }
        tokio::time::sleep(INTERVAL).await;
    }
    let status = scene
        .api("Pipe")
        .get("answer")
        .await
        .context("the pipe")?
        .data["status"]
        .clone();
    bail!("version {version} is never live: {last:?}; {status}")
}

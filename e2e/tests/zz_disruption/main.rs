//! What breaks under way: processes are killed while rows arrive, and every row
//! that was acknowledged is there afterwards.
//!
//! These disturb everybody else, hence one at a time, in a binary whose name sorts last.

mod absence;

use anyhow::{Context as _, Result, ensure};
use aviary_e2e::cluster::Target;
use aviary_e2e::product;
use aviary_e2e::support::disruption;
use aviary_e2e::support::pods::{self, Component};
use aviary_e2e::support::{SALES, Scene, eventually, logs, pipe, run_alone};
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One disturbance at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How many clients send while something breaks.
const SENDERS: u64 = 4;
/// Rows of one request.
const ROWS: u64 = 50;

/// Clients that send batches of rows until they are told to stop, and remember what was acknowledged.
#[derive(Default)]
struct Senders {
    next: AtomicU64,
    stop: AtomicBool,
    acknowledged: Mutex<BTreeSet<u64>>,
    failed: AtomicU64,
}

impl Senders {
    async fn send(&self, scene: &Scene, token: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            let batch = self.next.fetch_add(1, Ordering::Relaxed);
            // Every fifth row does not fit and belongs into the quarantine.
            let rows: String = (0..ROWS)
                .map(|row| {
                    let id = batch * ROWS + row;
                    match id % 5 {
                        0 => format!("{{\"id\": \"bad {id}\", \"city\": \"x\"}}\n"),
                        _ => format!("{{\"id\": {id}, \"city\": \"x\"}}\n"),
                    }
                })
                .collect();
            match scene.gateway.events("sales", token, rows).await {
                Ok((good, bad)) if good + bad == ROWS => {
                    self.acknowledged().insert(batch);
                }
                _ => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn acknowledged(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this many more batches were acknowledged.
    async fn progress(&self, more: usize) -> Result<()> {
        let before = self.acknowledged().len();
        eventually("rows are acknowledged", async || {
            let now = self.acknowledged().len();
            Ok((now >= before + more)
                .then_some(())
                .ok_or(format!("{before} batches before, now {now}")))
        })
        .await
    }

    /// Every acknowledged row is in the table or in the quarantine.
    async fn account(&self, scene: &Scene) -> Result<()> {
        let (table, quarantine) = (
            scene.table("shop", "sales"),
            scene.table("shop", "sales_quarantine"),
        );
        let sql = format!(
            "SELECT DISTINCT id FROM (SELECT id FROM {table} UNION ALL SELECT toInt32OrNull(substring(assumeNotNull(id), 5)) FROM {quarantine})"
        );
        let there = scene.clickhouse.query(&sql).await?;
        let there: BTreeSet<u64> = there.lines().filter_map(|line| line.parse().ok()).collect();
        let acknowledged = self.acknowledged();
        let lost: Vec<u64> = acknowledged
            .iter()
            .flat_map(|batch| batch * ROWS..(batch + 1) * ROWS)
            .filter(|id| !there.contains(id))
            .collect();
        ensure!(
            lost.is_empty(),
            "{} of {} acknowledged rows are lost, such as {:?}",
            lost.len(),
            acknowledged.len() as u64 * ROWS,
            &lost[..lost.len().min(5)]
        );
        Ok(())
    }
}

/// Sends rows while `disturb` does its work; checks that none is lost.
async fn while_rows_arrive<F: Future<Output = Result<()>>>(
    scene: &Scene,
    token: &str,
    disturb: impl FnOnce() -> F,
) -> Result<()> {
    let senders = Senders::default();
    let disturbing = async {
        let outcome = async {
            senders.progress(10).await?;
            disturb().await?;
            // It recovers by itself.
            senders.progress(10).await
        }
        .await;
        senders.stop.store(true, Ordering::Relaxed);
        outcome
    };
    let sending = join_all((0..SENDERS).map(|_| senders.send(scene, token)));
    let (outcome, _) = tokio::join!(disturbing, sending);
    outcome?;
    senders.account(scene).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_loses_no_acknowledged_row() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("kill-gateway", |scene| async move {
        let token = scene.shop().await?;
        while_rows_arrive(&scene, &token, async || {
            disruption::kill(&scene.client, Component::Gateway).await
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_is_waited_for() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("kill-engine", |scene| async move {
        let token = scene.shop_with_total().await?;
        while_rows_arrive(&scene, &token, async || {
            let pods: Api<Pod> = Api::namespaced(scene.client.clone(), "clickhouse");
            let at_once = DeleteParams::default().grace_period(0);
            pods.delete("engine-0", &at_once)
                .await
                .context("kill the engine")?;
            eventually("the endpoint says 503", async || {
                let answer = scene.gateway.get("/v0/pipes/total.json", &token).await?;
                let told = answer.status == 503 && !answer.header("retry-after").is_empty();
                Ok(told.then_some(()).ok_or(answer.to_string()))
            })
            .await?;
            eventually("the endpoint answers again", async || {
                let answer = scene.gateway.get("/v0/pipes/total.json", &token).await?;
                Ok((answer.status == 200)
                    .then_some(())
                    .ok_or(answer.to_string()))
            })
            .await
        })
        .await?;
        scene.touch("Workspace", "shop").await?;
        for (kind, name) in [
            ("Workspace", "shop"),
            ("DataSource", "sales"),
            ("Pipe", "total"),
        ] {
            scene.ready(kind, name).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_goes_on_where_it_was() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("kill-operator", |scene| async move {
        let token = scene.shop().await?;
        for index in 0..20 {
            let name = format!("sales{index}");
            scene
                .apply(&SALES.replace("{name: sales}", &format!("{{name: {name}}}")))
                .await?;
            scene
                .apply(&pipe(
                    &format!("total{index}"),
                    &format!("SELECT count() AS n FROM {name}"),
                ))
                .await?;
            if index == 10 {
                disruption::kill(&scene.client, Component::Operator).await?;
            }
        }
        // Endpoints and ingestion do without an operator.
        let taken = scene
            .gateway
            .events("sales", &token, "{\"id\": 1, \"city\": \"x\"}\n")
            .await?;
        ensure!(taken == (1, 0), "{taken:?}");
        for index in 0..20 {
            scene.ready("DataSource", &format!("sales{index}")).await?;
            scene.ready("Pipe", &format!("total{index}")).await?;
        }
        scene.gateway.serves("total19", &token).await?;
        let rows = scene.gateway.rows("total19", "", &token).await?;
        ensure!(rows == [json!({"n": 0})], "{rows:?}");
        Ok(())
    })
    .await
}

/// Of two operators one leads; the other takes over from one that goes, and from one that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_operator_takes_over() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("takeover", |scene| async move {
        let target = Target::from_environment();
        let two = "operator.replicas=2,operator.extraArgs={--lease-duration=10s}";
        product::set_values(&target, two).await?;
        let taken_over = take_over(&scene).await;
        // What the two logged goes with them.
        let checked = logs::check(&scene.client).await;
        product::restore_values(&target).await?;
        taken_over.and(checked)
    })
    .await
}

async fn take_over(scene: &Scene) -> Result<()> {
    scene.shop().await?;
    let first = leader(scene).await?;
    disruption::delete_one(&scene.client, &first).await?;
    let second = another_leads(scene, &first).await?;
    scene.apply(&pipe("one", "SELECT 1 AS n")).await?;
    scene.ready("Pipe", "one").await?;

    // Somebody has to be there to take over from it.
    pods::until_all_ready(&scene.client, Component::Operator, 2).await?;
    let frozen = disruption::freeze(
        &scene.client,
        product::NAMESPACE,
        &second,
        Component::Operator.name(),
    )
    .await?;
    let third = another_leads(scene, &second).await?;
    scene.apply(&pipe("two", "SELECT 2 AS n")).await?;
    scene.ready("Pipe", "two").await?;
    drop(frozen);
    // It finds that it leads no more, ends, and stands by after its restart.
    eventually("the one that hung has started anew", async || {
        let restarts = pods::restarts(&pods::get(&scene.client, &second).await?);
        Ok((restarts > 0)
            .then_some(())
            .ok_or(format!("{restarts} restarts")))
    })
    .await?;
    pods::until_all_ready(&scene.client, Component::Operator, 2).await?;
    let now = leader(scene).await?;
    ensure!(now == third, "{third} led, and now {now} does");
    scene.apply(&pipe("three", "SELECT 3 AS n")).await?;
    scene.ready("Pipe", "three").await.map(drop)
}

/// The name of the pod that holds the lease.
async fn leader(scene: &Scene) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), product::NAMESPACE);
    let lease = leases
        .get("aviary-operator")
        .await
        .context("get the lease")?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    Ok(holder.unwrap_or_default())
}

async fn another_leads(scene: &Scene, before: &str) -> Result<String> {
    eventually("another operator leads", async || {
        let now = leader(scene).await?;
        Ok(if now.is_empty() || now == before {
            Err(format!("the leader is `{now}`"))
        } else {
            Ok(now)
        })
    })
    .await
}

/// A tenant that was there before a restart of everything is served after it, with the same credentials.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_serves_what_was_published() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("restart", |scene| async move {
        let token = scene.shop_with_total().await?;
        // A broken change must not become live by a restart either.
        scene
            .apply(&pipe("total", "SELECT count(oops) AS n FROM sales"))
            .await?;
        scene
            .condition("Pipe", "total", "Published", "False")
            .await?;
        disruption::delete(&scene.client, Component::Gateway).await?;
        // Until then the old one answers, which takes its time to go.
        pods::until_ready(&scene.client, Component::Gateway).await?;
        eventually("the new gateway answers", async || {
            let answer = scene.gateway.get("/v0/pipes/total.json", &token).await;
            Ok(match answer {
                Ok(answer)
                    if answer.status == 200 && answer.json()?["data"] == json!([{"n": 0}]) =>
                {
                    Ok(())
                }
                Ok(answer) => Err(answer.to_string()),
                // No gateway is there for a moment.
                Err(error) => Err(format!("{error:#}")),
            })
        })
        .await
    })
    .await
}

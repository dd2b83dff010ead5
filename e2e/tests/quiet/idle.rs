//! A pass with nothing to do does nothing: no request to Kubernetes beyond the
//! watches there are, no change in ClickHouse.
//!
//! The apiserver's audit log is the witness. Alone, so that no other test's passes are counted.

use crate::ALONE;
use anyhow::{Result, ensure};
use aviary_e2e::support::pods::{self, Component};
use aviary_e2e::support::{AuditMark, Cluster, Request, Scene, eventually, run_alone};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Steps that changed something in ClickHouse.
const CHANGES: &str = "aviary_clickhouse_changes_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_with_nothing_to_do_asks_and_writes_nothing() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("quiet", |scene| async move {
        scene.shop_with_total().await?;
        own_cluster(&scene).await?;
        let before = settled(&scene).await?;

        let changes = counter(&scene, CHANGES, "").await?;
        ensure!(
            changes > 0.0,
            "the operator counts no changes, though it has made a workspace"
        );

        let mark = AuditMark::now()?;
        for _ in 0..3 {
            let passes = counter(&scene, "aviary_reconcile_seconds_count", "Workspace").await?;
            scene.touch("Workspace", "shop").await?;
            grows(
                &scene,
                "aviary_reconcile_seconds_count",
                "Workspace",
                passes,
                1.0,
            )
            .await?;
        }
        // By now the cluster of this test, asked every second, was asked several times.
        let statements = counter(&scene, "aviary_clickhouse_statements_total", "").await?;
        grows(
            &scene,
            "aviary_clickhouse_statements_total",
            "",
            statements,
            6.0,
        )
        .await?;

        for component in [Component::Operator, Component::Gateway] {
            let mut requests = mark.requests_of(component)?;
            // Where operators elect a leader, it renews its lease.
            requests.retain(|request| request.resource != "leases");
            ensure!(
                requests.is_empty(),
                "the {} asked although nothing changed: {}\n{requests:?}",
                component.name(),
                Request::summary(&requests)
            );
        }
        let changed = counter(&scene, CHANGES, "").await? - changes;
        ensure!(
            changed == 0.0,
            "{changed} changes in ClickHouse although nothing changed"
        );
        ensure!(
            definitions(&scene).await? == before,
            "ClickHouse's objects were written again"
        );
        Ok(())
    })
    .await
}

/// A cluster that is asked for its health every second: the shared engine by another name.
async fn own_cluster(scene: &Scene) -> Result<()> {
    scene.engine_credentials().await?;
    scene
        .apply(&Cluster::shared_engine("watched").manifest())
        .await?;
    scene.ready("ClickHouseCluster", "watched").await.map(drop)
}

/// Waits until the operator has made no pass for a second; gives what ClickHouse has.
async fn settled(scene: &Scene) -> Result<String> {
    let last = Cell::new((0.0, Instant::now()));
    eventually("the operator is idle", async || {
        let passes = counter(scene, "aviary_reconcile_seconds_count", "Workspace").await?;
        if passes > last.get().0 {
            last.set((passes, Instant::now()));
        }
        let calm = last.get().1.elapsed() > Duration::from_secs(1);
        Ok(calm.then_some(()).ok_or(format!("{passes} passes")))
    })
    .await?;
    definitions(scene).await
}

/// Every object of the workspace with the moment it was last changed.
async fn definitions(scene: &Scene) -> Result<String> {
    let database = scene.database("shop");
    let sql = format!(
        "SELECT name, uuid, metadata_modification_time, create_table_query FROM system.tables WHERE database = '{database}' ORDER BY name"
    );
    scene.clickhouse.query(&sql).await
}

async fn counter(scene: &Scene, name: &str, labels: &str) -> Result<f64> {
    pods::metric(&scene.client, Component::Operator, name, labels).await
}

/// Waits until a counter of the operator is `by` above `before`.
async fn grows(scene: &Scene, name: &str, labels: &str, before: f64, by: f64) -> Result<()> {
    eventually(&format!("{name} grows by {by}"), async || {
        let now = counter(scene, name, labels).await?;
        Ok((now >= before + by)
            .then_some(())
            .ok_or(format!("{before}, now {now}")))
    })
    .await
}

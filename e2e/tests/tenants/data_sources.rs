//! Tables over their life: columns arrive while rows do, other changes of shape
//! are refused, TTLs change in place, and deletion follows policy and ownership.

use anyhow::{Result, ensure};
use aviary_e2e::support::{SALES, Scene, eventually, run};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn a_column_is_added_while_rows_go_on_arriving() -> Result<()> {
    run("column", |scene| async move {
        let token = scene.shop().await?;
        let stop = AtomicBool::new(false);
        let sending = async {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let row = format!("{{\"id\": {sent}, \"city\": \"Bonn\", \"note\": \"x\"}}\n");
                let taken = scene.gateway.events("sales", &token, row).await?;
                ensure!(taken == (1, 0), "row {sent}: {taken:?}");
                sent += 1;
            }
            anyhow::Ok(sent)
        };
        let changing = async {
            rows_arrive(&scene, 5).await?;
            scene.apply(&with_note()).await?;
            scene.ready("DataSource", "sales").await?;
            // The gateway follows by itself: from some row on, notes are kept.
            let table = scene.table("shop", "sales");
            eventually("a note is kept", async || {
                let sql = format!("SELECT countIf(note = 'x') FROM {table}");
                let notes = scene.clickhouse.number(&sql).await?;
                Ok((notes >= 5).then_some(()).ok_or(format!("{notes} notes")))
            })
            .await
        };
        let changing = async {
            let changed = changing.await;
            stop.store(true, Ordering::Relaxed);
            changed
        };
        let (sent, changed) = tokio::join!(sending, changing);
        changed?;
        let (sent, kept) = (sent?, scene.count("shop", "sales").await?);
        ensure!(
            kept == sent,
            "{sent} rows were acknowledged, {kept} are there"
        );
        let quarantined = scene.count("shop", "sales_quarantine").await?;
        ensure!(quarantined == 0, "{quarantined} in quarantine");
        Ok(())
    })
    .await
}

async fn rows_arrive(scene: &Scene, at_least: u64) -> Result<()> {
    eventually("rows arrive", async || {
        let count = scene.count("shop", "sales").await?;
        Ok((count >= at_least)
            .then_some(())
            .ok_or(format!("{count} rows")))
    })
    .await
}

/// The data source with one more column.
fn with_note() -> String {
    with_columns("    - {name: note, type: Nullable(String)}\n")
}

fn with_columns(more: &str) -> String {
    SALES.replace("  sortingKey", &format!("{more}  sortingKey"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_shape_is_refused_and_the_table_goes_on() -> Result<()> {
    run("shape", |scene| async move {
        let token = scene.shop().await?;
        let shape = shape(&scene).await?;
        for (what, manifest, named) in [
            (
                "type",
                SALES.replace("type: Int32", "type: Int64"),
                vec!["`id`", "Int32", "Int64"],
            ),
            (
                "dropped column",
                SALES.replace("    - {name: city, type: String}\n", ""),
                vec!["`city`"],
            ),
            (
                "sorting key",
                SALES.replace("sortingKey: [id]", "sortingKey: [city]"),
                vec!["id", "city"],
            ),
            (
                "engine",
                SALES.replace(
                    "  sortingKey",
                    "  engine: {type: ReplacingMergeTree}\n  sortingKey",
                ),
                vec!["MergeTree", "ReplacingMergeTree"],
            ),
            (
                "partition key",
                SALES.replace("  sortingKey", "  partitionKey: city\n  sortingKey"),
                vec!["city"],
            ),
        ] {
            scene.apply(&manifest).await?;
            let message = scene
                .reason("DataSource", "sales", "Ready", "ShapeChangeRefused")
                .await?;
            for name in named {
                ensure!(
                    message.contains(name),
                    "{what}: {name} is not in: {message}"
                );
            }
            ensure!(
                shape == self::shape(&scene).await?,
                "{what}: the table changed"
            );
            let taken = scene
                .gateway
                .events("sales", &token, "{\"id\": 7, \"city\": \"Bonn\"}\n")
                .await?;
            ensure!(taken == (1, 0), "{what}: {taken:?}");
        }
        scene.apply(SALES).await?;
        scene.ready("DataSource", "sales").await?;
        ensure!(scene.count("shop", "sales").await? == 5);
        Ok(())
    })
    .await
}

/// What ClickHouse says the table is.
async fn shape(scene: &Scene) -> Result<String> {
    let table = scene.table("shop", "sales");
    let sql = format!("SHOW CREATE TABLE {table}");
    let shape = scene.clickhouse.query(&sql).await?;
    // The operator may write into the comment what it was asked for.
    Ok(shape
        .split_once("COMMENT")
        .map_or(shape.clone(), |(shape, _)| shape.to_owned()))
}

/// What is stored: engine, keys and TTL of the table.
async fn engine(scene: &Scene, name: &str) -> Result<String> {
    let database = scene.database("shop");
    let sql = format!(
        "SELECT engine_full FROM system.tables WHERE database = '{database}' AND name = '{name}'"
    );
    scene.clickhouse.query(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_is_set_changed_and_removed_in_place() -> Result<()> {
    run("ttl", |scene| async move {
        scene.workspace("shop").await?;
        let events = |ttl: &str| {
            format!(
                "
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {{name: events}}
spec:
  workspace: shop
  columns: [{{name: at, type: DateTime('UTC')}}, {{name: level, type: String}}]
  sortingKey: [at]
{ttl}"
            )
        };
        for (ttl, expected) in [
            ("  ttl: {column: at, keep: 90d}", "at + toIntervalDay(90))"),
            ("  ttl: {column: at, keep: 30d}", "at + toIntervalDay(30))"),
            (
                "  ttl: {column: at, keep: 90s}",
                "at + toIntervalSecond(90))",
            ),
            (
                "  ttl: {expression: \"at + INTERVAL 3 MONTH DELETE WHERE level = 'debug'\"}",
                "at + toIntervalMonth(3)) WHERE level = ",
            ),
        ] {
            scene.apply(&events(ttl)).await?;
            scene.ready("DataSource", "events").await?;
            let engine = engine(&scene, "events").await?;
            ensure!(engine.contains(expected), "{ttl}: {engine}");
        }
        scene.apply(&events("")).await?;
        scene.ready("DataSource", "events").await?;
        let engine = engine(&scene, "events").await?;
        ensure!(!engine.contains("TTL"), "{engine}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_that_its_type_cannot_hold_is_refused() -> Result<()> {
    run("overflow", |scene| async move {
        scene.workspace("shop").await?;
        scene
            .apply(
                "
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {name: events}
spec:
  workspace: shop
  columns: [{name: at, type: DateTime}]
  ttl: {column: at, keep: 36500d}
",
            )
            .await?;
        let message = scene
            .reason("DataSource", "events", "Ready", "Invalid")
            .await?;
        ensure!(message.contains("ttl"), "{message}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_engine_and_every_column_property_reaches_clickhouse() -> Result<()> {
    run("engines", |scene| async move {
        scene.workspace("shop").await?;
        for (name, spec, expected) in [
            ("plain", "engine: {type: MergeTree}", "MergeTree"),
            ("replacing", "engine: {type: ReplacingMergeTree, version: v}", "ReplacingMergeTree(v)"),
            (
                "deleting",
                "engine: {type: ReplacingMergeTree, version: v, isDeleted: gone}",
                "ReplacingMergeTree(v, gone)",
            ),
            ("summing", "engine: {type: SummingMergeTree, columns: [v]}", "SummingMergeTree((v))"),
            ("aggregating", "engine: {type: AggregatingMergeTree}", "AggregatingMergeTree"),
            ("collapsing", "engine: {type: CollapsingMergeTree, sign: sign}", "CollapsingMergeTree(sign)"),
            (
                "versioned",
                "engine: {type: VersionedCollapsingMergeTree, sign: sign, version: v}",
                "VersionedCollapsingMergeTree(sign, v)",
            ),
        ] {
            scene
                .apply(&format!(
                    "
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {{name: {name}}}
spec:
  workspace: shop
  columns:
    - {{name: id, type: UInt64, codec: \"Delta, ZSTD(3)\", comment: who's it for}}
    - {{name: v, type: UInt32, default: id % 7}}
    - {{name: gone, type: UInt8}}
    - {{name: sign, type: Int8}}
  sortingKey: [id]
  {spec}
"
                ))
                .await?;
            scene.ready("DataSource", name).await?;
            let engine = engine(&scene, name).await?;
            ensure!(engine.starts_with(expected), "{name}: {engine}");
        }
        let columns = format!(
            "SELECT compression_codec, comment, (SELECT default_expression FROM system.columns WHERE database = '{0}' AND table = 'plain' AND name = 'v') \
             FROM system.columns WHERE database = '{0}' AND table = 'plain' AND name = 'id'",
            scene.database("shop")
        );
        let columns = scene.clickhouse.query(&columns).await?;
        ensure!(columns.contains("Delta") && columns.contains("ZSTD(3)"), "{columns}");
        ensure!(columns.contains("who\\'s it for") && columns.contains("id % 7"), "{columns}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_clickhouse_does_not_know_is_reported() -> Result<()> {
    run("type", |scene| async move {
        scene.workspace("shop").await?;
        scene
            .apply(&SALES.replace("type: Int32", "type: Strange(3)"))
            .await?;
        let object = scene
            .condition("DataSource", "sales", "Ready", "False")
            .await?;
        let status = object.data["status"].to_string();
        ensure!(status.contains("Strange"), "{status}");
        scene.apply(SALES).await?;
        scene.ready("DataSource", "sales").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_data_source_takes_its_table_along_if_the_policy_says_so() -> Result<()> {
    run("delete", |scene| async move {
        let token = scene.shop().await?;
        scene
            .patch(
                "DataSource",
                "sales",
                json!({"spec": {"deletionPolicy": "Delete"}}),
            )
            .await?;
        scene.ready("DataSource", "sales").await?;
        scene
            .gateway
            .events(
                "sales",
                &token,
                "{\"id\": 1, \"city\": \"Bonn\"}\nnot a row\n",
            )
            .await?;
        scene.delete("DataSource", "sales").await?;
        tables_become(&scene, "").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_data_source_leaves_its_table_for_the_next_of_its_name() -> Result<()> {
    run("retain", |scene| async move {
        let token = scene.shop().await?;
        let rows = "{\"id\": 1, \"city\": \"Bonn\"}\nnot a row\n";
        let taken = scene.gateway.events("sales", &token, rows).await?;
        ensure!(taken == (1, 1), "{taken:?}");
        scene.delete("DataSource", "sales").await?;
        // What holds rows stays; what only moves them goes.
        tables_become(&scene, "sales,sales_quarantine").await?;
        ensure!(scene.count("shop", "sales").await? == 1);

        // Another shape does not fit the rows that are there.
        scene
            .apply(&SALES.replace("type: Int32", "type: UUID"))
            .await?;
        scene
            .reason("DataSource", "sales", "Ready", "ShapeChangeRefused")
            .await?;
        scene.apply(SALES).await?;
        scene.ready("DataSource", "sales").await?;
        scene.gateway.takes("sales", &token).await?;
        let taken = scene.gateway.events("sales", &token, rows).await?;
        ensure!(taken == (1, 1), "{taken:?}");
        let counts = (
            scene.count("shop", "sales").await?,
            scene.count("shop", "sales_quarantine").await?,
        );
        ensure!(counts == (2, 2), "{counts:?}");
        Ok(())
    })
    .await
}

/// Waits until the workspace has these tables and views, joined by commas.
async fn tables_become(scene: &Scene, expected: &str) -> Result<()> {
    let sql = format!(
        "SELECT arrayStringConcat(arraySort(groupArray(name)), ',') FROM system.tables WHERE database = '{}'",
        scene.database("shop")
    );
    eventually(&format!("the tables are `{expected}`"), async || {
        let tables = scene.clickhouse.query(&sql).await?;
        Ok((tables == expected).then_some(()).ok_or(tables))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_takes_its_database_along_or_leaves_it_for_the_next() -> Result<()> {
    run("database", |scene| async move {
        let token = scene.shop().await?;
        scene
            .gateway
            .events("sales", &token, "{\"id\": 1, \"city\": \"Bonn\"}\n")
            .await?;
        let retain = json!({"spec": {"deletionPolicy": "Retain"}});
        scene.patch("Workspace", "shop", retain).await?;
        scene.ready("Workspace", "shop").await?;
        scene.delete("Workspace", "shop").await?;
        ensure!(scene.count("shop", "sales").await? == 1);
        let users = format!(
            "SELECT count() FROM system.users WHERE startsWith(name, '{}__')",
            scene.database("shop")
        );
        // A workspace that keeps its data is gone at once, and its users soon after.
        eventually("its users are gone", async || {
            let left = scene.clickhouse.number(&users).await?;
            Ok((left == 0).then_some(()).ok_or(left.to_string()))
        })
        .await?;

        // Of a new object nothing can be known from before.
        scene.workspace("shop").await?;
        scene.ready("Workspace", "shop").await?;
        scene.ready("DataSource", "sales").await?;
        ensure!(scene.count("shop", "sales").await? == 1);
        scene.delete("Workspace", "shop").await?;
        let databases = format!(
            "SELECT count() FROM system.databases WHERE name = '{}'",
            scene.database("shop")
        );
        ensure!(
            scene.clickhouse.number(&databases).await? == 0,
            "the database is left"
        );
        Ok(())
    })
    .await
}

/// Deleted and made anew faster than anybody could look after the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_source_made_anew_at_once_has_its_rows() -> Result<()> {
    run("anew", |scene| async move {
        let token = scene.shop().await?;
        let row = "{\"id\": 1, \"city\": \"Bonn\"}\n";
        scene.gateway.events("sales", &token, row).await?;
        scene.delete("DataSource", "sales").await?;
        scene.apply(SALES).await?;
        scene.ready("DataSource", "sales").await?;
        ensure!(scene.count("shop", "sales").await? == 1);
        scene.gateway.takes("sales", &token).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_or_a_table_of_somebody_else_is_left_alone() -> Result<()> {
    run("owned", |scene| async move {
        let theirs = scene.database("theirs");
        scene
            .clickhouse
            .query(&format!("CREATE DATABASE `{theirs}`"))
            .await?;
        scene.workspace("theirs").await?;
        let message = scene
            .reason("Workspace", "theirs", "Ready", "OwnedByAnother")
            .await?;
        ensure!(message.contains(&theirs), "{message}");
        scene.delete("Workspace", "theirs").await?;
        // Gone only now that this test drops it.
        scene
            .clickhouse
            .query(&format!("DROP DATABASE `{theirs}`"))
            .await?;

        scene.workspace("shop").await?;
        scene.ready("Workspace", "shop").await?;
        let table = scene.table("shop", "sales");
        scene
            .clickhouse
            .query(&format!(
                "CREATE TABLE {table} (id Int32, city String) ENGINE = MergeTree ORDER BY id"
            ))
            .await?;
        scene
            .clickhouse
            .query(&format!("INSERT INTO {table} VALUES (1, 'Bonn')"))
            .await?;
        scene.apply(SALES).await?;
        let message = scene
            .reason("DataSource", "sales", "Ready", "OwnedByAnother")
            .await?;
        ensure!(message.contains("sales"), "{message}");
        ensure!(scene.count("shop", "sales").await? == 1);
        Ok(())
    })
    .await
}

//! What is broken by hand in ClickHouse comes back, with an event that says so,
//! and what Aviary did not make stays.

use anyhow::{Result, ensure};
use aviary_e2e::support::{Scene, eventually, run};

/// Breaks something as the administrator, has the operator look, and waits
/// until `probe` gives what it gave before.
async fn repaired(scene: &Scene, breaking: &str, probe: &str) -> Result<()> {
    let before = scene.clickhouse.query(probe).await?;
    // A pass that is under way may put it back before the question is asked; then once more.
    eventually(
        &format!("{breaking} breaks what {probe} sees"),
        async || {
            scene.clickhouse.query(breaking).await?;
            let broken = scene.clickhouse.query(probe).await?;
            Ok((broken != before).then_some(()).ok_or(broken))
        },
    )
    .await?;
    scene.touch("Workspace", "shop").await?;
    eventually(&format!("what `{breaking}` did is undone"), async || {
        let now = scene.clickhouse.query(probe).await?;
        Ok((now == before).then_some(()).ok_or(now))
    })
    .await
}

fn columns_of(scene: &Scene, table: &str) -> String {
    format!(
        "SELECT arraySort(groupArray((name, type, comment))) FROM system.columns WHERE database = '{}' AND table = '{table}'",
        scene.database("shop")
    )
}

fn definition_of(scene: &Scene, table: &str) -> String {
    format!(
        "SELECT count(), any(create_table_query) FROM system.tables WHERE database = '{}' AND name = '{table}'",
        scene.database("shop")
    )
}

/// Rows are taken, and those that do not fit are quarantined, as if nothing had been.
async fn still_ingests(scene: &Scene, token: &str) -> Result<()> {
    let rows = "{\"id\": 1, \"city\": \"Bonn\"}\n{\"id\": \"one\", \"city\": \"Bonn\"}\n";
    let taken = scene.gateway.events("sales", token, rows).await?;
    ensure!(taken == (1, 1), "{taken:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_column_comes_back() -> Result<()> {
    run("drift-column", |scene| async move {
        let token = scene.shop().await?;
        let table = scene.table("shop", "sales");
        let probe = columns_of(&scene, "sales");
        repaired(
            &scene,
            &format!("ALTER TABLE {table} DROP COLUMN city"),
            &probe,
        )
        .await?;
        let event = scene.event("sales", "DriftRepaired").await?;
        ensure!(event.contains("city"), "{event}");
        still_ingests(&scene, &token).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_views_come_back() -> Result<()> {
    run("drift-view", |scene| async move {
        let token = scene.shop().await?;
        for view in ["sales__ingest", "sales__reject", "sales__landing"] {
            let name = scene.table("shop", view);
            let probe = definition_of(&scene, view);
            repaired(&scene, &format!("DROP TABLE {name} SYNC"), &probe).await?;
            still_ingests(&scene, &token).await?;
        }
        scene.event("sales", "DriftRepaired").await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_changed_by_hand_is_put_back() -> Result<()> {
    run("drift-query", |scene| async move {
        let token = scene.shop().await?;
        let view = scene.table("shop", "sales__ingest");
        let landing = scene.table("shop", "sales__landing");
        let probe = definition_of(&scene, "sales__ingest");
        let breaking = format!(
            "ALTER TABLE {view} MODIFY QUERY SELECT toInt32(0) AS id, 'nowhere' AS city FROM {landing}"
        );
        repaired(&scene, &breaking, &probe).await?;
        scene.event("sales", "DriftRepaired").await?;
        still_ingests(&scene, &token).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_quarantine_comes_back() -> Result<()> {
    run("drift-quarantine", |scene| async move {
        let token = scene.shop().await?;
        let quarantine = scene.table("shop", "sales_quarantine");
        let probe = columns_of(&scene, "sales_quarantine");
        repaired(&scene, &format!("DROP TABLE {quarantine} SYNC"), &probe).await?;
        scene.event("sales", "DriftRepaired").await?;
        still_ingests(&scene, &token).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_set_by_hand_is_taken_back() -> Result<()> {
    run("drift-ttl", |scene| async move {
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
  sortingKey: [at]
  ttl: {column: at, keep: 90d}
",
            )
            .await?;
        scene.ready("DataSource", "events").await?;
        let table = scene.table("shop", "events");
        let probe = definition_of(&scene, "events");
        for breaking in [
            format!("ALTER TABLE {table} MODIFY TTL at + INTERVAL 1 DAY"),
            format!("ALTER TABLE {table} REMOVE TTL"),
        ] {
            repaired(&scene, &breaking, &probe).await?;
        }
        let event = scene.event("events", "DriftRepaired").await?;
        ensure!(event.to_lowercase().contains("ttl"), "{event}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_rights_and_dropped_users_come_back() -> Result<()> {
    run("drift-grant", |scene| async move {
        let token = scene.shop().await?;
        let database = scene.database("shop");
        let reader = format!("{database}__reader");
        let grants = |user: &str| {
            format!("SELECT arraySort(groupArray((access_type, database))) FROM system.grants WHERE user_name = '{user}'")
        };
        repaired(
            &scene,
            &format!("REVOKE SELECT ON `{database}`.* FROM `{reader}`"),
            &grants(&reader),
        )
        .await?;
        // The writer cannot be dropped by hand: the views run as it.
        repaired(&scene, &format!("DROP USER `{reader}`"), &grants(&reader)).await?;
        scene.event("shop", "DriftRepaired").await?;
        // A right too many is drift as well.
        repaired(
            &scene,
            &format!("GRANT SELECT ON system.* TO `{reader}`"),
            &grants(&reader),
        )
        .await?;
        still_ingests(&scene, &token).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_comes_back_empty_and_strangers_stay() -> Result<()> {
    run("drift-table", |scene| async move {
        let token = scene.shop().await?;
        let (table, stranger) = (
            scene.table("shop", "sales"),
            scene.table("shop", "stranger"),
        );
        scene
            .clickhouse
            .query(&format!(
                "CREATE TABLE {stranger} (x UInt8) ENGINE = MergeTree ORDER BY x"
            ))
            .await?;
        scene
            .clickhouse
            .query(&format!("INSERT INTO {stranger} VALUES (7)"))
            .await?;
        still_ingests(&scene, &token).await?;
        let probe = definition_of(&scene, "sales");
        repaired(&scene, &format!("DROP TABLE {table} SYNC"), &probe).await?;
        let rows = scene.count("shop", "sales").await?;
        ensure!(rows == 0, "{rows} rows came back");
        still_ingests(&scene, &token).await?;
        let rows = scene.count("shop", "sales").await?;
        ensure!(rows == 1, "{rows} rows after one was sent");
        let rows = scene.count("shop", "stranger").await?;
        ensure!(rows == 1, "the stranger has {rows} rows");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_database_comes_back_empty() -> Result<()> {
    run("drift-database", |scene| async move {
        let token = scene.shop().await?;
        let database = scene.database("shop");
        let probe = format!("SELECT count() FROM system.databases WHERE name = '{database}'");
        repaired(&scene, &format!("DROP DATABASE `{database}` SYNC"), &probe).await?;
        let event = scene.event("shop", "DriftRepaired").await?;
        ensure!(event.contains("create the database"), "{event}");
        eventually("rows are taken again", async || {
            let ingested = still_ingests(&scene, &token).await;
            Ok(ingested.map_err(|error| error.to_string()))
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_secrets_come_back() -> Result<()> {
    use aviary_crds::names;
    use k8s_openapi::api::core::v1::Secret;
    use kube::ResourceExt as _;
    use kube::api::{Api, DeleteParams};

    run("drift-secret", |scene| async move {
        let before = scene.shop().await?;
        let tokens: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
        tokens.delete("all", &DeleteParams::default()).await?;
        // A new value: deleting the Secret is how a token is replaced.
        let after = eventually("the token has a new value", async || {
            Ok(scene
                .token_value("all")
                .await
                .map_err(|error| error.to_string()))
        })
        .await?;
        ensure!(after != before);
        scene.gateway.takes("sales", &after).await?;
        eventually("the old value opens nothing", async || {
            let answer = scene.gateway.get("/v0/pipes/openapi.json", &before).await?;
            Ok((answer.status == 401)
                .then_some(())
                .ok_or(answer.to_string()))
        })
        .await?;

        let uid = scene
            .api("Workspace")
            .get("shop")
            .await?
            .uid()
            .unwrap_or_default();
        let published: Api<Secret> = Api::namespaced(scene.client.clone(), "aviary-system");
        let name = names::published_secret(&uid);
        published.delete(&name, &DeleteParams::default()).await?;
        eventually("the published Secret is back", async || {
            Ok(scene
                .access("shop")
                .await
                .map(drop)
                .map_err(|error| error.to_string()))
        })
        .await?;
        // The passwords are new: until ClickHouse has them, senders are told to come back.
        eventually("rows are taken again", async || {
            let ingested = still_ingests(&scene, &after).await;
            Ok(ingested.map_err(|error| error.to_string()))
        })
        .await
    })
    .await
}

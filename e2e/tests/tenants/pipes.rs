//! Pipes over their life: they go live, keep the last good revision through a
//! broken change, use each other, and wait for what they miss.

use anyhow::{Result, ensure};
use aviary_e2e::support::{SALES, Scene, eventually, pipe, run};
use serde_json::{Value, json};

/// The shop with three sales; gives a token.
async fn shop(scene: &Scene) -> Result<String> {
    let token = scene.shop().await?;
    let rows = concat!(
        r#"{"id": 1, "city": "Bonn"}"#,
        "\n",
        r#"{"id": 2, "city": "Bonn"}"#,
        "\n",
        r#"{"id": 3, "city": "Oslo"}"#,
        "\n",
    );
    let taken = scene.gateway.events("sales", &token, rows).await?;
    ensure!(taken == (3, 0), "{taken:?}");
    Ok(token)
}

/// Waits until the endpoint answers this one row.
async fn answers(scene: &Scene, name: &str, token: &str, row: Value) -> Result<()> {
    eventually(&format!("{name} answers {row}"), async || {
        let answer = scene
            .gateway
            .get(&format!("/v0/pipes/{name}.json"), token)
            .await?;
        let body = answer.json()?;
        Ok(match body["data"].as_array().map(Vec::as_slice) {
            Some([only]) if *only == row => Ok(()),
            _ => Err(answer.to_string()),
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_change_leaves_the_last_good_revision_live() -> Result<()> {
    run("broken", |scene| async move {
        let token = shop(&scene).await?;
        scene
            .apply(&pipe("total", "SELECT count() AS n FROM sales"))
            .await?;
        scene.ready("Pipe", "total").await?;
        answers(&scene, "total", &token, json!({"n": 3})).await?;

        scene
            .apply(&pipe(
                "total",
                "SELECT count(no_such_column) AS n FROM sales",
            ))
            .await?;
        let message = scene
            .reason("Pipe", "total", "Published", "ClickHouseRefused")
            .await?;
        ensure!(message.contains("no_such_column"), "{message}");
        let broken = scene.condition("Pipe", "total", "Ready", "False").await?;
        ensure!(broken.data["status"]["published"]["generation"] == 1);
        answers(&scene, "total", &token, json!({"n": 3})).await?;

        // What cannot even be parsed is no worse.
        scene
            .apply(&pipe("total", "SELECT {{ Int32( }} FROM sales"))
            .await?;
        scene
            .condition("Pipe", "total", "Published", "False")
            .await?;
        answers(&scene, "total", &token, json!({"n": 3})).await?;

        scene
            .apply(&pipe("total", "SELECT count() + 1 AS n FROM sales"))
            .await?;
        scene.ready("Pipe", "total").await?;
        scene
            .condition("Pipe", "total", "Published", "True")
            .await?;
        answers(&scene, "total", &token, json!({"n": 4})).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_never_worked_is_not_served_until_it_does() -> Result<()> {
    run("never", |scene| async move {
        let token = shop(&scene).await?;
        scene
            .apply(&pipe("total", "SELECT count(oops) AS n FROM sales"))
            .await?;
        scene
            .reason("Pipe", "total", "Published", "ClickHouseRefused")
            .await?;
        let answer = scene.gateway.get("/v0/pipes/total.json", &token).await?;
        ensure!(answer.status == 404, "{answer}");

        scene
            .apply(&pipe("total", "SELECT count() AS n FROM sales"))
            .await?;
        scene.ready("Pipe", "total").await?;
        answers(&scene, "total", &token, json!({"n": 3})).await?;

        scene.delete("Pipe", "total").await?;
        eventually("the endpoint goes with its pipe", async || {
            let answer = scene.gateway.get("/v0/pipes/total.json", &token).await?;
            Ok((answer.status == 404)
                .then_some(())
                .ok_or(answer.to_string()))
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_uses_another_and_follows_its_changes() -> Result<()> {
    run("uses", |scene| async move {
        let token = shop(&scene).await?;
        scene
            .apply(&pipe("bonn", "SELECT id FROM sales WHERE city = 'Bonn'"))
            .await?;
        scene
            .apply(&pipe("total", "SELECT count() AS n FROM bonn"))
            .await?;
        scene.ready("Pipe", "total").await?;
        answers(&scene, "total", &token, json!({"n": 2})).await?;

        scene
            .apply(&pipe("bonn", "SELECT id FROM sales WHERE city = 'Oslo'"))
            .await?;
        answers(&scene, "total", &token, json!({"n": 1})).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_steps_and_unpublished_ones_are_not_served() -> Result<()> {
    run("nodes", |scene| async move {
        let token = shop(&scene).await?;
        scene
            .apply(
                "
apiVersion: aviary.dev/v1alpha1
kind: Pipe
metadata: {name: by-city}
spec:
  workspace: shop
  nodes:
    - {name: counted, sql: 'SELECT city, count() AS n FROM sales GROUP BY city'}
    - {name: largest, sql: 'SELECT city, n FROM counted ORDER BY n DESC LIMIT 1'}
  endpoint: {node: largest}
",
            )
            .await?;
        let ready = scene.ready("Pipe", "by-city").await?;
        let endpoint = &ready.data["status"]["endpoint"];
        ensure!(endpoint == "/v0/pipes/by_city.json", "{endpoint}");
        answers(&scene, "by_city", &token, json!({"city": "Bonn", "n": 2})).await?;
        let answer = scene.gateway.get("/v0/pipes/counted.json", &token).await?;
        ensure!(answer.status == 404, "{answer}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_is_reported_on_each_pipe_and_cured() -> Result<()> {
    run("cycle", |scene| async move {
        let token = shop(&scene).await?;
        scene.apply(&pipe("one", "SELECT * FROM two")).await?;
        scene.apply(&pipe("two", "SELECT * FROM one")).await?;
        for name in ["one", "two"] {
            let message = scene
                .reason("Pipe", name, "Ready", "DependencyCycle")
                .await?;
            ensure!(
                message.contains("one") && message.contains("two"),
                "{message}"
            );
        }
        scene
            .apply(&pipe("two", "SELECT count() AS n FROM sales"))
            .await?;
        scene.ready("Pipe", "one").await?;
        scene.ready("Pipe", "two").await?;
        answers(&scene, "one", &token, json!({"n": 3})).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_data_source_is_reported_and_cured_when_it_arrives() -> Result<()> {
    run("missing", |scene| async move {
        let token = shop(&scene).await?;
        scene
            .apply(&pipe("stock", "SELECT count() AS n FROM warehouse"))
            .await?;
        let message = scene
            .reason("Pipe", "stock", "Ready", "ReferenceNotFound")
            .await?;
        ensure!(message.contains("warehouse"), "{message}");

        scene
            .apply(&SALES.replace("{name: sales}", "{name: warehouse}"))
            .await?;
        scene.ready("Pipe", "stock").await?;
        answers(&scene, "stock", &token, json!({"n": 0})).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_arrival_does_not_matter() -> Result<()> {
    run("order", |scene| async move {
        scene
            .apply(&pipe("outer", "SELECT n FROM inner_pipe"))
            .await?;
        scene
            .apply(
                "
apiVersion: aviary.dev/v1alpha1
kind: AccessToken
metadata: {name: all}
spec: {workspace: shop, scopes: [{type: 'PIPES:READ', resource: '*'}]}
",
            )
            .await?;
        let message = scene
            .reason("Pipe", "outer", "Ready", "ReferenceNotFound")
            .await?;
        ensure!(message.contains("shop"), "{message}");
        scene
            .apply(&pipe("inner-pipe", "SELECT count() AS n FROM sales"))
            .await?;
        scene.apply(SALES).await?;
        scene.workspace("shop").await?;
        for (kind, name) in [
            ("Workspace", "shop"),
            ("DataSource", "sales"),
            ("Pipe", "inner-pipe"),
            ("Pipe", "outer"),
            ("AccessToken", "all"),
        ] {
            scene.ready(kind, name).await?;
        }
        let token = scene.token_value("all").await?;
        answers(&scene, "outer", &token, json!({"n": 0})).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_must_not_take_the_name_of_a_data_source() -> Result<()> {
    run("shadow", |scene| async move {
        let token = shop(&scene).await?;
        scene
            .apply(
                "
apiVersion: aviary.dev/v1alpha1
kind: Pipe
metadata: {name: shadow}
spec:
  workspace: shop
  nodes: [{name: sales, sql: SELECT 1 AS n}]
  endpoint: {node: sales}
",
            )
            .await?;
        let message = scene.reason("Pipe", "shadow", "Ready", "Invalid").await?;
        ensure!(message.contains("nodes[sales]"), "{message}");
        let answer = scene.gateway.get("/v0/pipes/shadow.json", &token).await?;
        ensure!(answer.status == 404, "{answer}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_objects_with_one_name_the_older_keeps_it() -> Result<()> {
    run("conflict", |scene| async move {
        let token = shop(&scene).await?;
        // A pipe and a data source share one name space: both are tables to SQL.
        scene.apply(&pipe("sales", "SELECT 1 AS n")).await?;
        let message = scene
            .reason("Pipe", "sales", "Ready", "NameConflict")
            .await?;
        ensure!(message.contains("sales"), "{message}");
        scene.ready("DataSource", "sales").await?;
        scene.delete("DataSource", "sales").await?;
        scene.ready("Pipe", "sales").await?;
        answers(&scene, "sales", &token, json!({"n": 1})).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_follows_the_shape_of_its_data_source() -> Result<()> {
    run("follows", |scene| async move {
        let token = shop(&scene).await?;
        scene
            .apply(&pipe("notes", "SELECT count(note) AS n FROM sales"))
            .await?;
        scene
            .reason("Pipe", "notes", "Published", "ClickHouseRefused")
            .await?;
        scene
            .apply(&SALES.replace(
                "  sortingKey",
                "    - {name: note, type: Nullable(String)}\n  sortingKey",
            ))
            .await?;
        scene.ready("Pipe", "notes").await?;
        answers(&scene, "notes", &token, json!({"n": 0})).await
    })
    .await
}

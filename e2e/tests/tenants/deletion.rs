//! What becomes of data when its object goes: the object's last word counts, whatever was true
//! a second before, and whether ClickHouse is there to hear it or not.

use anyhow::{Context as _, Result, ensure};
use aviary_e2e::support::{Cluster, Engines, SALES, Scene, eventually, run};
use kube::api::DeleteParams;
use serde_json::{Value, json};

fn policy(policy: &str) -> Value {
    json!({"spec": {"deletionPolicy": policy}})
}

/// Changes the policy and deletes the object before anybody can have looked at the change.
async fn change_and_delete(scene: &Scene, kind: &str, name: &str, word: &str) -> Result<()> {
    scene.patch(kind, name, policy(word)).await?;
    let deleted = scene.api(kind).delete(name, &DeleteParams::default()).await;
    deleted.map(drop).context("delete at once")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_his_mind_in_the_same_second_keeps_his_data() -> Result<()> {
    run("mind", |scene| async move {
        let token = scene.shop().await?;
        scene.patch("DataSource", "sales", policy("Delete")).await?;
        let is_held = |object: &kube::api::DynamicObject| object.metadata.finalizers.is_some();
        scene.until("DataSource", "sales", "held", is_held).await?;
        let row = "{\"id\": 1, \"city\": \"Bonn\"}\n";
        scene.gateway.events("sales", &token, row).await?;

        change_and_delete(&scene, "DataSource", "sales", "Retain").await?;
        scene.event("shop", "Released").await?;
        ensure!(scene.count("shop", "sales").await? == 1);

        change_and_delete(&scene, "Workspace", "shop", "Retain").await?;
        let users = format!(
            "SELECT count() FROM system.users WHERE startsWith(name, '{}__')",
            scene.database("shop")
        );
        eventually("the users are gone", async || {
            let left = scene.clickhouse.number(&users).await?;
            Ok((left == 0).then_some(()).ok_or(left.to_string()))
        })
        .await?;
        ensure!(scene.count("shop", "sales").await? == 1);

        // The same objects again find their rows; the last word is the other one this time. Applied
        // any sooner, they would be those that are on their way out.
        scene.gone("DataSource", "sales").await?;
        scene.gone("Workspace", "shop").await?;
        scene.shop().await?;
        ensure!(scene.count("shop", "sales").await? == 1);
        scene.delete("Workspace", "shop").await?;
        let there = format!(
            "SELECT count() FROM system.databases WHERE name = '{}'",
            scene.database("shop")
        );
        ensure!(scene.clickhouse.number(&there).await? == 0);
        Ok(())
    })
    .await
}

/// A cluster of the namespace's own engine, a workspace on it that keeps its database, and a data
/// source in it.
async fn on_an_engine_of_its_own(scene: &Scene) -> Result<()> {
    let own = Cluster::of_pods(scene, "own", "engine", 1);
    scene.apply(&own.manifest()).await?;
    scene
        .apply("{apiVersion: aviary.dev/v1alpha1, kind: Workspace, metadata: {name: shop}, spec: {clusterRef: {name: own}}}")
        .await?;
    scene.apply(SALES).await?;
    scene.ready("DataSource", "sales").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_outlives_its_object_while_clickhouse_is_away() -> Result<()> {
    run("away", |scene| async move {
        let engines = Engines {
            replicas: 1,
            disk: "400Mi",
            arguments: &[],
        };
        let engine = &scene.engines(&engines).await?[0];
        on_an_engine_of_its_own(&scene).await?;
        let other = SALES.replace("name: sales", "name: kept");
        scene.apply(&other).await?;
        for name in ["sales", "kept"] {
            scene.patch("DataSource", name, policy("Delete")).await?;
            let is_held = |object: &kube::api::DynamicObject| object.metadata.finalizers.is_some();
            scene.until("DataSource", name, "held", is_held).await?;
        }
        scene.ready("DataSource", "kept").await?;
        for name in ["sales", "kept"] {
            let table = scene.table("shop", name);
            engine
                .query(&format!("INSERT INTO {table} VALUES (1, 'Bonn')"))
                .await?;
        }
        scene.scale("engine", 0).await?;

        // One changes his mind, one does not, and neither waits for ClickHouse to come back.
        change_and_delete(&scene, "DataSource", "kept", "Retain").await?;
        scene.delete("DataSource", "sales").await?;
        scene
            .reason("ClickHouseCluster", "own", "CleanedUp", "DropPending")
            .await?;
        let pending = scene.api("ClickHouseCluster").get("own").await?.data["status"].clone();
        let pending = &pending["pendingDrops"];
        let owner = format!("{}/sales", scene.namespace);
        ensure!(pending[0]["owner"] == json!(owner), "{pending}");
        ensure!(pending.as_array().map(Vec::len) == Some(1), "{pending}");

        scene.scale("engine", 1).await?;
        scene
            .condition("ClickHouseCluster", "own", "CleanedUp", "True")
            .await?;
        let tables = format!(
            "SELECT arrayStringConcat(arraySort(groupArray(name)), ',') FROM system.tables WHERE database = '{}'",
            scene.database("shop")
        );
        let tables = engine.query(&tables).await?;
        ensure!(tables == "kept,kept_quarantine", "{tables}");
        ensure!(engine.number(&format!("SELECT count() FROM {}", scene.table("shop", "kept"))).await? == 1);
        Ok(())
    })
    .await
}

/// Who takes a finalizer off by force takes the word back that it stood for.
#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_taken_off_by_force_keeps_the_data() -> Result<()> {
    run("force", |scene| async move {
        let engines = Engines {
            replicas: 1,
            disk: "400Mi",
            arguments: &[],
        };
        let engine = &scene.engines(&engines).await?[0];
        on_an_engine_of_its_own(&scene).await?;
        scene.patch("DataSource", "sales", policy("Delete")).await?;
        let is_held = |object: &kube::api::DynamicObject| object.metadata.finalizers.is_some();
        scene.until("DataSource", "sales", "held", is_held).await?;
        scene.scale("engine", 0).await?;
        let api = scene.api("DataSource");
        api.delete("sales", &DeleteParams::default()).await?;
        let nothing = json!({"metadata": {"finalizers": null}});
        scene.patch("DataSource", "sales", nothing).await?;
        scene.scale("engine", 1).await?;
        engine.answers().await?;
        let told = scene.event("shop", "Released").await?;
        ensure!(told.contains("keep the table sales"), "{told}");
        let exists = format!("EXISTS {}", scene.table("shop", "sales"));
        ensure!(engine.query(&exists).await? == "1");
        Ok(())
    })
    .await
}

//! Several replicas: what a cluster says of their replication, and how one that was
//! away catches up. Replication itself is real, of servers that are too old for
//! workspaces; workspaces are on engines whose replicated tables stay read-only.

use anyhow::{Context as _, Result, ensure};
use aviary_e2e::cluster::Target;
use aviary_e2e::product;
use aviary_e2e::support::replicated::{SERVER, ZOOKEEPER, servers, zookeeper};
use aviary_e2e::support::{
    ClickHouse, Cluster, ENGINE_ADMIN, Engines, SALES, Scene, eventually, pipe, run, workspace_on,
};
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// The cluster `pair` of this namespace: two pods of a StatefulSet, behind its Service.
fn pair(scene: &Scene, set: &str, secret: &str) -> String {
    Cluster::of_pods(scene, "pair", set, 2)
        .secret(secret)
        .with("replicaHealth", json!({"maxDelay": "3s"}))
        .manifest()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_says_how_replication_is() -> Result<()> {
    run("replication", |scene| async move {
        zookeeper(&scene).await?;
        let servers = servers(&scene).await?;
        scene.apply(&pair(&scene, SERVER, SERVER)).await?;
        scene.ready("ClickHouseCluster", "pair").await?;
        replicated_table(&servers).await?;
        it_is_well(&scene, &servers[0]).await?;
        rows_that_are_not_fetched(&scene, &servers).await?;
        a_server_that_is_away(&scene, &servers).await?;
        no_zookeeper(&scene, &servers).await
    })
    .await
}

/// The same table on both, by plain SQL.
async fn replicated_table(servers: &[ClickHouse; 2]) -> Result<()> {
    for (server, replica) in servers.iter().zip(["r1", "r2"]) {
        let table = format!(
            "CREATE TABLE default.visits (day Date DEFAULT today(), visitor UInt64) \
             ENGINE = ReplicatedMergeTree('/clickhouse/tables/visits', '{replica}') PARTITION BY day ORDER BY visitor"
        );
        server.query(&table).await?;
    }
    visit(servers, 1).await?;
    arrived(&servers[1], 1).await
}

/// A row comes to the first server.
async fn visit(servers: &[ClickHouse; 2], visitor: u64) -> Result<()> {
    let insert = format!("INSERT INTO default.visits (visitor) VALUES ({visitor})");
    servers[0].query(&insert).await.map(drop)
}

/// Waits until the server has as many rows.
async fn arrived(server: &ClickHouse, rows: u64) -> Result<()> {
    eventually(&format!("{rows} rows arrive"), async || {
        let there = server.number("SELECT count() FROM default.visits").await?;
        Ok((there == rows).then_some(()).ok_or(format!("{there}")))
    })
    .await
}

async fn it_is_well(scene: &Scene, server: &ClickHouse) -> Result<()> {
    let cluster = all_healthy(scene).await?;
    let status = &cluster.data["status"];
    let version = server.query("SELECT version()").await?;
    ensure!(status["version"] == json!(version), "{status}");
    let replication = json!({"tables": 1, "readOnly": 0, "maxDelaySeconds": 0, "queue": 0});
    for index in 0..2 {
        let replica = &status["replicas"][index];
        ensure!(replica["replication"] == replication, "{replica}");
    }
    let namespace = scene.namespace.as_str();
    let listed = ["get", "clickhouseclusters", "pair", "-n", namespace];
    let listed = product::kubectl(&Target::from_environment(), &listed).await?;
    ensure!(
        listed.contains("2/2") && listed.contains(&version),
        "{listed}"
    );
    Ok(())
}

/// Waits until both replicas have their table and nothing is wrong with them.
async fn all_healthy(scene: &Scene) -> Result<DynamicObject> {
    let what = "two healthy replicas with a table each";
    scene
        .until("ClickHouseCluster", "pair", what, |cluster| {
            let status = &cluster.data["status"];
            let well = condition(status, "ReplicasHealthy")["reason"] == "AllHealthy";
            let tables =
                (0..2).all(|index| status["replicas"][index]["replication"]["tables"] == 1);
            well && tables && status["healthyReplicas"] == "2/2"
        })
        .await
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array();
    let mut found = conditions.into_iter().flatten();
    found
        .find(|one| one["type"] == kind)
        .unwrap_or(&Value::Null)
}

/// Waits until `ReplicasHealthy` has this reason; gives its message, which the event has as well.
async fn sick(scene: &Scene, reason: &str) -> Result<String> {
    let message = scene
        .reason("ClickHouseCluster", "pair", "ReplicasHealthy", reason)
        .await?;
    let event = scene.event("pair", reason).await?;
    ensure!(event.contains("`server-"), "{event}");
    // Whoever can be asked something is asked: nothing of this takes the cluster away.
    scene.ready("ClickHouseCluster", "pair").await?;
    Ok(message)
}

async fn rows_that_are_not_fetched(scene: &Scene, servers: &[ClickHouse; 2]) -> Result<()> {
    servers[1]
        .query("SYSTEM STOP FETCHES default.visits")
        .await?;
    visit(servers, 2).await?;
    let message = sick(scene, "ReplicaDelayed").await?;
    ensure!(
        message == "`server-1` is 3s or more behind the others",
        "{message}"
    );
    servers[1]
        .query("SYSTEM START FETCHES default.visits")
        .await?;
    arrived(&servers[1], 2).await?;
    all_healthy(scene).await?;
    scene.event("pair", "AllHealthy").await.map(drop)
}

async fn a_server_that_is_away(scene: &Scene, servers: &[ClickHouse; 2]) -> Result<()> {
    scene.scale(SERVER, 1).await?;
    visit(servers, 3).await?;
    let message = sick(scene, "ReplicaUnreachable").await?;
    ensure!(
        message.starts_with("`server-1`: cannot be reached") && !message.contains("server-0"),
        "{message}"
    );
    let status = scene.api("ClickHouseCluster").get("pair").await?.data["status"].clone();
    ensure!(status["healthyReplicas"] == "1/2", "{status}");
    ensure!(status["replicas"][1]["reachable"] == false, "{status}");
    scene.scale(SERVER, 2).await?;
    servers[1].answers().await?;
    arrived(&servers[1], 3).await?;
    all_healthy(scene).await.map(drop)
}

async fn no_zookeeper(scene: &Scene, servers: &[ClickHouse; 2]) -> Result<()> {
    scene.scale(ZOOKEEPER, 0).await?;
    let message = sick(scene, "ReplicaReadOnly").await?;
    let what = "1 of 1 replicated tables read-only: it has lost its session with Keeper";
    ensure!(message.contains(what), "{message}");
    let both = "both are read-only";
    scene
        .until("ClickHouseCluster", "pair", both, |cluster| {
            let replicas = &cluster.data["status"]["replicas"];
            (0..2).all(|index| replicas[index]["replication"]["readOnly"] == 1)
        })
        .await?;
    ensure!(
        visit(servers, 4).await.is_err(),
        "a read-only table takes rows"
    );
    scene.scale(ZOOKEEPER, 1).await?;
    all_healthy(scene).await?;
    visit(servers, 5).await?;
    arrived(&servers[1], 4).await
}

/// What a replica has of the workspace: tables and views, and what its users are held to.
async fn catalog(scene: &Scene, engine: &ClickHouse) -> Result<String> {
    let database = scene.database("shop");
    let tables = format!(
        "SELECT name, engine FROM system.tables WHERE database = '{database}' ORDER BY name"
    );
    let memory = "SELECT value FROM system.settings_profile_elements WHERE setting_name = 'max_memory_usage' ORDER BY value";
    let (tables, memory) = (engine.query(&tables).await?, engine.query(memory).await?);
    Ok(format!("{tables}\n{memory}"))
}

/// A data source with nothing but an `id`, whose table goes with it.
fn data_source(name: &str) -> String {
    format!(
        "
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {{name: {name}}}
spec:
  workspace: shop
  columns: [{{name: id, type: Int32}}]
  sortingKey: [id]
  deletionPolicy: Delete
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_replica_catches_up() -> Result<()> {
    run("replicas", |scene| async move {
        zookeeper(&scene).await?;
        let engines = Engines {
            replicas: 2,
            disk: "400Mi",
            arguments: &[
                "--macro=shard=01",
                "--macro=replica=$(POD_NAME)",
                "--zookeeper=zookeeper:2181",
            ],
        };
        let engines = scene.engines(&engines).await?;
        scene.apply(&pair(&scene, "engine", ENGINE_ADMIN)).await?;
        let token = shop_on_the_pair(&scene, &engines).await?;
        let before = catalog(&scene, &engines[1]).await?;

        scene.scale("engine", 1).await?;
        // Another is in trouble as well, its tables being read-only; the worst names the condition.
        let message = scene
            .reason(
                "ClickHouseCluster",
                "pair",
                "ReplicasHealthy",
                "ReplicaUnreachable",
            )
            .await?;
        ensure!(
            message.starts_with("`engine-1`: cannot be reached"),
            "{message}"
        );
        change_the_shop(&scene).await?;
        the_living_have_it(&scene, &engines[0], &token).await?;
        the_dead_is_said_to_lack_it(&scene).await?;

        scene.scale("engine", 2).await?;
        for (kind, name) in [
            ("Workspace", "shop"),
            ("DataSource", "returns"),
            ("Pipe", "returned"),
        ] {
            scene.ready(kind, name).await?;
        }
        let caught_up = catalog(&scene, &engines[1]).await?;
        ensure!(caught_up != before, "nothing has changed: {before}");
        ensure!(
            caught_up == catalog(&scene, &engines[0]).await?,
            "the replicas differ: {caught_up}"
        );
        let urls = served_from(&scene).await?;
        ensure!(urls.len() == 2, "{urls:?}");
        read_only_tables_wait(&scene, &token).await
    })
    .await
}

/// The workspace `shop` with data sources and an endpoint, on both engines; gives a token.
async fn shop_on_the_pair(scene: &Scene, engines: &[ClickHouse]) -> Result<String> {
    scene.apply(&workspace_on("pair", "shop")).await?;
    scene.apply(SALES).await?;
    scene.apply(&data_source("drafts")).await?;
    scene
        .apply(&pipe("total", "SELECT count() AS n FROM sales"))
        .await?;
    let token = scene.token("shop", "all").await?;
    for (kind, name) in [
        ("Workspace", "shop"),
        ("DataSource", "sales"),
        ("DataSource", "drafts"),
        ("Pipe", "total"),
    ] {
        scene.ready(kind, name).await?;
    }
    scene.gateway.serves("total", &token).await?;
    let whole = catalog(scene, &engines[0]).await?;
    ensure!(
        whole.contains("sales\tReplicatedMergeTree") && whole.contains("drafts"),
        "{whole}"
    );
    let other = catalog(scene, &engines[1]).await?;
    ensure!(whole == other, "the replicas differ: {whole}\n{other}");
    let urls = served_from(scene).await?;
    ensure!(urls.len() == 2, "{urls:?}");
    Ok(token)
}

/// What a replica can miss: a new data source, an endpoint on it, a data source less, a new limit.
async fn change_the_shop(scene: &Scene) -> Result<()> {
    scene.apply(&data_source("returns")).await?;
    scene
        .apply(&pipe("returned", "SELECT count() AS n FROM returns"))
        .await?;
    scene.delete("DataSource", "drafts").await?;
    let limit = json!({"spec": {"limits": {"queryMemory": "1Gi"}}});
    scene.patch("Workspace", "shop", limit).await.map(drop)
}

/// Who has nothing to do with the dead replica is not held up by it.
async fn the_living_have_it(scene: &Scene, engine: &ClickHouse, token: &str) -> Result<()> {
    scene.ready("Pipe", "returned").await?;
    scene.gateway.serves("returned", token).await?;
    for endpoint in ["total", "returned"] {
        let rows = scene.gateway.rows(endpoint, "", token).await?;
        ensure!(rows == [json!({"n": 0})], "{endpoint}: {rows:?}");
    }
    eventually("the living replica has every change", async || {
        let there = catalog(scene, engine).await?;
        let right = there.contains("returns\t") && !there.contains("drafts");
        let right = right && there.ends_with(&(1_u64 << 30).to_string());
        Ok(right.then_some(()).ok_or(there))
    })
    .await?;
    scene.workspace("elsewhere").await?;
    scene.ready("Workspace", "elsewhere").await.map(drop)
}

async fn the_dead_is_said_to_lack_it(scene: &Scene) -> Result<()> {
    let lacking = "`engine-1` lacks it: it did not answer its last probe";
    for (kind, name) in [("DataSource", "returns"), ("Workspace", "shop")] {
        for condition in ["Applied", "Ready"] {
            let message = scene
                .reason(kind, name, condition, "ClickHouseUnreachable")
                .await?;
            ensure!(message == lacking, "{kind} {condition}: {message}");
        }
        scene.condition(kind, name, "Reconciling", "True").await?;
    }
    // What it had when it went is not said to be lacking.
    scene.ready("DataSource", "sales").await?;
    let urls = served_from(scene).await?;
    let living = format!("http://engine-0.engine.{}:8123", scene.namespace);
    ensure!(urls == [living], "{urls:?}");
    Ok(())
}

/// The engine's replicated tables are read-only, as everybody's are while Keeper is away: a new
/// column waits, says where it is lacking, and takes nothing away.
async fn read_only_tables_wait(scene: &Scene, token: &str) -> Result<()> {
    let city = "- {name: city, type: String}";
    let wider = SALES.replace(city, &format!("{city}\n    - {{name: note, type: String}}"));
    ensure!(wider != SALES, "no column was added");
    scene.apply(&wider).await?;
    let message = scene
        .reason("DataSource", "sales", "Applied", "ClickHouseBusy")
        .await?;
    for replica in ["engine-0", "engine-1"] {
        let lacking = format!("`{replica}` lacks it: ClickHouse: Table is in readonly mode");
        ensure!(message.contains(&lacking), "{message}");
    }
    scene
        .condition("DataSource", "sales", "Reconciling", "True")
        .await?;
    let published = scene.api("DataSource").get("sales").await?.data["status"]["published"].clone();
    let columns = published["columns"].as_array().map(Vec::len);
    ensure!(columns == Some(2), "{published}");
    let rows = scene.gateway.rows("total", "", token).await?;
    ensure!(rows == [json!({"n": 0})], "{rows:?}");
    Ok(())
}

/// Where gateways read the workspace from.
async fn served_from(scene: &Scene) -> Result<Vec<String>> {
    let workspace = scene.api("Workspace").get("shop").await?;
    let urls = workspace.data["status"]["published"]["replicaUrls"].clone();
    serde_json::from_value(urls).context("read the published addresses")
}

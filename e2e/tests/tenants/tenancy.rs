//! Clusters and who may be on them: admission of namespaces, credentials,
//! clusters that do not answer, and disks that fill up.

use anyhow::{Context as _, Result, ensure};
use aviary_e2e::cluster::HOST_ADDRESS;
use aviary_e2e::support::{
    ClickHouse, Cluster, ENGINE_ADMIN, Engines, Scene, eventually, run, workspace_on,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_admits_its_own_namespace_unless_it_says_more() -> Result<()> {
    run("host", |host| async move {
        host.engine_credentials().await?;
        host.apply(&Cluster::shared_engine("gated").manifest())
            .await?;
        host.ready("ClickHouseCluster", "gated").await?;
        host.apply(&workspace_on("gated", "home")).await?;
        host.ready("Workspace", "home").await?;

        let host_namespace = host.namespace.clone();
        run("guest", |guest| async move {
            let visit = json!({
                "apiVersion": "aviary.dev/v1alpha1",
                "kind": "Workspace",
                "metadata": {"name": "visit"},
                "spec": {
                    "clusterRef": {"name": "gated", "namespace": host_namespace},
                    "deletionPolicy": "Delete",
                },
            });
            guest.apply(&visit.to_string()).await?;
            let message = guest
                .reason("Workspace", "visit", "Ready", "NamespaceNotAllowed")
                .await?;
            ensure!(message.contains("gated"), "{message}");

            let allow = |from: Value| {
                host.patch(
                    "ClickHouseCluster",
                    "gated",
                    json!({"spec": {"allowedNamespaces": from}}),
                )
            };
            allow(json!({"from": "Selector", "selector": {"matchLabels": {"guest": "yes"}}}))
                .await?;
            guest
                .reason("Workspace", "visit", "Ready", "NamespaceNotAllowed")
                .await?;
            label(&guest, json!({"guest": "yes"})).await?;
            guest.ready("Workspace", "visit").await?;

            // Who is in already and may be no longer is told, and keeps what is there.
            allow(json!({"from": "Same", "selector": null})).await?;
            guest
                .reason("Workspace", "visit", "Ready", "NamespaceNotAllowed")
                .await?;
            let database = guest.database("visit");
            let there = format!("SELECT count() FROM system.databases WHERE name = '{database}'");
            ensure!(
                guest.clickhouse.number(&there).await? == 1,
                "the database is gone"
            );

            allow(json!({"from": "All", "selector": null})).await?;
            guest.ready("Workspace", "visit").await.map(drop)
        })
        .await
    })
    .await
}

async fn label(scene: &Scene, labels: Value) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    namespaces
        .patch(&scene.namespace, &PatchParams::default(), &patch)
        .await
        .map(drop)
        .context("label the namespace")
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_reported_and_cured() -> Result<()> {
    run("credentials", |scene| async move {
        scene
            .apply(&Cluster::shared_engine("own").manifest())
            .await?;
        scene.apply(&workspace_on("own", "shop")).await?;
        for (kind, name) in [("ClickHouseCluster", "own"), ("Workspace", "shop")] {
            let message = scene
                .reason(kind, name, "Ready", "CredentialsInvalid")
                .await?;
            ensure!(message.contains("engine-admin"), "{kind}: {message}");
        }
        scene
            .secret(ENGINE_ADMIN, json!({"username": "default"}))
            .await?;
        let message = scene
            .until(
                "ClickHouseCluster",
                "own",
                "a message that names the key",
                |object| {
                    object.data["status"]["conditions"]
                        .to_string()
                        .contains("`password`")
                },
            )
            .await?;
        ensure!(
            message.data["status"]["conditions"]
                .to_string()
                .contains("CredentialsInvalid")
        );
        scene
            .secret(
                ENGINE_ADMIN,
                json!({"username": "default", "password": "not this one"}),
            )
            .await?;
        scene
            .condition("ClickHouseCluster", "own", "Ready", "False")
            .await?;
        scene.engine_credentials().await?;
        scene.ready("ClickHouseCluster", "own").await?;
        scene.ready("Workspace", "shop").await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_says_how_it_is() -> Result<()> {
    run("says", |scene| async move {
        scene.engine_credentials().await?;
        scene
            .apply(&Cluster::shared_engine("own").manifest())
            .await?;
        let status = scene.ready("ClickHouseCluster", "own").await?.data["status"].clone();
        let version = scene.clickhouse.query("SELECT version()").await?;
        ensure!(status["version"] == json!(version), "{status}");
        ensure!(status["healthyReplicas"] == "1/1", "{status}");
        let disk = &status["replicas"][0]["disks"][0];
        ensure!(
            disk["name"] == "default" && disk["freePercent"].as_i64() > Some(0),
            "{status}"
        );
        scene
            .condition("ClickHouseCluster", "own", "ReplicasHealthy", "True")
            .await?;
        scene
            .condition("ClickHouseCluster", "own", "DiskHeadroom", "True")
            .await?;
        Ok(())
    })
    .await
}

/// A Service without endpoints refuses connections; a listener that never reads lets them hang.
#[tokio::test(flavor = "multi_thread")]
async fn clusters_that_do_not_answer_hold_up_nobody_else() -> Result<()> {
    run("unreachable", |scene| async move {
        let hole =
            TcpListener::bind((HOST_ADDRESS, 0)).context("listen where pods reach this machine")?;
        let hole = format!("http://{}", hole.local_addr()?).leak();
        scene.engine_credentials().await?;
        scene
            .apply(
                "
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 8123}]}
",
            )
            .await?;
        let refusing = format!("http://nobody.{}:8123", scene.namespace);
        scene
            .apply(&Cluster::at("refusing", &refusing).manifest())
            .await?;
        scene
            .apply(&Cluster::at("hanging", hole).manifest())
            .await?;
        for index in 0..10 {
            scene
                .apply(&workspace_on("refusing", &format!("refused-{index}")))
                .await?;
            scene
                .apply(&workspace_on("hanging", &format!("hung-{index}")))
                .await?;
        }
        // While twenty workspaces try in vain, another becomes Ready at once.
        let started = Instant::now();
        scene.workspace("prompt").await?;
        scene.ready("Workspace", "prompt").await?;
        let took = started.elapsed();
        ensure!(
            took < Duration::from_secs(5),
            "a healthy workspace took {took:?}"
        );

        for name in ["refused-0", "refused-9", "hung-0", "hung-9"] {
            scene
                .reason("Workspace", name, "Ready", "ClickHouseUnreachable")
                .await?;
        }
        for name in ["refusing", "hanging"] {
            let message = scene
                .reason(
                    "ClickHouseCluster",
                    name,
                    "ReplicasHealthy",
                    "ReplicaUnreachable",
                )
                .await?;
            ensure!(message.contains('a'), "{message}");
        }
        Ok(())
        // That the namespace goes, with all of these in it, is what `every_namespace_goes` sees to.
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_whose_cluster_is_gone_can_be_deleted() -> Result<()> {
    run("gone", |scene| async move {
        scene.engine_credentials().await?;
        scene
            .apply(&Cluster::shared_engine("own").manifest())
            .await?;
        scene.apply(&workspace_on("own", "shop")).await?;
        scene.ready("Workspace", "shop").await?;
        scene.delete("ClickHouseCluster", "own").await?;
        let message = scene
            .reason("Workspace", "shop", "Ready", "ReferenceNotFound")
            .await?;
        ensure!(message.contains("own"), "{message}");
        let database = scene.database("shop");
        scene.delete("Workspace", "shop").await?;
        let event = scene.event("shop", "Released").await?;
        ensure!(event.contains(&database), "{event}");
        // It was said to be left behind: it is, until this test drops it.
        scene
            .clickhouse
            .query(&format!("DROP DATABASE `{database}`"))
            .await?;
        for user in ["reader", "writer"] {
            scene
                .clickhouse
                .query(&format!("DROP USER `{database}__{user}`"))
                .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_waits_for_its_cluster() -> Result<()> {
    run("waits", |scene| async move {
        scene.engine_credentials().await?;
        scene.apply(&workspace_on("own", "shop")).await?;
        scene
            .reason("Workspace", "shop", "Ready", "ReferenceNotFound")
            .await?;
        scene
            .apply(&Cluster::shared_engine("own").manifest())
            .await?;
        scene.ready("Workspace", "shop").await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_workspace_is_left_alone() -> Result<()> {
    run("paused", |scene| async move {
        scene.shop().await?;
        let paused =
            |value: Value| json!({"metadata": {"annotations": {"aviary.dev/paused": value}}});
        scene
            .patch("Workspace", "shop", paused(json!("true")))
            .await?;
        scene
            .until("Workspace", "shop", "Paused", |object| {
                object.data["status"]["conditions"]
                    .to_string()
                    .contains("Paused")
            })
            .await?;
        let column = json!({"spec": {"description": "changed while paused"}});
        scene.patch("DataSource", "sales", column).await?;
        let view = scene.table("shop", "sales__ingest");
        scene
            .clickhouse
            .query(&format!("DROP TABLE {view} SYNC"))
            .await?;
        scene
            .patch("Workspace", "shop", paused(Value::Null))
            .await?;
        scene.ready("DataSource", "sales").await?;
        scene.event("sales", "DriftRepaired").await.map(drop)
    })
    .await
}

/// A disk of its own is filled for real, and emptied again.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_noticed() -> Result<()> {
    run("disk", |scene| async move {
        let engines = Engines {
            replicas: 1,
            disk: "400Mi",
            arguments: &[],
        };
        let engine = &scene.engines(&engines).await?[0];
        let small = Cluster::of_pods(&scene, "small", "engine", 1)
            .with("diskHeadroom", json!({"warning": "60%", "critical": "30%"}));
        scene.apply(&small.manifest()).await?;
        scene.condition("ClickHouseCluster", "small", "DiskHeadroom", "True").await?;
        engine
            .query("CREATE TABLE default.ballast (data String CODEC(NONE)) ENGINE = MergeTree ORDER BY tuple()")
            .await?;
        for reason in ["DiskLow", "DiskCritical"] {
            fill_until(&scene, engine, reason).await?;
            let event = scene.event("small", reason).await?;
            ensure!(event.contains("default") && event.contains('%'), "{event}");
        }
        engine.query("DROP TABLE default.ballast SYNC").await?;
        scene.condition("ClickHouseCluster", "small", "DiskHeadroom", "True").await?;
        scene.event("small", "EnoughSpace").await.map(drop)
    })
    .await
}

/// Inserts 10 MB at a time until the cluster's condition has this reason.
async fn fill_until(scene: &Scene, engine: &ClickHouse, reason: &str) -> Result<()> {
    eventually(
        &format!("the disk is so full that it says {reason}"),
        async || {
            let cluster = scene.api("ClickHouseCluster").get("small").await?;
            let conditions = cluster.data["status"]["conditions"].to_string();
            if conditions.contains(reason) {
                return Ok(Ok(()));
            }
            let free = "SELECT free_space FROM system.disks WHERE name = 'default'";
            // The disk is not to be filled faster than its state can be seen.
            let free = engine.number(free).await?;
            let total = engine
                .number("SELECT total_space FROM system.disks WHERE name = 'default'")
                .await?;
            let below = if reason == "DiskLow" { 55 } else { 25 };
            if free * 100 > total * below {
                let rows =
                    "INSERT INTO default.ballast SELECT randomString(100000) FROM numbers(100)";
                engine.query(rows).await?;
            }
            Ok(Err(conditions))
        },
    )
    .await
}

/// Finalizers do not make anybody wait, and what was to be dropped is.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_everything_in_it_goes_quickly() -> Result<()> {
    run("whole", |scene| async move {
        scene.shop().await?;
        let namespaces: Api<Namespace> = Api::all(scene.client.clone());
        let started = Instant::now();
        namespaces
            .delete(&scene.namespace, &DeleteParams::default())
            .await?;
        eventually("the namespace is gone", async || {
            let left = namespaces.get_opt(&scene.namespace).await?;
            Ok(left.map_or(Ok(()), |namespace| Err(format!("{:?}", namespace.status))))
        })
        .await?;
        let took = started.elapsed();
        ensure!(took < Duration::from_secs(30), "it took {took:?}");
        let database = scene.database("shop");
        let left = format!("SELECT count() FROM system.databases WHERE name = '{database}'");
        ensure!(
            scene.clickhouse.number(&left).await? == 0,
            "the database is left"
        );
        Ok(())
    })
    .await
}

//! Objects that are deleted while no operator is there: what it finds when it is back is the
//! last word of those that waited for it, and nothing of those that did not.

use super::ALONE;
use anyhow::{Context as _, Result, ensure};
use aviary_crds::names;
use aviary_e2e::product;
use aviary_e2e::support::disruption;
use aviary_e2e::support::pods::Component;
use aviary_e2e::support::{SALES, Scene, eventually, run, run_alone};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use serde_json::json;

/// What an object's policy is before, what it says when it is deleted, and whether its data goes.
/// An object with `Retain` has nothing that holds it, so a change of mind that nobody saw is
/// never heard, and what is not heard drops nothing.
const FATES: [(&str, &str, &str, bool); 3] = [
    ("spared", "Delete", "Retain", false),
    ("doomed", "Delete", "Delete", true),
    ("unheard", "Retain", "Delete", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_no_operator_is_there() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("absent", |scene| async move {
        scene.workspace("shop").await?;
        for (name, policy, ..) in FATES {
            data_source(&scene, "shop", name, policy).await?;
            scene.apply(&workspace(name, policy)).await?;
            data_source(&scene, name, &format!("of-{name}"), "Retain").await?;
        }
        for (name, policy, ..) in FATES {
            for (kind, name) in [("DataSource", name), ("Workspace", name)] {
                let is_held = |object: &DynamicObject| {
                    object.metadata.finalizers.is_some() == (policy == "Delete")
                };
                scene.until(kind, name, "held or not", is_held).await?;
            }
        }
        run("unheld", |unheld| async move {
            unheld.apply(&workspace("kept", "Retain")).await?;
            data_source(&unheld, "kept", "of-kept", "Retain").await?;
            disruption::scale(&scene.client, Component::Operator, 0).await?;
            let absent = nobody_is_there(&scene, &unheld).await;
            disruption::scale(&scene.client, Component::Operator, 1).await?;
            absent?;
            somebody_is_there(&scene).await?;
            let kept = unheld.table("kept", "of_kept");
            ensure!(scene.clickhouse.query(&format!("EXISTS {kept}")).await? == "1");
            clear_away(&scene, "kept", &unheld.database("kept")).await
        })
        .await
    })
    .await
}

fn workspace(name: &str, policy: &str) -> String {
    let workspace = json!({
        "apiVersion": "aviary.dev/v1alpha1", "kind": "Workspace",
        "metadata": {"name": name},
        "spec": {
            "clusterRef": {"name": "shared", "namespace": "clickhouse"},
            "deletionPolicy": policy,
        },
    });
    workspace.to_string()
}

/// A data source with a row in its table.
async fn data_source(scene: &Scene, workspace: &str, name: &str, policy: &str) -> Result<()> {
    let sales = SALES
        .replace("name: sales", &format!("name: {name}"))
        .replace("workspace: shop", &format!("workspace: {workspace}"));
    scene
        .apply(&format!("{sales}  deletionPolicy: {policy}\n"))
        .await?;
    scene.ready("DataSource", name).await?;
    let table = scene.table(workspace, &name.replace('-', "_"));
    let row = format!("INSERT INTO {table} VALUES (1, 'Bonn')");
    scene.clickhouse.query(&row).await.map(drop)
}

/// The last words, and the deletions.
async fn nobody_is_there(scene: &Scene, unheld: &Scene) -> Result<()> {
    for (name, before, last, _) in FATES {
        for kind in ["DataSource", "Workspace"] {
            let policy = json!({"spec": {"deletionPolicy": last}});
            scene.patch(kind, name, policy).await?;
            let api = scene.api(kind);
            api.delete(name, &DeleteParams::default()).await?;
            let is_there = api.get_opt(name).await?.is_some();
            ensure!(
                is_there == (before == "Delete"),
                "{kind} {name}: {is_there}"
            );
        }
    }
    // What keeps its data holds no namespace, whoever is there.
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    let unheld = unheld.namespace.as_str();
    let deleted = namespaces.delete(unheld, &DeleteParams::default()).await;
    deleted.map(drop).context("delete the namespace")?;
    eventually("a namespace without anything to drop goes", async || {
        let left = namespaces.get_opt(unheld).await?;
        Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status))))
    })
    .await
}

/// Drops what was kept of a workspace, once the operator is done with it: the Secret that published
/// it goes last.
async fn clear_away(scene: &Scene, workspace: &str, database: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), product::NAMESPACE);
    let of_it = format!("{}={workspace}", names::LABEL_WORKSPACE);
    let of_it = ListParams::default().labels(&of_it);
    eventually(&format!("{workspace} is not published"), async || {
        let left = secrets.list(&of_it).await?.items.len();
        Ok((left == 0).then_some(()).ok_or(left.to_string()))
    })
    .await?;
    let dropped = format!("DROP DATABASE IF EXISTS `{database}` SYNC");
    scene.clickhouse.query(&dropped).await.map(drop)
}

async fn somebody_is_there(scene: &Scene) -> Result<()> {
    for (name, _, _, drops) in FATES {
        for kind in ["DataSource", "Workspace"] {
            let api = scene.api(kind);
            eventually(&format!("{kind} {name} is gone"), async || {
                let left = api.get_opt(name).await?;
                Ok(left.map_or(Ok(()), |left| Err(left.data.to_string())))
            })
            .await?;
        }
        let tables = [
            scene.table("shop", name),
            scene.table(name, &format!("of_{name}")),
        ];
        for table in tables {
            let there = scene.clickhouse.query(&format!("EXISTS {table}")).await?;
            ensure!(there == if drops { "0" } else { "1" }, "{table}: {there}");
            if !drops {
                let count = format!("SELECT count() FROM {table}");
                let rows = scene.clickhouse.number(&count).await?;
                ensure!(rows == 1, "{table} has {rows} rows");
            }
        }
        clear_away(scene, name, &scene.database(name)).await?;
    }
    // The workspace that was there all along goes on.
    scene.touch("Workspace", "shop").await?;
    scene.ready("Workspace", "shop").await.map(drop)
}

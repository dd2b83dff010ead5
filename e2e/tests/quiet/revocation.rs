//! A deleted token stops opening anything within a second: beside Secrets that cannot be made in
//! its own namespace, and while its workspace or its cluster is paused.

use crate::ALONE;
use crate::webhook::{Trouble, Webhook};
use anyhow::{Result, ensure};
use aviary_e2e::support::{Cluster, Scene, pipe, run_alone, workspace_on};
use futures::future::try_join_all;
use kube::api::DeleteParams;
use serde_json::json;
use std::time::{Duration, Instant};

/// The requirement.
const REVOKED: Duration = Duration::from_secs(1);
/// Tokens that are deleted in each of the situations.
const TOKENS: usize = 3;
/// Tokens that cannot be made beside them: more than the operator sends requests at once.
const NEW_TOKENS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_token_is_refused_within_a_second() -> Result<()> {
    let _alone = ALONE.lock().await;
    run_alone("revoked", |scene| async move {
        shop(&scene).await?;
        for (situation, trouble) in [("hangs", Trouble::Silent), ("refused", Trouble::Absent)] {
            let given = tokens(&scene, situation).await?;
            let webhook = Webhook::install(&scene, trouble).await?;
            let revoked = async {
                cannot_be_made(&scene, situation).await?;
                revoke(&scene, situation, &given).await
            };
            let revoked = revoked.await;
            webhook.remove().await?;
            revoked?;
        }
        for (kind, name, situation) in [
            ("Workspace", "shop", "workspace"),
            ("ClickHouseCluster", "own", "cluster"),
        ] {
            let given = tokens(&scene, situation).await?;
            pause(&scene, kind, name, true).await?;
            revoke(&scene, situation, &given).await?;
            pause(&scene, kind, name, false).await?;
        }
        Ok(())
    })
    .await
}

/// A workspace with an endpoint, on the shared engine under a name of the test's own.
async fn shop(scene: &Scene) -> Result<()> {
    scene.engine_credentials().await?;
    scene
        .apply(&Cluster::shared_engine("own").manifest())
        .await?;
    scene.apply(&workspace_on("own", "shop")).await?;
    scene.apply(&pipe("one", "SELECT 1 AS n")).await?;
    scene.ready("Pipe", "one").await.map(drop)
}

/// Tokens that the gateway knows, by name and value.
async fn tokens(scene: &Scene, situation: &str) -> Result<Vec<(String, String)>> {
    let made = (0..TOKENS).map(|index| async move {
        let name = format!("{situation}-{index}");
        let value = scene.token("shop", &name).await?;
        scene.gateway.serves("one", &value).await?;
        anyhow::Ok((name, value))
    });
    try_join_all(made).await
}

/// Applies tokens whose Secrets cannot be made.
async fn cannot_be_made(scene: &Scene, situation: &str) -> Result<()> {
    let name = |index: usize| format!("{situation}-new-{index}");
    let made = (0..NEW_TOKENS).map(|index| async move {
        let token = json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "AccessToken",
            "metadata": {"name": name(index)},
            "spec": {"workspace": "shop", "scopes": [{"type": "PIPES:READ", "resource": "*"}]},
        });
        scene.apply(&token.to_string()).await
    });
    try_join_all(made).await?;
    scene
        .condition("AccessToken", &name(0), "Ready", "False")
        .await
        .map(drop)
}

async fn pause(scene: &Scene, kind: &str, name: &str, is_paused: bool) -> Result<()> {
    let value = is_paused.then_some("true");
    let annotations = json!({"metadata": {"annotations": {"aviary.dev/paused": value}}});
    scene.patch(kind, name, annotations).await?;
    let what = format!("Paused is {is_paused}");
    let says_so = |object: &kube::api::DynamicObject| {
        let conditions = object.data["status"]["conditions"].to_string();
        conditions.contains("\"Paused\"") == is_paused
    };
    scene
        .until("Workspace", "shop", &what, says_so)
        .await
        .map(drop)
}

/// Deletes the tokens one after the other; each is refused within a second.
async fn revoke(scene: &Scene, situation: &str, given: &[(String, String)]) -> Result<()> {
    let mut times = Vec::new();
    for (name, value) in given {
        let begun = Instant::now();
        let api = scene.api("AccessToken");
        api.delete(name, &DeleteParams::default()).await?;
        loop {
            let answer = scene.gateway.get("/v0/pipes/one.json", value).await?;
            if matches!(answer.status, 401 | 403) {
                break;
            }
            let waited = begun.elapsed();
            ensure!(
                waited < REVOKED * 30,
                "{situation}: after {waited:?} {answer}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times.push(begun.elapsed());
    }
    eprintln!("{situation}: refused after {times:?}");
    ensure!(
        times.iter().all(|time| *time < REVOKED),
        "{situation}: deleted tokens were refused after {times:?}"
    );
    Ok(())
}

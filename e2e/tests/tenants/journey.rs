//! From manifests to answers, as a team would go it: apply, send, ask; and what it is told when it errs.

use anyhow::{Result, ensure};
use aviary_e2e::support::{Answer, ORDERS, run};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn from_manifests_to_answers() -> Result<()> {
    run("journey", |scene| async move {
        let token = scene.orders().await?;
        let workspace = scene
            .until("Workspace", "shop", "3/3 ready", |object| object.data["status"]["readyObjects"] == "3/3")
            .await?;
        ensure!(workspace.data["status"]["database"] == scene.database("shop"));
        let orders = scene.api("DataSource").get("orders").await?;
        let table = format!("{}.orders", scene.database("shop"));
        ensure!(orders.data["status"]["table"] == table, "{}", orders.data["status"]);

        let taken = scene.gateway.events("orders", &token, ORDERS).await?;
        ensure!(taken == (3, 0), "{taken:?}");
        let rows = scene.gateway.rows("by_city", "", &token).await?;
        let expected = json!([
            {"city": "Bonn", "orders": 2, "money": 3.5},
            {"city": "Oslo", "orders": 1, "money": 0.5},
        ]);
        ensure!(Value::Array(rows.clone()) == expected, "{rows:?}");
        let only = scene.gateway.rows("by_city", "city=Oslo", &token).await?;
        ensure!(only == [json!({"city": "Oslo", "orders": 1, "money": 0.5})], "{only:?}");

        let stored = format!(
            "SELECT groupArray((id, at, note, tags)) FROM (SELECT * FROM {} ORDER BY id)",
            scene.table("shop", "orders")
        );
        let stored = scene.clickhouse.query(&stored).await?;
        ensure!(
            stored == r#"[(1,'2024-05-01 10:00:00','first',['a','b']),(2,'2024-05-01 11:00:00',NULL,[]),(3,'2024-05-01 11:00:00','it\'s "quoted"',['c'])]"#,
            "{stored}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_right_status_and_a_stable_shape() -> Result<()> {
    run("errors", |scene| async move {
        let token = scene.orders().await?;
        scene
            .apply(
                "
apiVersion: aviary.dev/v1alpha1
kind: AccessToken
metadata: {name: reader}
spec: {workspace: shop, scopes: [{type: 'PIPES:READ', resource: by_city}]}
",
            )
            .await?;
        scene.ready("AccessToken", "reader").await?;
        let reader = scene.token_value("reader").await?;
        scene.gateway.serves("by_city", &reader).await?;
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        for (method, path, token, status, code) in [
            (&get, "/v0/pipes/by_city.json", "", 401, "token_missing"),
            (
                &get,
                "/v0/pipes/by_city.json",
                "aviary_wrong",
                401,
                "token_invalid",
            ),
            (&get, "/v0/pipes/other.json", &reader, 403, "scope_missing"),
            (
                &post,
                "/v0/events?name=orders",
                &reader,
                403,
                "scope_missing",
            ),
            (&get, "/v0/pipes/other.json", &token, 404, "pipe_unknown"),
            (
                &post,
                "/v0/events?name=other",
                &token,
                404,
                "datasource_unknown",
            ),
            (&get, "/v0/nothing", &token, 404, "route_unknown"),
            (
                &delete,
                "/v0/pipes/by_city.json",
                &token,
                405,
                "method_not_allowed",
            ),
            (
                &get,
                "/v0/events?name=orders",
                &token,
                405,
                "method_not_allowed",
            ),
            (&post, "/v0/events", &token, 400, "request_invalid"),
            (
                &post,
                "/v0/datasources?name=orders&format=xml",
                &token,
                400,
                "format_unknown",
            ),
        ] {
            let request = match token {
                "" => reqwest::Client::new()
                    .request(method.clone(), format!("{}{path}", scene.gateway.base())),
                token => scene.gateway.request(method.clone(), path, token),
            };
            let answer = Answer::of(request).await?;
            ensure!(
                (answer.status, answer.code().as_str()) == (status, code),
                "{method} {path}: {answer}"
            );
            let body = answer.json()?;
            ensure!(
                body["error"].is_string() && body["request_id"].is_string(),
                "{answer}"
            );
            ensure!(
                status != 405 || !answer.header("allow").is_empty(),
                "{answer:?}"
            );
            ensure!(
                status != 401 || !answer.header("www-authenticate").is_empty(),
                "{answer:?}"
            );
        }
        let answer = reqwest::get(format!(
            "{}/v0/pipes/by_city.json?token={reader}",
            scene.gateway.base()
        ))
        .await?;
        ensure!(
            answer.status() == 200,
            "a token in the URL: {}",
            answer.status()
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_brought_along_is_used_as_it_is() -> Result<()> {
    run("bring", |scene| async move {
        scene.shop().await?;
        scene
            .apply(
                "
apiVersion: v1
kind: Secret
metadata: {name: mine, labels: {aviary.dev/role: token}}
stringData: {token: a-value-from-a-vault-0123456789abcdef}
---
apiVersion: v1
kind: Secret
metadata: {name: taken}
stringData: {password: not a token}
---
apiVersion: aviary.dev/v1alpha1
kind: AccessToken
metadata: {name: mine}
spec: {workspace: shop, scopes: [{type: 'DATASOURCES:APPEND', resource: sales}]}
---
apiVersion: aviary.dev/v1alpha1
kind: AccessToken
metadata: {name: other}
spec: {workspace: shop, secretName: taken, scopes: [{type: 'PIPES:READ', resource: '*'}]}
",
            )
            .await?;
        scene.ready("AccessToken", "mine").await?;
        scene
            .gateway
            .takes("sales", "a-value-from-a-vault-0123456789abcdef")
            .await?;
        let message = scene
            .reason("AccessToken", "other", "Ready", "SecretConflict")
            .await?;
        ensure!(message.contains("taken"), "{message}");
        Ok(())
    })
    .await
}

//! A tenant reads and writes its own data only, through any door. ClickHouse's
//! grants see to it, so the doors behind the gateway are tried as well.

use anyhow::{Result, ensure};
use aviary_crds::published::ClickHouseUser;
use aviary_e2e::support::{SALES, Scene, eventually, pipe, run};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams};
use secrecy::ExposeSecret as _;
use serde_json::json;

/// ClickHouse's code for "not enough privileges".
const ACCESS_DENIED: u32 = 497;
/// Codes for what a user with no right to see it gets told instead: that it is not there, or that reading is all that is allowed.
const UNKNOWN_TABLE: u32 = 60;
const UNKNOWN_DATABASE: u32 = 81;
const READ_ONLY: u32 = 164;

/// Two tenants in one namespace, with one row each.
struct Tenants {
    scene: Scene,
    shop_token: String,
    rival_token: String,
}

impl Tenants {
    async fn create(scene: Scene) -> Result<Self> {
        let shop_token = scene.shop().await?;
        scene.workspace("rival").await?;
        let ledger = SALES
            .replace("{name: sales}", "{name: ledger}")
            .replace("workspace: shop", "workspace: rival");
        scene.apply(&ledger).await?;
        let rival_token = scene.token("rival", "rival").await?;
        scene.ready("DataSource", "ledger").await?;
        scene.gateway.takes("ledger", &rival_token).await?;
        for (data_source, token) in [("sales", &shop_token), ("ledger", &rival_token)] {
            let row = "{\"id\": 1, \"city\": \"Bonn\"}\n";
            let taken = scene.gateway.events(data_source, token, row).await?;
            ensure!(taken == (1, 0), "{data_source}: {taken:?}");
        }
        Ok(Self {
            scene,
            shop_token,
            rival_token,
        })
    }

    async fn reader(&self) -> Result<ClickHouseUser> {
        Ok(self.scene.access("shop").await?.reader)
    }

    async fn writer(&self) -> Result<ClickHouseUser> {
        Ok(self.scene.access("shop").await?.writer)
    }

    /// What ClickHouse answers the user when asked directly.
    async fn ask(&self, user: &ClickHouseUser, sql: &str) -> Result<String> {
        let clickhouse = &self.scene.clickhouse;
        clickhouse
            .query_as(&user.name, user.password.expose_secret(), sql)
            .await
    }

    /// With which code ClickHouse refuses the user.
    async fn refused(&self, user: &ClickHouseUser, sql: &str) -> Result<u32> {
        let clickhouse = &self.scene.clickhouse;
        clickhouse
            .refused_as(&user.name, user.password.expose_secret(), sql)
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_names_another_tenants_database_never_goes_live() -> Result<()> {
    run("isolation-pipe", |scene| async move {
        let tenants = Tenants::create(scene).await?;
        let scene = &tenants.scene;
        let rivals = scene.table("rival", "ledger");
        for (name, sql) in [
            ("direct", format!("SELECT * FROM {rivals}")),
            ("subquery", format!("SELECT id FROM sales WHERE id IN (SELECT id FROM {rivals})")),
            ("in-table", format!("SELECT id FROM sales WHERE id IN {rivals}")),
            (
                "merged",
                format!("SELECT * FROM merge('{}', '.*')", scene.database("rival")),
            ),
            ("chosen", format!("SELECT {{% if defined(x) %}} 1 {{% else %}} (SELECT max(id) FROM {rivals}) {{% end %}} AS n")),
        ] {
            scene.apply(&pipe(name, &sql)).await?;
            let refused = scene.stays_unready("Pipe", name).await?;
            let conditions = refused.data["status"]["conditions"].to_string();
            ensure!(refused.data["status"].get("published").is_none(), "{name} is published");
            // To merge() there is no table that it may see, so it has no name to give.
            ensure!(
                name == "merged" || conditions.contains(&scene.database("rival")),
                "{name}: {conditions}"
            );
            let path = format!("/v0/pipes/{}.json", name.replace('-', "_"));
            let answer = scene.gateway.get(&path, &tenants.shop_token).await?;
            ensure!(answer.status == 404, "{name}: {answer}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_reads_its_own_database_and_nothing_else() -> Result<()> {
    run("isolation-reader", |scene| async move {
        let tenants = Tenants::create(scene).await?;
        let (scene, reader) = (&tenants.scene, tenants.reader().await?);
        let (own, rivals) = (scene.table("shop", "sales"), scene.table("rival", "ledger"));
        let count = tenants.ask(&reader, &format!("SELECT count() FROM {own}")).await?;
        ensure!(count == "1", "{count}");

        let code = tenants.refused(&reader, &format!("SELECT * FROM {rivals}")).await?;
        ensure!(code == ACCESS_DENIED, "another database: {code}");
        let databases = "SELECT DISTINCT database FROM system.tables WHERE lower(database) NOT IN ('system', 'information_schema')";
        let databases = tenants.ask(&reader, databases).await?;
        ensure!(databases == scene.database("shop"), "sees {databases}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_cannot_write_or_reach_out() -> Result<()> {
    run("isolation-write", |scene| async move {
        let tenants = Tenants::create(scene).await?;
        let (scene, reader) = (&tenants.scene, tenants.reader().await?);
        let (database, own) = (scene.database("shop"), scene.table("shop", "sales"));
        for sql in [
            format!("INSERT INTO {own} VALUES (2, 'x')"),
            format!("INSERT INTO `{database}`.`sales__landing` (id) VALUES ('2')"),
            format!("ALTER TABLE {own} DELETE WHERE 1"),
            format!("TRUNCATE TABLE {own}"),
            format!("DROP TABLE {own}"),
            format!("CREATE TABLE `{database}`.mine (x UInt8) ENGINE = Memory"),
            format!("GRANT SELECT ON *.* TO `{database}__reader`"),
            "CREATE USER eve".to_owned(),
            "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'x String')".to_owned(),
            "SELECT * FROM file('/etc/passwd', 'LineAsString')".to_owned(),
            "SELECT * FROM remote('127.0.0.1:9000', system.one)".to_owned(),
            "SELECT * FROM s3('http://127.0.0.1:1/bucket/key.csv', 'CSV', 'x String')".to_owned(),
            "SELECT * FROM executable('x', 'CSV', 'x String')".to_owned(),
            "SYSTEM SHUTDOWN".to_owned(),
            format!("SYSTEM STOP MERGES {}", scene.table("shop", "sales")),
        ] {
            let code = tenants.refused(&reader, &sql).await?;
            ensure!(
                matches!(code, ACCESS_DENIED | READ_ONLY),
                "{sql}: code {code}"
            );
        }
        ensure!(scene.count("shop", "sales").await? == 1);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readers_limits_cannot_be_lifted_by_its_sql() -> Result<()> {
    run("isolation-limits", |scene| async move {
        let tenants = Tenants::create(scene).await?;
        let reader = tenants.reader().await?;
        for setting in [
            "max_execution_time = 0",
            "max_execution_time = 3600",
            "max_memory_usage = 0",
            "readonly = 0",
        ] {
            let sql = format!("SELECT 1 SETTINGS {setting}");
            let code = tenants.refused(&reader, &sql).await?;
            // 452: a constraint of the user is violated.
            ensure!(matches!(code, 452 | READ_ONLY), "{setting}: code {code}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_inserts_into_its_own_database_and_changes_nothing() -> Result<()> {
    run("isolation-writer", |scene| async move {
        let tenants = Tenants::create(scene).await?;
        let (scene, writer) = (&tenants.scene, tenants.writer().await?);
        let (database, own) = (scene.database("shop"), scene.table("shop", "sales"));
        tenants
            .ask(
                &writer,
                &format!("INSERT INTO `{database}`.`sales__landing` (id, city) VALUES ('2', 'x')"),
            )
            .await?;
        ensure!(scene.count("shop", "sales").await? == 2);
        // It may read its own database, since the ingestion views run as it.
        for sql in [
            format!("SELECT * FROM {}", scene.table("rival", "ledger")),
            format!(
                "INSERT INTO {} VALUES (2, 'x')",
                scene.table("rival", "ledger")
            ),
            format!("TRUNCATE TABLE {own}"),
            format!("DROP TABLE {own}"),
            format!("ALTER TABLE {own} DELETE WHERE 1"),
        ] {
            let code = tenants.refused(&writer, &sql).await?;
            ensure!(
                matches!(code, ACCESS_DENIED | UNKNOWN_TABLE | UNKNOWN_DATABASE),
                "{sql}: code {code}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_own_workspace_only() -> Result<()> {
    run("isolation-token", |scene| async move {
        let tenants = Tenants::create(scene).await?;
        let scene = &tenants.scene;
        scene
            .apply(&pipe("total", "SELECT count() AS n FROM sales"))
            .await?;
        scene.ready("Pipe", "total").await?;
        scene.gateway.serves("total", &tenants.shop_token).await?;
        let answer = scene
            .gateway
            .get("/v0/pipes/total.json", &tenants.rival_token)
            .await?;
        ensure!(matches!(answer.status, 403 | 404), "{answer}");
        ensure!(!answer.text().contains("shop"), "{answer}");
        let row = "{\"id\": 9, \"city\": \"x\"}\n";
        let answer = scene
            .gateway
            .post("/v0/events?name=sales&wait=true", &tenants.rival_token, row)
            .await?;
        ensure!(matches!(answer.status, 403 | 404), "{answer}");
        ensure!(scene.count("shop", "sales").await? == 1);
        let document = scene
            .gateway
            .get("/v0/pipes/openapi.json", &tenants.rival_token)
            .await?;
        ensure!(!document.text().contains("total"), "{document}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_opens_what_it_names() -> Result<()> {
    run("isolation-scope", |scene| async move {
        scene.shop().await?;
        scene
            .apply(&pipe("total", "SELECT count() AS n FROM sales"))
            .await?;
        scene.apply(&pipe("other", "SELECT 1 AS n")).await?;
        scene
            .apply(
                "
apiVersion: aviary.dev/v1alpha1
kind: AccessToken
metadata: {name: narrow}
spec: {workspace: shop, scopes: [{type: 'PIPES:READ', resource: total}]}
",
            )
            .await?;
        for (kind, name) in [
            ("Pipe", "total"),
            ("Pipe", "other"),
            ("AccessToken", "narrow"),
        ] {
            scene.ready(kind, name).await?;
        }
        let token = scene.token_value("narrow").await?;
        scene.gateway.serves("total", &token).await?;
        let other = scene.gateway.get("/v0/pipes/other.json", &token).await?;
        ensure!(
            (other.status, other.code().as_str()) == (403, "scope_missing"),
            "{other}"
        );
        let row = "{\"id\": 9, \"city\": \"x\"}\n";
        let sent = scene
            .gateway
            .post("/v0/events?name=sales", &token, row)
            .await?;
        ensure!(
            (sent.status, sent.code().as_str()) == (403, "scope_missing"),
            "{sent}"
        );
        // What a token may not use is not distinguishable from what is not there.
        let missing = scene.gateway.get("/v0/pipes/missing.json", &token).await?;
        ensure!(missing.status == 403, "{missing}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_parameter_says_stays_a_value() -> Result<()> {
    run("isolation-values", |scene| async move {
        let tenants = Tenants::create(scene).await?;
        let scene = &tenants.scene;
        let sql = "SELECT {{ String(text) }} AS text, length({{ String(text) }}) AS bytes, \
                   arrayStringConcat({{ Array(list, 'String', 'none') }}, '|') AS list";
        scene.apply(&pipe("echo", sql)).await?;
        scene.ready("Pipe", "echo").await?;
        scene.gateway.serves("echo", &tenants.shop_token).await?;
        let rivals = scene.table("rival", "ledger");
        for text in [
            "plain".to_owned(),
            "'".to_owned(),
            "' OR 1 = 1 --".to_owned(),
            format!("') UNION ALL SELECT city, 1, '' FROM {rivals} --"),
            "\\' \\\\ \\0 \\n".to_owned(),
            "{{ String(other) }} {% if 1 %}".to_owned(),
            "{text:String}".to_owned(),
            "tab\tand\nnewline".to_owned(),
            "Grüße \u{1F426} \u{202e}".to_owned(),
            "'; DROP TABLE sales; --".to_owned(),
        ] {
            let request = scene
                .gateway
                .request(
                    reqwest::Method::GET,
                    "/v0/pipes/echo.json",
                    &tenants.shop_token,
                )
                .query(&[("text", &text)]);
            let answer = aviary_e2e::support::Answer::of(request).await?;
            ensure!(answer.status == 200, "{text:?}: {answer}");
            let row = &answer.json()?["data"][0];
            ensure!(row["text"] == json!(text), "{text:?} came back as {row}");
            ensure!(
                row["bytes"].to_string().trim_matches('"') == text.len().to_string(),
                "{text:?}: {row}"
            );
        }
        ensure!(scene.count("shop", "sales").await? == 1);
        Ok(())
    })
    .await
}

/// A token's value is known to everybody who opens a page with it. In a Secret of somebody else's
/// it opens nothing, whichever of the two the order of names would favour.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_token_cannot_be_taken_over() -> Result<()> {
    run("isolation-takeover", |scene| async move {
        let tenants = Tenants::create(scene).await?;
        let scene = &tenants.scene;
        let values = [
            ("shop", "rival", &tenants.rival_token),
            ("rival", "shop", &tenants.shop_token),
        ];
        for (thief, victim, value) in values {
            scene
                .apply(&brought(thief, &format!("stolen-by-{thief}"), value))
                .await?;
            let token = format!("stolen-by-{thief}");
            let message = scene
                .reason("AccessToken", &token, "Ready", "ValueTaken")
                .await?;
            ensure!(!message.contains(victim), "{message}");
        }
        for (data_source, token) in [
            ("sales", &tenants.shop_token),
            ("ledger", &tenants.rival_token),
        ] {
            let row = "{\"id\": 2, \"city\": \"Bonn\"}\n";
            ensure!(scene.gateway.events(data_source, token, row).await? == (1, 0));
        }

        // Nor does it after its owner has another one.
        let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
        secrets.delete("rival", &DeleteParams::default()).await?;
        let renewed = eventually("the rival's token has a new value", async || {
            let value = scene.token_value("rival").await.ok();
            let value = value.filter(|value| *value != tenants.rival_token);
            Ok(value.ok_or_else(|| "not yet".to_owned()))
        })
        .await?;
        scene.gateway.takes("ledger", &renewed).await?;
        scene.touch("Workspace", "shop").await?;
        scene
            .reason("AccessToken", "stolen-by-shop", "Ready", "ValueTaken")
            .await?;
        let answer = scene
            .gateway
            .post("/v0/events?name=sales", &tenants.rival_token, "{}")
            .await?;
        ensure!(answer.status == 401, "{answer}");

        scene.apply(&brought("shop", "short", "letmein")).await?;
        let message = scene
            .reason("AccessToken", "short", "Ready", "ValueTooWeak")
            .await?;
        ensure!(message.contains("32"), "{message}");
        Ok(())
    })
    .await
}

/// A token of a workspace with a value that somebody brings along.
fn brought(workspace: &str, name: &str, value: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: {name}, labels: {{aviary.dev/role: token}}}}
stringData: {{token: {value}}}
---
apiVersion: aviary.dev/v1alpha1
kind: AccessToken
metadata: {{name: {name}}}
spec: {{workspace: {workspace}, scopes: [{{type: 'DATASOURCES:APPEND', resource: '*'}}]}}
"
    )
}

//! Answers of published pipes: formats, parameters, and the document that describes them.

use anyhow::{Result, ensure};
use aviary_e2e::support::{Answer, ORDERS, pipe, run};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_answered() -> Result<()> {
    run("formats", |scene| async move {
        let token = scene.orders().await?;
        scene.gateway.events("orders", &token, ORDERS).await?;
        let get = async |format: &str| {
            scene
                .gateway
                .get(&format!("/v0/pipes/by_city.{format}"), &token)
                .await
        };

        let answer = get("json").await?;
        ensure!(
            answer
                .header("content-type")
                .starts_with("application/json"),
            "{answer:?}"
        );
        let body = answer.json()?;
        ensure!(
            body["meta"][0] == json!({"name": "city", "type": "LowCardinality(String)"}),
            "{body}"
        );
        ensure!(
            body["rows"] == 2 && body["data"][0]["city"] == "Bonn",
            "{body}"
        );
        ensure!(body["statistics"]["elapsed"].is_number(), "{body}");

        let answer = get("csv").await?;
        ensure!(
            answer.text() == "\"city\",\"orders\",\"money\"\n\"Bonn\",2,3.5\n\"Oslo\",1,0.5\n",
            "{answer}"
        );
        ensure!(
            answer.header("content-type").starts_with("text/csv"),
            "{answer:?}"
        );

        let answer = get("ndjson").await?;
        let rows: Vec<Value> = answer
            .text()
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        ensure!(rows.len() == 2 && rows[1]["city"] == "Oslo", "{answer}");

        // What comes out as Parquet goes in again as Parquet.
        scene
            .apply(&pipe(
                "all",
                "SELECT id, at, city, amount, note, tags FROM orders",
            ))
            .await?;
        scene.ready("Pipe", "all").await?;
        scene.gateway.serves("all", &token).await?;
        let parquet = scene.gateway.get("/v0/pipes/all.parquet", &token).await?;
        ensure!(parquet.body.starts_with(b"PAR1") && parquet.body.ends_with(b"PAR1"));
        let path = "/v0/datasources?name=orders&mode=append&format=parquet";
        let taken = scene
            .gateway
            .post(path, &token, parquet.body)
            .await?
            .accounted()?;
        ensure!(taken == (3, 0), "{taken:?}");

        let answer = get("xml").await?;
        ensure!(
            (answer.status, answer.code().as_str()) == (404, "route_unknown"),
            "{answer}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_typed_and_errors_name_them() -> Result<()> {
    run("parameters", |scene| async move {
        let token = scene.orders().await?;
        let sql = "SELECT {{ Int32(number, 7, description='A number') }} AS number, {{ Date(day, '2024-01-31') }} AS day, \
                   {{ DateTime(moment, '2024-01-31 10:00:00') }} AS moment, {{ Float64(share, 0.5) }} AS share, \
                   {{ Array(ids, 'Int32', '1,2') }} AS ids, \
                   {% if defined(word) %} {{ String(word) }} {% else %} 'none' {% end %} AS word, {{ UInt8(needed) }} AS needed";
        scene.apply(&pipe("echo", sql)).await?;
        scene.ready("Pipe", "echo").await?;
        scene.gateway.serves("echo", &token).await?;

        let rows = scene.gateway.rows("echo", "needed=1", &token).await?;
        let expected = json!({"number": 7, "day": "2024-01-31", "moment": "2024-01-31 10:00:00", "share": 0.5, "ids": [1, 2], "word": "none", "needed": 1});
        ensure!(rows == [expected], "{rows:?}");
        let query = "needed=2&number=-3&day=2020-02-29&share=1e3&ids=4,5,6&word=hi";
        let rows = scene.gateway.rows("echo", query, &token).await?;
        ensure!(rows[0]["ids"] == json!([4, 5, 6]) && rows[0]["word"] == "hi" && rows[0]["number"] == -3, "{rows:?}");

        for form in [
            scene.gateway.request(Method::POST, "/v0/pipes/echo.json", &token).json(&json!({"needed": 3, "ids": [9]})),
            scene
                .gateway
                .request(Method::POST, "/v0/pipes/echo.json", &token)
                .header("content-type", "application/x-www-form-urlencoded")
                .body("needed=3&ids=9"),
        ] {
            let answer = Answer::of(form).await?;
            ensure!(answer.status == 200, "{answer}");
            ensure!(answer.json()?["data"][0]["ids"] == json!([9]), "{answer}");
        }

        for (query, code, parameter) in [
            ("", "parameter_missing", "needed"),
            ("needed=256", "parameter_invalid", "needed"),
            ("needed=1&number=abc", "parameter_invalid", "number"),
            ("needed=1&number=2147483648", "parameter_invalid", "number"),
            ("needed=1&day=2024-02-31", "parameter_invalid", "day"),
            ("needed=1&moment=soon", "parameter_invalid", "moment"),
            ("needed=1&share=half", "parameter_invalid", "share"),
            ("needed=1&ids=1,x", "parameter_invalid", "ids"),
        ] {
            let answer = scene.gateway.get(&format!("/v0/pipes/echo.json?{query}"), &token).await?;
            ensure!((answer.status, answer.code().as_str()) == (400, code), "{query}: {answer}");
            let body = answer.json()?;
            ensure!(body["parameters"] == json!([parameter]), "{query}: {answer}");
            ensure!(body["error"].to_string().contains(parameter), "{query}: {answer}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_describes_what_is_published() -> Result<()> {
    run("openapi", |scene| async move {
        let token = scene.orders().await?;
        scene
            .apply(&pipe("broken", "SELECT nothing FROM orders"))
            .await?;
        scene
            .condition("Pipe", "broken", "Published", "False")
            .await?;
        let answer = scene.gateway.get("/v0/pipes/openapi.json", &token).await?;
        let document = answer.json()?;
        ensure!(
            document["openapi"]
                .as_str()
                .is_some_and(|version| version.starts_with("3.")),
            "{answer}"
        );
        let paths = document["paths"].as_object().cloned().unwrap_or_default();
        let operation = &paths
            .get("/v0/pipes/by_city.json")
            .cloned()
            .unwrap_or_default()["get"];
        ensure!(
            operation
                .to_string()
                .contains("Orders and money of each city"),
            "{answer}"
        );
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let limit = parameters
            .iter()
            .find(|parameter| parameter["name"] == "limit");
        let limit = limit.cloned().unwrap_or_default();
        ensure!(
            limit["description"] == "How many cities" && limit["schema"]["default"] == 10,
            "{limit}"
        );
        ensure!(!answer.text().contains("broken"), "{answer}");
        Ok(())
    })
    .await
}

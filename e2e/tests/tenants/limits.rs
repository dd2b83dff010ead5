//! What a workspace may use: requests, queries at once, time, memory, bodies.

use anyhow::{Result, ensure};
use aviary_e2e::support::{Answer, SALES, Scene, eventually, pipe, run};

/// The shop with these limits; gives a token.
async fn shop(scene: &Scene, limits: &str) -> Result<String> {
    scene
        .apply(&format!(
            "
apiVersion: aviary.dev/v1alpha1
kind: Workspace
metadata: {{name: shop}}
spec:
  clusterRef: {{name: shared, namespace: clickhouse}}
  deletionPolicy: Delete
  limits: {limits}
"
        ))
        .await?;
    scene.apply(SALES).await?;
    let token = scene.token("shop", "all").await?;
    scene.ready("DataSource", "sales").await?;
    scene.gateway.takes("sales", &token).await?;
    Ok(token)
}

/// Publishes a pipe with this SQL as `work`.
async fn publish(scene: &Scene, sql: &str) -> Result<()> {
    scene.apply(&pipe("work", sql)).await?;
    scene.ready("Pipe", "work").await.map(drop)
}

async fn work(scene: &Scene, token: &str) -> Result<Answer> {
    scene.gateway.get("/v0/pipes/work.json", token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_allowed_are_told_when_to_come_back() -> Result<()> {
    run("rate", |scene| async move {
        let token = shop(&scene, "{requestsPerSecond: 2}").await?;
        let requests = (0..40).map(|_| scene.gateway.get("/v0/pipes/openapi.json", &token));
        let answers = futures::future::try_join_all(requests).await?;
        let limited: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status == 429)
            .collect();
        ensure!(
            limited.len() >= 20,
            "only {} of 40 were limited",
            limited.len()
        );
        for answer in limited {
            ensure!(answer.code() == "rate_limited", "{answer}");
            let wait: u64 = answer.header("retry-after").parse()?;
            ensure!((1..=10).contains(&wait), "retry after {wait} s");
        }
        ensure!(
            answers
                .iter()
                .all(|answer| matches!(answer.status, 200 | 429))
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_at_once_are_limited() -> Result<()> {
    run("at-once", |scene| async move {
        let token = shop(&scene, "{concurrentQueries: 1, queryTimeout: 20s}").await?;
        publish(&scene, "SELECT sleep(1) AS n").await?;
        scene.gateway.serves("work", &token).await?;
        let requests = (0..8).map(|_| work(&scene, &token));
        let answers = futures::future::try_join_all(requests).await?;
        let good = answers.iter().filter(|answer| answer.status == 200).count();
        ensure!(good >= 1, "{answers:?}");
        let refused: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status != 200)
            .collect();
        ensure!(
            !refused.is_empty(),
            "eight queries of a second each, one at a time, were all answered"
        );
        for answer in refused {
            ensure!(
                (answer.status, answer.code().as_str()) == (429, "too_many_queries"),
                "{answer}"
            );
            ensure!(!answer.header("retry-after").is_empty(), "{answer:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_is_ended() -> Result<()> {
    run("too-long", |scene| async move {
        let token = shop(&scene, "{queryTimeout: 1s}").await?;
        let rows: String = (0..30)
            .map(|id| format!("{{\"id\": {id}, \"city\": \"x\"}}\n"))
            .collect();
        scene.gateway.events("sales", &token, rows).await?;
        publish(
            &scene,
            "SELECT sum(sleepEachRow(0.3)) AS n FROM sales SETTINGS max_block_size = 1",
        )
        .await?;
        let started = std::time::Instant::now();
        let answer = eventually("the pipe is served", async || {
            let answer = work(&scene, &token).await?;
            Ok(if answer.status == 404 {
                Err(answer.to_string())
            } else {
                Ok(answer)
            })
        })
        .await?;
        ensure!(
            (answer.status, answer.code().as_str()) == (408, "query_timeout"),
            "{answer}"
        );
        ensure!(started.elapsed().as_secs() < 8, "{:?}", started.elapsed());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_needs_too_much_memory_is_ended() -> Result<()> {
    run("too-large", |scene| async move {
        let token = shop(&scene, "{queryMemory: 20Mi}").await?;
        publish(&scene, "SELECT length(groupArray(randomString(1000 + rowNumberInAllBlocks()))) AS n FROM (SELECT arrayJoin(range(1000000)) AS x)").await?;
        let answer = eventually("the pipe is served", async || {
            let answer = work(&scene, &token).await?;
            Ok(if answer.status == 404 { Err(answer.to_string()) } else { Ok(answer) })
        })
        .await?;
        ensure!((answer.status, answer.code().as_str()) == (422, "query_too_large"), "{answer}");
        ensure!(!answer.text().contains("DB::Exception"), "{answer}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_is_refused_also_when_it_was_compressed() -> Result<()> {
    run("body", |scene| async move {
        let token = shop(&scene, "{bodySize: 1Ki}").await?;
        let row = "{\"id\": 1, \"city\": \"Bonn\"}\n";
        let rows = row.repeat(1000);
        let path = "/v0/datasources?name=sales&mode=append&format=ndjson";
        let plain = scene.gateway.post(path, &token, rows.clone()).await?;
        ensure!(
            (plain.status, plain.code().as_str()) == (413, "body_too_large"),
            "{plain}"
        );
        let small = zstd::encode_all(rows.as_bytes(), 3)?;
        ensure!(small.len() < 1000);
        let request = scene.gateway.request(reqwest::Method::POST, path, &token);
        let packed = Answer::of(request.header("content-encoding", "zstd").body(small)).await?;
        ensure!(
            (packed.status, packed.code().as_str()) == (413, "body_too_large"),
            "{packed}"
        );
        let taken = scene.gateway.events("sales", &token, row).await?;
        ensure!(taken == (1, 0), "{taken:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_limits_apply_without_a_restart() -> Result<()> {
    run("changed", |scene| async move {
        let token = shop(&scene, "{bodySize: 1Ki}").await?;
        let rows = "{\"id\": 1, \"city\": \"Bonn\"}\n".repeat(1000);
        let path = "/v0/datasources?name=sales&mode=append&format=ndjson";
        let refused = scene.gateway.post(path, &token, rows.clone()).await?;
        ensure!(refused.status == 413, "{refused}");
        let limits = serde_json::json!({"spec": {"limits": {"bodySize": "1Mi"}}});
        scene.patch("Workspace", "shop", limits).await?;
        let taken = eventually("the larger body is taken", async || {
            let answer = scene.gateway.post(path, &token, rows.clone()).await?;
            Ok(if answer.status == 413 {
                Err(answer.to_string())
            } else {
                Ok(answer)
            })
        })
        .await?
        .accounted()?;
        ensure!(taken == (1000, 0), "{taken:?}");
        Ok(())
    })
    .await
}

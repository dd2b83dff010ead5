//! The gateway while ClickHouse comes and goes, and while it ends itself.

use super::harness::{Admin, Scene, eventually, start_gateway};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SHOP: &str = "
kind: Workspace
metadata: {name: shop}
spec: {clusterRef: {name: shared}}
---
kind: DataSource
metadata: {name: sales}
spec: {workspace: shop, columns: [{name: id, type: Int32}]}
---
kind: Pipe
metadata: {name: total}
spec:
  workspace: shop
  nodes: [{name: answer, sql: 'SELECT count() AS n FROM sales'}]
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: slow}
spec:
  workspace: shop
  nodes: [{name: answer, sql: 'SELECT sum(sleepEachRow(0.1)) AS n FROM numbers(15) SETTINGS max_block_size = 1'}]
  endpoint: {node: answer}
";

#[tokio::test]
async fn an_absent_clickhouse_is_said_at_once_and_its_return_is_noticed() {
    let mut scene = Scene::new("absent", SHOP).await;
    let served = start_gateway(|_| {}).await;
    let caller = scene.caller(&served);
    assert_eq!(caller.events("sales", "{\"id\": 1}").await, (1, 0));
    scene.engine.kill();
    for _ in 0..3 {
        let started = Instant::now();
        let answer = caller.get("/v0/pipes/total.json").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "clickhouse_unavailable")
        );
        assert_eq!(answer.header("retry-after"), "1");
        let answer = caller.post("/v0/events?name=sales", "{\"id\": 2}").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.json()["acknowledged_rows"], 0);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(started.elapsed() < Duration::from_secs(2));
    }
    scene.revive();
    eventually("endpoints answer again", async || {
        caller.get("/v0/pipes/total.json").await.status == 200
    })
    .await;
    assert_eq!(caller.events("sales", "{\"id\": 3}").await, (1, 0));
    let total = caller.get("/v0/pipes/total.ndjson").await.text();
    assert_eq!(total, "{\"n\":2}\n");
}

#[tokio::test]
async fn acknowledged_rows_survive_a_kill() {
    let mut scene = Scene::new("kill", SHOP).await;
    let served = start_gateway(|_| {}).await;
    let caller = scene.caller(&served);
    let send = async |id: u32| {
        let answer = caller
            .post(
                "/v0/events?name=sales",
                format!("{{\"id\": {id}}}\n{{\"id\": \"bad {id}\"}}"),
            )
            .await;
        match answer.status {
            202 => Some(id),
            503 => None,
            other => panic!("{other}: {}", answer.text()),
        }
    };
    let mut acknowledged = BTreeSet::new();
    let serving = async || {
        eventually("endpoints answer again", async || {
            caller.get("/v0/pipes/total.json").await.status == 200
        })
        .await;
    };
    for round in 0..3 {
        // Until the gateway sees ClickHouse again, it refuses rows as fast as they come.
        serving().await;
        // Sixteen clients send while ClickHouse is killed under them.
        let sending = futures::future::join_all((0..16).map(|client| {
            let send = &send;
            async move {
                let mut sent = Vec::new();
                for number in 0..30 {
                    sent.extend(send(round * 10_000 + client * 100 + number).await);
                }
                sent
            }
        }));
        let killing = async {
            let admin = Admin::new(scene.engine.address);
            // Rows of this round, which alone have such ids.
            let of_round = format!(
                "SELECT count() FROM test_shop.sales WHERE id >= {}",
                round * 10_000
            );
            eventually("rows come in", async || admin.number(&of_round).await > 0).await;
            scene.engine.kill();
            scene.revive();
        };
        let (sent, ()) = futures::future::join(sending, killing).await;
        acknowledged.extend(sent.into_iter().flatten());
    }
    serving().await;
    let admin = Admin::new(scene.engine.address);
    let table = scene.shop.table("sales");
    let stored = admin
        .query(&format!("SELECT DISTINCT id FROM {table}"))
        .await;
    let stored: BTreeSet<u32> = stored.lines().map(|line| line.parse().unwrap()).collect();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(
        !acknowledged.is_empty() && lost.is_empty(),
        "{} acknowledged, lost: {lost:?}",
        acknowledged.len()
    );
    let quarantine = scene.shop.table("sales_quarantine");
    let stored = admin
        .query(&format!(
            "SELECT DISTINCT substring(id, 5) FROM {quarantine}"
        ))
        .await;
    let stored: BTreeSet<u32> = stored.lines().map(|line| line.parse().unwrap()).collect();
    assert!(acknowledged.is_subset(&stored));
}

#[tokio::test]
async fn a_replica_that_is_away_costs_nothing() {
    let scene = Scene::new("replicas", SHOP).await;
    let served = start_gateway(|_| {}).await;
    // Nobody listens at the first.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let refusing = silent.local_addr().unwrap().port();
    drop(silent);
    let caller = scene.variant(&served, "two", |published| {
        let urls = &mut published.replica_urls;
        urls.insert(0, format!("http://127.0.0.1:{refusing}"));
    });
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(caller.get("/v0/pipes/total.json").await.status, 200);
        assert_eq!(caller.events("sales", "{\"id\": 1}").await, (1, 0));
    }
    assert!(started.elapsed() < Duration::from_secs(15));
    let metrics = served.gateway.metrics().encode();
    assert!(
        metrics.contains(&format!(
            "aviary_gateway_replica_up{{replica=\"127.0.0.1:{refusing}\"}} 0"
        )),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_gateway_ends_without_breaking_a_request() {
    let scene = Scene::new("stop", SHOP).await;
    let served = start_gateway(|_| {}).await;
    let caller = scene.caller(&served);
    let answering = tokio::spawn(async move { caller.get("/v0/pipes/slow.json").await });
    let in_flight = "aviary_gateway_requests_in_flight{route=\"endpoint\"} 1";
    eventually("the request is in flight", async || {
        served.gateway.metrics().encode().contains(in_flight)
    })
    .await;
    served.stop.cancel();
    eventually("no connection is taken", async || {
        tokio::net::TcpStream::connect(served.address)
            .await
            .is_err()
    })
    .await;
    let answer = answering.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

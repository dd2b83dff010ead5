//! Replicas that say nothing any more: nobody waits for them for ever, and nothing behind them does.

use super::harness::{Caller, Reply, STORED, Scene, Scripted, Served, eventually, start_gateway};
use futures::future::join_all;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SHOP: &str = "
kind: Workspace
metadata: {name: shop}
spec: {clusterRef: {name: shared}, limits: {queryTimeout: 1s}}
---
kind: DataSource
metadata: {name: sales}
spec: {workspace: shop, columns: [{name: id, type: Int32}]}
---
kind: Pipe
metadata: {name: numbers}
spec:
  workspace: shop
  nodes: [{name: answer, sql: 'SELECT number AS n FROM numbers(10)'}]
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: slow}
spec:
  workspace: shop
  nodes: [{name: answer, sql: 'SELECT sum(sleepEachRow(0.1)) AS n FROM numbers(600) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0'}]
  endpoint: {node: answer}
";

/// A gateway in front of a real engine, and of what a test puts in its place.
struct Front {
    scene: Scene,
    served: Served,
}

impl Front {
    async fn new(name: &str) -> Self {
        Self {
            scene: Scene::new(name, SHOP).await,
            served: start_gateway(|args| args.connect_timeout = "1s".parse().unwrap()).await,
        }
    }

    /// Somebody whose workspace is at this replica, and whose queries may take so long.
    fn caller(&self, replica: SocketAddr, query_timeout: Duration) -> Caller {
        self.scene.variant(&self.served, "front", |published| {
            published.replica_urls = vec![format!("http://{replica}")];
            published.concurrent_queries = 1000;
            published.requests_per_second = 10_000;
            published.query_timeout_milliseconds = query_timeout.as_millis() as u64;
        })
    }
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nX-ClickHouse-Exception-Tag: abcdefghijklmnop\r\n\r\n9\r\n{\"n\": 1}\n\r\n9\r\n{\"n\": 2}\n\r\n0\r\n\r\n";

#[tokio::test]
async fn a_replica_that_stops_anywhere_in_its_answer_ends_the_request() {
    let front = Front::new("stops-anywhere").await;
    let replica =
        Scripted::start(|number, _| Reply::Say(ANSWER.as_bytes()[..number].to_vec())).await;
    let caller = front.caller(replica.address, Duration::from_secs(1));
    let started = Instant::now();
    let answers = join_all((0..ANSWER.len()).map(|_| caller.get("/v0/pipes/numbers.ndjson"))).await;
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    for answer in answers {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "query_timeout"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(replica.asked(), ANSWER.len());
}

#[tokio::test]
async fn an_insert_that_is_half_answered_holds_nobody_up() {
    let front = Front::new("half-answered").await;
    let replica = Scripted::start(|number, _| {
        let half = STORED.find("\r\n\r\n").unwrap() + 4;
        let length = if number == 0 { half } else { STORED.len() };
        Reply::Say(STORED.as_bytes()[..length].to_vec())
    })
    .await;
    let caller = front.caller(replica.address, Duration::from_secs(1));
    let started = Instant::now();
    let send = || caller.post("/v0/events?name=sales&wait=true", "{\"id\": 1}");
    let answers = join_all([send(), send(), send()]).await;
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "{:?}",
        started.elapsed()
    );
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn what_is_in_flight_to_a_frozen_replica_is_given_up() {
    let front = Front::new("frozen").await;
    // Neither a query's limit nor an INSERT's would end these within the test's patience.
    let caller = front.caller(front.scene.engine.address, Duration::from_secs(600));
    let waiting = tokio::spawn({
        let caller = caller.clone();
        async move { caller.get("/v0/pipes/slow.json").await }
    });
    let in_flight = "aviary_gateway_requests_in_flight{route=\"endpoint\"} 1";
    eventually("the request is in flight", async || {
        front.served.gateway.metrics().encode().contains(in_flight)
    })
    .await;
    front.scene.engine.freeze();
    let frozen = Instant::now();
    let insert = caller.post("/v0/events?name=sales", "{\"id\": 1}").await;
    assert_eq!(insert.status, 503, "{}", insert.text());
    let answer = waiting.await.unwrap();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "clickhouse_unavailable"),
        "{}",
        answer.text()
    );
    assert!(
        frozen.elapsed() < Duration::from_secs(90),
        "{:?}",
        frozen.elapsed()
    );
    // From now on it is known, and said at once.
    let started = Instant::now();
    assert_eq!(caller.get("/v0/pipes/numbers.json").await.status, 503);
    assert!(started.elapsed() < Duration::from_secs(2));
    front.scene.engine.thaw();
    eventually("endpoints answer again", async || {
        caller.get("/v0/pipes/numbers.json").await.status == 200
    })
    .await;
    assert_eq!(caller.events("sales", "{\"id\": 2}").await, (1, 0));
}

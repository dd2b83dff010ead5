//! Rows that come twice, because nobody learned what became of them, are stored once.

use super::harness::{
    Admin, Answer, Caller, EngineProcess, Lossy, Served, Workspace, scratch, start_gateway,
};
use reqwest::Method;
use std::fmt::Write as _;

const SHOP: &str = "
kind: Workspace
metadata: {name: shop}
spec: {clusterRef: {name: shared}, limits: {requestsPerSecond: 100000}}
---
kind: DataSource
metadata: {name: direct}
spec: {workspace: shop, columns: [{name: id, type: Int32}]}
---
kind: DataSource
metadata: {name: landed}
spec:
  workspace: shop
  partitionKey: id % 3
  columns:
    - {name: id, type: Int32}
    - {name: price, type: 'Decimal(9, 2)', default: '1'}
    - {name: tags, type: 'Map(String, String)', default: 'map()'}
";

const ALL: &[(&str, &str)] = &[("PIPES:READ", "*"), ("DATASOURCES:APPEND", "*")];

/// An engine behind a way on which answers are lost, and two gateways before it.
struct Scene {
    admin: Admin,
    shop: Workspace,
    lossy: Lossy,
    gateways: [Served; 2],
    _engine: EngineProcess,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let engine = EngineProcess::start(&scratch(name), 0);
        let admin = Admin::new(engine.address);
        let shop = Workspace::make(&admin, SHOP).await;
        let lossy = Lossy::start(engine.address).await;
        let mut published = shop.published.clone();
        published.replica_urls = vec![lossy.url()];
        let gateways = [start_gateway(|_| {}).await, start_gateway(|_| {}).await];
        for served in &gateways {
            let index = served.gateway.index();
            shop.publish_as(index, "shop", &published, "token", ALL);
        }
        Self {
            admin,
            shop,
            lossy,
            gateways,
            _engine: engine,
        }
    }

    fn caller(&self, gateway: usize) -> Caller {
        Caller::new(self.gateways[gateway].address, "token")
    }

    async fn count(&self, table: &str) -> u64 {
        let table = self.shop.table(table);
        self.admin
            .number(&format!("SELECT count() FROM {table}"))
            .await
    }
}

#[tokio::test]
async fn an_insert_whose_answer_is_lost_is_repeated_and_stored_once() {
    let scene = Scene::new("lost-answers").await;
    let caller = scene.caller(0);
    for name in ["direct", "landed"] {
        // One block, and its two INSERTs where some rows are dirty.
        let body: String = (0..99)
            .map(|id| format!("{{\"id\": {id}}}\n{{\"id\": \"x{id}\"}}\n"))
            .collect();
        for lost in [1, 2] {
            scene.lossy.lose(lost);
            assert_eq!(caller.events(name, body.clone()).await, (99, 99), "{name}");
            assert_eq!(scene.lossy.left(), 0);
        }
        assert_eq!(scene.count(name).await, 2 * 99, "{name}");
        assert_eq!(scene.count(&format!("{name}_quarantine")).await, 2 * 99);
    }
}

#[tokio::test]
async fn equal_rows_that_are_sent_twice_are_two_rows() {
    let scene = Scene::new("equal-rows").await;
    for name in ["direct", "landed"] {
        for _ in 0..3 {
            let sent = scene.caller(0).events(name, "{\"id\": 1}\n").await;
            assert_eq!(sent, (1, 0));
        }
        assert_eq!(scene.count(name).await, 3, "{name}");
    }
}

#[tokio::test]
async fn what_stays_unknown_is_said_to_be_unknown() {
    let scene = Scene::new("unknown").await;
    let served = start_gateway(|args| args.insert_repeat = "1s".parse().unwrap()).await;
    let mut published = scene.shop.published.clone();
    published.replica_urls = vec![scene.lossy.url()];
    let index = served.gateway.index();
    scene
        .shop
        .publish_as(index, "shop", &published, "token", ALL);
    let caller = Caller::new(served.address, "token");
    scene.lossy.lose(usize::MAX);
    let answer = caller.post("/v0/events?name=direct", "{\"id\": 1}").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "ingestion_unknown"),
        "{}",
        answer.text()
    );
    assert_eq!(scene.count("direct").await, 1);
}

/// Sends a body in pieces of a size, which is none of the gateway's business.
async fn send(caller: &Caller, path: &str, key: &str, body: &str, piece: usize) -> Answer {
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = body
        .as_bytes()
        .chunks(piece)
        .map(|piece| Ok(piece.to_vec()))
        .collect();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let request = caller
        .request(Method::POST, path)
        .header("Idempotency-Key", key)
        .body(body);
    Answer::of(request).await
}

#[tokio::test]
async fn an_import_that_is_sent_again_under_its_id_is_stored_once() {
    let scene = Scene::new("same-import").await;
    let mut body = String::from("id\n");
    for id in 0..60_000 {
        let dirt = if id % 7 == 0 { "x" } else { "" };
        let _ = writeln!(body, "{id}{dirt}");
    }
    for name in ["direct", "landed"] {
        let path = format!("/v0/datasources?name={name}&format=csv");
        let first = send(&scene.caller(0), &path, "an-import", &body, 100_000).await;
        assert_eq!(first.json()["import_id"], "an-import");
        let (good, bad) = first.counts();
        assert_eq!((good + bad, bad), (60_000, 8572));
        // Through another gateway, cut in other places, and with an answer lost.
        scene.lossy.lose(1);
        let again = send(&scene.caller(1), &path, "an-import", &body, 777).await;
        assert_eq!(again.text(), first.text());
        assert_eq!(scene.count(name).await, good, "{name}");
        assert_eq!(scene.count(&format!("{name}_quarantine")).await, bad);
        // The same rows under another name are other rows.
        let other = send(&scene.caller(0), &path, "another", &body, 100_000).await;
        assert_eq!(other.counts(), (good, bad));
        assert_eq!(scene.count(name).await, 2 * good, "{name}");
    }
}

#[tokio::test]
async fn nothing_new_is_taken_for_what_is_stored() {
    let scene = Scene::new("other-body").await;
    let path = "/v0/events?name=direct&wait=true";
    for body in [
        "{\"id\": 1}\n",
        "{\"id\": 1}\n{\"id\": 2}\n",
        "{\"id\": 1}\n",
    ] {
        let answer = send(&scene.caller(0), path, "key", body, 1000).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // Two bodies under one id are two imports: nothing is lost, and the third was the first.
    assert_eq!(scene.count("direct").await, 3);
    let refused = send(&scene.caller(0), path, "a key", "{}", 1000).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "request_invalid")
    );
}

//! Rows that come twice, because nobody learned what became of them, are stored once.

use super::harness::{Answer, Caller, Lossy, Scene, Served, start_gateway};
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

/// An engine behind a way on which answers are lost, and two gateways before it.
struct Lost {
    scene: Scene,
    lossy: Lossy,
    gateways: [Served; 2],
}

impl Lost {
    async fn new(name: &str) -> Self {
        let scene = Scene::new(name, SHOP).await;
        let lossy = Lossy::start(scene.engine.address).await;
        let gateways = [start_gateway(|_| {}).await, start_gateway(|_| {}).await];
        Self {
            scene,
            lossy,
            gateways,
        }
    }

    fn caller(&self, gateway: usize) -> Caller {
        self.caller_at(&self.gateways[gateway])
    }

    fn caller_at(&self, served: &Served) -> Caller {
        let lossy = vec![self.lossy.url()];
        self.scene
            .variant(served, "shop", |published| published.replica_urls = lossy)
    }

    async fn count(&self, table: &str) -> u64 {
        self.scene.count(table).await
    }
}

#[tokio::test]
async fn an_insert_whose_answer_is_lost_is_repeated_and_stored_once() {
    let lost = Lost::new("lost-answers").await;
    let caller = lost.caller(0);
    for name in ["direct", "landed"] {
        // One block, and its two INSERTs where some rows are dirty.
        let body: String = (0..99)
            .map(|id| format!("{{\"id\": {id}}}\n{{\"id\": \"x{id}\"}}\n"))
            .collect();
        for answers in [1, 2] {
            lost.lossy.lose(answers);
            assert_eq!(caller.events(name, body.clone()).await, (99, 99), "{name}");
            assert_eq!(lost.lossy.left(), 0);
        }
        assert_eq!(lost.count(name).await, 2 * 99, "{name}");
        assert_eq!(lost.count(&format!("{name}_quarantine")).await, 2 * 99);
    }
}

#[tokio::test]
async fn equal_rows_that_are_sent_twice_are_two_rows() {
    let lost = Lost::new("equal-rows").await;
    for name in ["direct", "landed"] {
        for _ in 0..3 {
            let sent = lost.caller(0).events(name, "{\"id\": 1}\n").await;
            assert_eq!(sent, (1, 0));
        }
        assert_eq!(lost.count(name).await, 3, "{name}");
    }
}

#[tokio::test]
async fn what_stays_unknown_is_said_to_be_unknown() {
    let lost = Lost::new("unknown").await;
    let served = start_gateway(|args| args.insert_repeat = "1s".parse().unwrap()).await;
    let caller = lost.caller_at(&served);
    lost.lossy.lose(usize::MAX);
    let answer = caller.post("/v0/events?name=direct", "{\"id\": 1}").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "ingestion_unknown"),
        "{}",
        answer.text()
    );
    assert_eq!(lost.count("direct").await, 1);
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
    let lost = Lost::new("same-import").await;
    let mut body = String::from("id\n");
    for id in 0..60_000 {
        let dirt = if id % 7 == 0 { "x" } else { "" };
        let _ = writeln!(body, "{id}{dirt}");
    }
    for name in ["direct", "landed"] {
        let path = format!("/v0/datasources?name={name}&format=csv");
        let first = send(&lost.caller(0), &path, "an-import", &body, 100_000).await;
        assert_eq!(first.json()["import_id"], "an-import");
        let (good, bad) = first.counts();
        assert_eq!((good + bad, bad), (60_000, 8572));
        // Through another gateway, cut in other places, and with an answer lost.
        lost.lossy.lose(1);
        let again = send(&lost.caller(1), &path, "an-import", &body, 777).await;
        assert_eq!(again.text(), first.text());
        assert_eq!(lost.count(name).await, good, "{name}");
        assert_eq!(lost.count(&format!("{name}_quarantine")).await, bad);
        // The same rows under another name are other rows.
        let other = send(&lost.caller(0), &path, "another", &body, 100_000).await;
        assert_eq!(other.counts(), (good, bad));
        assert_eq!(lost.count(name).await, 2 * good, "{name}");
    }
}

#[tokio::test]
async fn a_parquet_file_that_is_sent_again_under_its_id_is_stored_once() {
    let lost = Lost::new("same-parquet").await;
    let sql = "SELECT concat(if(number % 1000 = 7, 'x', ''), toString(number)) AS id, repeat('n', 20) AS note FROM numbers(100000) FORMAT Parquet";
    let file = lost.scene.admin.bytes(sql).await;
    for name in ["direct", "landed"] {
        let path = format!("/v0/datasources?name={name}&format=parquet");
        let send = async |gateway: usize| {
            let request = lost.caller(gateway).request(Method::POST, &path);
            let request = request
                .header("Idempotency-Key", "a-file")
                .body(file.clone());
            Answer::of(request).await
        };
        let first = send(0).await;
        assert_eq!(first.counts(), (99_900, 100), "{name}");
        lost.lossy.lose(1);
        assert_eq!(send(1).await.text(), first.text());
        assert_eq!(lost.lossy.left(), 0);
        assert_eq!(lost.count(name).await, 99_900, "{name}");
        assert_eq!(lost.count(&format!("{name}_quarantine")).await, 100);
        // Of a row that is not in order the quarantine has what the table has no column for.
        let quarantine = lost.scene.shop.table(&format!("{name}_quarantine"));
        let sql = format!("SELECT c__row FROM {quarantine} WHERE id = 'x99007' FORMAT TSVRaw");
        assert_eq!(
            lost.scene.admin.query(&sql).await,
            format!("{{\"id\":\"x99007\",\"note\":\"{}\"}}", "n".repeat(20))
        );
    }
}

#[tokio::test]
async fn nothing_new_is_taken_for_what_is_stored() {
    let lost = Lost::new("other-body").await;
    let path = "/v0/events?name=direct&wait=true";
    for body in [
        "{\"id\": 1}\n",
        "{\"id\": 1}\n{\"id\": 2}\n",
        "{\"id\": 1}\n",
    ] {
        let answer = send(&lost.caller(0), path, "key", body, 1000).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // Two bodies under one id are two imports: nothing is lost, and the third was the first.
    assert_eq!(lost.count("direct").await, 3);
    let refused = send(&lost.caller(0), path, "a key", "{}", 1000).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "request_invalid")
    );
}

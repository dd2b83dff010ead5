//! Rows at which ClickHouse throws go to quarantine, and those that travel with them do not.

use super::harness::{Answer, Scene, start_gateway};
use futures::future::{join, join_all};
use reqwest::Method;

const SHOP: &str = "
kind: Workspace
metadata: {name: shop}
spec: {clusterRef: {name: shared}, limits: {requestsPerSecond: 100000}}
---
kind: DataSource
metadata: {name: ratios}
spec:
  workspace: shop
  columns:
    - {name: a, type: Int32}
    - {name: b, type: Int32, default: 'intDiv(10, a)'}
---
kind: DataSource
metadata: {name: parts}
spec:
  workspace: shop
  partitionKey: intDiv(10, a)
  columns: [{name: a, type: Int32}]
";

#[tokio::test]
async fn a_row_that_cannot_be_written_goes_to_quarantine_alone() {
    let scene = Scene::new("poison-row", SHOP).await;
    let served = start_gateway(|_| {}).await;
    let caller = scene.caller(&served);
    for name in ["ratios", "parts"] {
        let row = |a: i32| match a {
            500 | 501 | 900 => "{\"a\": 0}\n".to_owned(),
            77 => "{\"a\": \"x\"}\n".to_owned(),
            a => format!("{{\"a\": {a}}}\n"),
        };
        let body: String = (1..=1000).map(row).collect();
        let path = format!("/v0/events?name={name}&wait=true");
        // The same again under its id changes nothing.
        for _ in 0..2 {
            let request = caller
                .request(Method::POST, &path)
                .header("Idempotency-Key", "import")
                .body(body.clone());
            assert_eq!(Answer::of(request).await.counts(), (996, 4), "{name}");
            assert_eq!(scene.count(name).await, 996, "{name}");
            assert_eq!(scene.count(&format!("{name}_quarantine")).await, 4);
        }
        let quarantine = scene.shop.table(&format!("{name}_quarantine"));
        let reasons = format!(
            "SELECT DISTINCT a, c__error[1] FROM {quarantine} WHERE a = '0' FORMAT TabSeparated"
        );
        assert_eq!(
            scene.admin.query(&reasons).await,
            "0\tClickHouse cannot write the row: Division by zero (exception 153)",
        );
    }
}

#[tokio::test]
async fn imports_that_travel_with_it_are_stored() {
    let scene = Scene::new("poison-group", SHOP).await;
    let served = start_gateway(|_| {}).await;
    let caller = scene.caller(&served);
    for name in ["ratios", "parts"] {
        let send = |id: usize| {
            let body = if id % 20 == 7 {
                "{\"a\": 0}".to_owned()
            } else {
                format!("{{\"a\": {id}}}")
            };
            let caller = &caller;
            async move { (id, caller.events(name, body).await) }
        };
        for (id, counts) in join_all((1..=200).map(send)).await {
            let expected = if id % 20 == 7 { (0, 1) } else { (1, 0) };
            assert_eq!(counts, expected, "{name}: {id}");
        }
        assert_eq!(scene.count(name).await, 190, "{name}");
        assert_eq!(scene.count(&format!("{name}_quarantine")).await, 10);
    }
}

#[tokio::test]
async fn dirty_rows_that_travel_with_it_are_in_quarantine_once() {
    let scene = Scene::new("poison-and-dirt", SHOP).await;
    let served = start_gateway(|_| {}).await;
    let caller = scene.caller(&served);
    let row = |a: i32| match a {
        500 | 900 => "{\"a\": 0}\n".to_owned(),
        a if a % 10 == 7 => format!("{{\"a\": \"x{a}\"}}\n"),
        a if a % 100 == 3 => format!("{{\"a\": {a}\n"),
        a => format!("{{\"a\": {a}}}\n"),
    };
    let body: String = (1..=1000).map(row).collect();
    let table = scene.shop.table("ratios_quarantine");
    // The view that was made last writes last; a server that starts has an order of its own.
    for (round, last) in [(1, "ratios__ingest"), (2, "ratios__reject")] {
        let last = scene.shop.table(last);
        for verb in ["DETACH", "ATTACH"] {
            scene.admin.query(&format!("{verb} TABLE {last}")).await;
        }
        let others = (1..=20).map(|number| caller.events("ratios", format!("{{\"a\": {number}}}")));
        let (counts, _) = join(caller.events("ratios", body.clone()), join_all(others)).await;
        assert_eq!(counts, (888, 112), "{last}");
        assert_eq!(scene.count("ratios").await, round * 908, "{last}");
        assert_eq!(scene.count("ratios_quarantine").await, round * 112);
        let sql = format!(
            "SELECT countIf(c__error[1] LIKE 'ClickHouse cannot write%'), countIf(c__error[1] LIKE 'value%'), countIf(c__error[1] LIKE 'not valid JSON%') FROM {table} FORMAT TabSeparated"
        );
        assert_eq!(
            scene.admin.query(&sql).await,
            format!("{}\t{}\t{}", 2 * round, 100 * round, 10 * round)
        );
    }
}

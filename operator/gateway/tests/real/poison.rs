//! Rows at which ClickHouse throws go to quarantine, and those that travel with them do not.

use super::harness::{
    Admin, Answer, Caller, EngineProcess, Served, Workspace, scratch, start_gateway,
};
use futures::future::join_all;
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

const ALL: &[(&str, &str)] = &[("DATASOURCES:APPEND", "*")];

struct Scene {
    admin: Admin,
    shop: Workspace,
    served: Served,
    _engine: EngineProcess,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let engine = EngineProcess::start(&scratch(name), 0);
        let admin = Admin::new(engine.address);
        let shop = Workspace::make(&admin, SHOP).await;
        let served = start_gateway(|_| {}).await;
        shop.publish(served.gateway.index(), "token", ALL);
        Self {
            admin,
            shop,
            served,
            _engine: engine,
        }
    }

    fn caller(&self) -> Caller {
        Caller::new(self.served.address, "token")
    }

    async fn count(&self, table: &str) -> u64 {
        let table = self.shop.table(table);
        self.admin
            .number(&format!("SELECT count() FROM {table}"))
            .await
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_written_goes_to_quarantine_alone() {
    let scene = Scene::new("poison-row").await;
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
            let request = scene
                .caller()
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
    let scene = Scene::new("poison-group").await;
    let caller = scene.caller();
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

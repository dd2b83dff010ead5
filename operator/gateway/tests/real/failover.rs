//! A replica that fails beside one that does not: requests succeed through the other, and the sick
//! one is left out until it is well.

use super::harness::{
    Caller, Reply, STORED, Scene, Scripted, Served, answer, eventually, exception, start_gateway,
};
use futures::future::join_all;
use std::sync::{Arc, Mutex};

const SHOP: &str = "
kind: Workspace
metadata: {name: shop}
spec: {clusterRef: {name: shared}, limits: {queryTimeout: 20s, requestsPerSecond: 10000}}
---
kind: DataSource
metadata: {name: sales}
spec: {workspace: shop, columns: [{name: id, type: Int32}]}
---
kind: DataSource
metadata: {name: landed}
spec:
  workspace: shop
  columns: [{name: id, type: Int32}, {name: rough, type: Nullable(BFloat16)}]
---
kind: Pipe
metadata: {name: numbers}
spec:
  workspace: shop
  nodes: [{name: answer, sql: 'SELECT number AS n FROM numbers(3)'}]
  endpoint: {node: answer}
";

const NUMBERS: &str = "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n";

/// A good replica, and gateways before it and others.
struct Pair {
    scene: Scene,
    served: Served,
}

impl Pair {
    async fn new(name: &str) -> Self {
        Self {
            scene: Scene::new(name, SHOP).await,
            served: start_gateway(|args| args.connect_timeout = "1s".parse().unwrap()).await,
        }
    }

    /// Somebody whose workspace is at these replicas.
    fn caller(&self, name: &str, replicas: &[String]) -> Caller {
        self.scene.variant(&self.served, name, |published| {
            published.replica_urls = replicas.to_vec();
        })
    }

    /// Somebody whose workspace is at the good replica as well.
    fn beside(&self, name: &str, sick: &Scripted) -> Caller {
        self.caller(name, &[sick.url(), self.scene.admin.url()])
    }

    /// Whether metrics show a replica as left out.
    fn is_ejected(&self, replica: &Scripted) -> bool {
        let series = format!(
            "aviary_gateway_replica_ejected{{replica=\"{}\"}}",
            replica.address
        );
        self.served.counter(&series) == 1
    }
}

/// Half of the head of a good answer.
fn half() -> Vec<u8> {
    STORED.as_bytes()[..20].to_vec()
}

#[tokio::test]
async fn an_endpoint_is_answered_by_the_other() {
    let pair = Pair::new("answered-by-the-other").await;
    for name in ["read-only", "busy", "closing", "cut", "foreign"] {
        let replica = Scripted::start(move |_, _| match name {
            "read-only" => exception(242),
            "busy" => exception(202),
            "closing" => Reply::Close(Vec::new()),
            "cut" => Reply::Close(half()),
            _ => Reply::Foreign,
        })
        .await;
        let caller = pair.beside(name, &replica);
        for _ in 0..20 {
            let answer = caller.get("/v0/pipes/numbers.ndjson").await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, NUMBERS),
                "{name}"
            );
        }
        // A busy one is asked in its turn: it may have time again. The others are left out.
        let (asked, ejected) = if name == "busy" {
            (10, false)
        } else {
            (3, true)
        };
        assert_eq!(replica.asked(), asked, "{name}");
        assert_eq!(pair.is_ejected(&replica), ejected, "{name}");
    }
}

#[tokio::test]
async fn a_replica_that_freezes_is_left_for_the_other() {
    let pair = Pair::new("left-for-the-other").await;
    let replica = Scripted::start(|_, _| Reply::Freeze).await;
    let caller = pair.beside("frozen", &replica);
    let answers = join_all((0..6).map(|_| caller.get("/v0/pipes/numbers.ndjson"))).await;
    for answer in answers {
        assert_eq!((answer.status, answer.text().as_str()), (200, NUMBERS));
    }
    let asked = replica.asked();
    assert!(asked > 0);
    for _ in 0..6 {
        assert_eq!(caller.get("/v0/pipes/numbers.ndjson").await.status, 200);
    }
    assert_eq!(replica.asked(), asked);
}

#[tokio::test]
async fn a_replica_that_is_well_again_is_asked_again() {
    let pair = Pair::new("well-again").await;
    let replica = Scripted::start(|number, _| match number {
        0..3 => exception(242),
        _ => answer(NUMBERS),
    })
    .await;
    let caller = pair.beside("recovering", &replica);
    for _ in 0..6 {
        assert_eq!(caller.get("/v0/pipes/numbers.ndjson").await.status, 200);
    }
    assert!(pair.is_ejected(&replica));
    eventually("it is asked again", async || {
        let answer = caller.get("/v0/pipes/numbers.ndjson").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, NUMBERS));
        replica.asked() > 3
    })
    .await;
    assert!(!pair.is_ejected(&replica));
    let before = replica.asked();
    for _ in 0..10 {
        assert_eq!(caller.get("/v0/pipes/numbers.ndjson").await.status, 200);
    }
    assert_eq!(replica.asked(), before + 5);
}

#[tokio::test]
async fn replicas_that_all_fail_are_all_asked() {
    let pair = Pair::new("all-fail").await;
    let script = |number: usize, _: &str| {
        if number < 20 {
            exception(242)
        } else {
            answer(NUMBERS)
        }
    };
    let (one, two) = (Scripted::start(script).await, Scripted::start(script).await);
    let caller = pair.caller("both", &[one.url(), two.url()]);
    for _ in 0..20 {
        assert_eq!(caller.get("/v0/pipes/numbers.ndjson").await.status, 503);
    }
    assert!(pair.is_ejected(&one) && pair.is_ejected(&two));
    assert_eq!((one.asked(), two.asked()), (20, 20));
    // No request waits until they are back.
    assert_eq!(caller.get("/v0/pipes/numbers.ndjson").await.text(), NUMBERS);
}

#[tokio::test]
async fn a_statement_of_its_own_fault_is_asked_once() {
    let pair = Pair::new("own-fault").await;
    let replica = Scripted::start(|_, _| exception(395)).await;
    let caller = pair.caller("faulty", &[replica.url(), replica.url()]);
    let other = Scripted::start(|_, _| exception(395)).await;
    let both = pair.caller("both", &[replica.url(), other.url()]);
    for caller in [&caller, &both] {
        let before = replica.asked() + other.asked();
        for _ in 0..10 {
            let answer = caller.get("/v0/pipes/numbers.ndjson").await;
            assert_eq!(answer.status, 500, "{}", answer.text());
        }
        assert_eq!(replica.asked() + other.asked(), before + 10);
    }
    assert!(!pair.is_ejected(&replica) && !pair.is_ejected(&other));
}

#[tokio::test]
async fn an_insert_that_is_known_to_have_failed_goes_to_the_other() {
    let pair = Pair::new("insert-elsewhere").await;
    let mut stored = 0;
    for code in [242, 202, 252] {
        for name in ["sales", "landed"] {
            let sick = Scripted::start(move |_, _| exception(code)).await;
            // Whichever of the two the data source prefers.
            let url = [sick.url(), pair.scene.admin.url()];
            for (turn, urls) in [("one", [&url[0], &url[1]]), ("two", [&url[1], &url[0]])] {
                let name_of = format!("{turn}-{code}-{name}");
                let caller = pair.caller(&name_of, &urls.map(String::clone));
                for _ in 0..5 {
                    let sent = caller.events(name, "{\"id\": 1}\n{\"id\": \"x\"}").await;
                    assert_eq!(sent, (1, 1), "{name_of}");
                }
            }
            assert!(sick.asked() > 0);
        }
        stored += 10;
        for name in ["sales", "landed"] {
            assert_eq!(pair.scene.count(name).await, stored);
            assert_eq!(
                pair.scene.count(&format!("{name}_quarantine")).await,
                stored
            );
        }
    }
}

fn is_insert(request: &str) -> bool {
    request.starts_with("POST /?query=INSERT")
}

/// The name under which rows are to be stored.
fn block_name(request: &str) -> String {
    let (_, rest) = request.split_once("insert_deduplication_token=").unwrap();
    rest.split([' ', '&']).next().unwrap().to_owned()
}

/// Sends a row to two replicas of which the one that is asked first breaks off, and which say so of
/// their replicated tables. Gives the names under which the row came to the first, and to the other.
async fn send_to_breaking(pair: &Pair, replicated: &'static str) -> [Vec<String>; 2] {
    let names: [Arc<Mutex<Vec<String>>>; 2] = Default::default();
    let first_asked: Arc<Mutex<Option<usize>>> = Arc::default();
    let mut replicas = Vec::new();
    for (own, names) in names.iter().enumerate() {
        let (names, first_asked) = (Arc::clone(names), Arc::clone(&first_asked));
        let script = move |_: usize, request: &str| {
            if !is_insert(request) {
                return answer(replicated);
            }
            names.lock().unwrap().push(block_name(request));
            let first = *first_asked.lock().unwrap().get_or_insert(own);
            // It takes the rows and is not heard, seven times.
            if first == own && names.lock().unwrap().len() < 8 {
                return Reply::Close(Vec::new());
            }
            Reply::Say(STORED.into())
        };
        replicas.push(Scripted::start(script).await);
    }
    let urls: Vec<String> = replicas.iter().map(Scripted::url).collect();
    let caller = pair.caller("breaking", &urls);
    assert_eq!(caller.events("sales", "{\"id\": 1}").await, (1, 0));
    let mut names = names.map(|names| names.lock().unwrap().clone());
    if *first_asked.lock().unwrap() == Some(1) {
        names.swap(0, 1);
    }
    names
}

#[tokio::test]
async fn an_unknown_insert_waits_for_the_replica_that_knows() {
    let pair = Pair::new("waits-for-its-replica").await;
    let [first, other] = send_to_breaking(&pair, "0\n").await;
    assert_eq!((first.len(), other.len()), (8, 0));
    assert!(first.iter().all(|name| *name == first[0]));
}

#[tokio::test]
async fn an_unknown_insert_of_replicated_tables_is_settled_by_the_other() {
    let pair = Pair::new("settled-by-the-other").await;
    let [first, other] = send_to_breaking(&pair, "2\n").await;
    // Until it is left out, the first is asked.
    assert_eq!((first.len(), other.len()), (3, 1));
    assert!(first.iter().chain(&other).all(|name| *name == first[0]));
}

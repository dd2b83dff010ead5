//! Who may take a lease and when, and what is said to the API server about it.

use super::*;
use crate::testing::{self, FakeApi, Request, failure};
use rstest::rstest;
use serde_json::{Value, json};

fn lease(holder: Option<&str>, renewed: i64) -> Lease {
    Lease {
        spec: Some(LeaseSpec {
            holder_identity: holder.map(ToOwned::to_owned),
            lease_duration_seconds: Some(60),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        }),
        ..Lease::default()
    }
}

#[rstest]
#[case::none_yet(None, 0, true)]
#[case::released(Some(lease(None, 1)), 0, true)]
#[case::released_by_others_in_their_way(Some(lease(Some(""), 1)), 0, true)]
#[case::own_after_a_restart(Some(lease(Some("me"), 1)), 0, true)]
#[case::held(Some(lease(Some("other"), 1)), 59, false)]
#[case::expired(Some(lease(Some("other"), 1)), 60, true)]
#[case::without_a_spec(Some(Lease::default()), 0, true)]
fn is_free(#[case] found: Option<Lease>, #[case] seconds: u64, #[case] free: bool) {
    let start = Instant::now();
    let mut seen = Seen::default();
    assert_eq!(seen.evaluate("me", start), Decision::Unknown);
    seen.look(found, start);
    let decision = seen.evaluate("me", start + Duration::from_secs(seconds));
    let expected = if free {
        Decision::Free
    } else {
        Decision::HeldUntil(start + Duration::from_mins(1))
    };
    assert_eq!(decision, expected);
}

#[test]
fn each_renewal_counts_anew_whatever_the_clocks_say() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut seen = Seen::default();
    seen.look(Some(lease(Some("other"), 1)), start);
    // The same lease seen again, after a reconnect, is not a renewal.
    seen.look(Some(lease(Some("other"), 1)), at(30));
    assert_eq!(seen.evaluate("me", at(59)), Decision::HeldUntil(at(60)));
    seen.look(Some(lease(Some("other"), 2)), at(50));
    assert_eq!(seen.evaluate("me", at(60)), Decision::HeldUntil(at(110)));
}

#[test]
fn only_a_change_of_hands_is_a_transition() {
    let candidate = candidate();
    let now = Timestamp::from_second(100).unwrap();
    let mine = taken(lease(Some("other"), 1), &candidate, now);
    let transitions = |lease: &Lease| lease.spec.as_ref().unwrap().lease_transitions;
    assert_eq!(transitions(&mine), Some(1));
    assert_eq!(transitions(&taken(mine, &candidate, now)), Some(1));
}

fn candidate() -> Candidate {
    Candidate {
        namespace: "aviary-system".to_owned(),
        lease: "aviary-operator".to_owned(),
        identity: "me".to_owned(),
        terms: Terms::new(Duration::from_mins(1)),
    }
}

/// A lease that lasts so long, as its holder renewed it at some second.
pub(super) fn lease_of(holder: &str, seconds: u64, renewed: i64) -> Lease {
    let mut lease = lease(Some(holder), renewed);
    if let Some(spec) = &mut lease.spec {
        spec.lease_duration_seconds = i32::try_from(seconds).ok();
    }
    lease
}

fn stored(holder: Option<&str>, version: &str) -> Lease {
    let mut lease = lease(holder, 1);
    lease.metadata.name = Some(candidate().lease);
    lease.metadata.resource_version = Some(version.to_owned());
    lease
}

fn body(lease: &Lease) -> Value {
    serde_json::to_value(lease).unwrap()
}

/// An API server that has this lease: it takes a renewal of this version only.
fn server(found: Lease) -> impl Fn(&Request) -> (u16, Value) + Send + Sync {
    move |request| match request.method.as_str() {
        "GET" => (200, body(&found)),
        _ if request.body["metadata"]["resourceVersion"]
            != body(&found)["metadata"]["resourceVersion"] =>
        {
            failure(409, "Conflict", "the object has been modified")
        }
        _ => (200, request.body.clone()),
    }
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_not_a_lost_lease() {
    let api = FakeApi::default();
    let leases = Api::namespaced(api.client(server(stored(Some("me"), "2"))), "aviary-system");
    let mut held = stored(Some("me"), "1");
    renew(&leases, &candidate(), &mut held).await.unwrap();
    let methods: Vec<String> = api.asked().into_iter().map(|one| one.method).collect();
    assert_eq!(methods, ["PUT", "GET", "PUT"]);
    assert_eq!(held.metadata.resource_version.as_deref(), Some("2"));
}

#[rstest]
#[case::taken(Some("other"))]
#[case::released(None)]
#[tokio::test]
async fn a_lease_in_other_hands_is_lost(#[case] holder: Option<&str>) {
    let client = FakeApi::default().client(server(stored(holder, "2")));
    let leases = Api::namespaced(client, "aviary-system");
    let result = renew(&leases, &candidate(), &mut stored(Some("me"), "1")).await;
    assert!(matches!(result, Err(LeaseError::Taken)), "{result:?}");
}

#[tokio::test]
async fn a_free_lease_is_taken_and_given_back() {
    let api = FakeApi::default();
    let found = stored(None, "1");
    let client = api.client(move |request| {
        if request.method == "GET" {
            let list = json!({
                "kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1",
                "metadata": { "resourceVersion": "1" }, "items": [body(&found)],
            });
            return (200, list);
        }
        (200, request.body.clone())
    });
    let give_back = CancellationToken::new();
    let (mut leadership, campaign) = super::campaign(client, candidate(), give_back.clone());
    let in_time = Duration::from_secs(30);
    tokio::time::timeout(in_time, leadership.acquired())
        .await
        .unwrap()
        .unwrap();
    assert!(leadership.mandate().holds());
    give_back.cancel();
    tokio::time::timeout(in_time, leadership.lost())
        .await
        .unwrap();
    assert!(!leadership.mandate().holds());
    campaign.await.unwrap();
    let puts: Vec<Value> = api
        .asked()
        .into_iter()
        .filter(|request| request.method == "PUT")
        .map(|request| request.body["spec"]["holderIdentity"].clone())
        .collect();
    assert_eq!(puts, [json!("me"), Value::Null]);
}

/// Times so short that a test can wait for them; only what is written in the lease has seconds.
fn short() -> Candidate {
    let milliseconds = Duration::from_millis;
    Candidate {
        terms: Terms {
            duration: milliseconds(1_000),
            usable: milliseconds(700),
            renewal: milliseconds(100),
            retry: milliseconds(50),
            request: milliseconds(200),
        },
        ..candidate()
    }
}

/// A lease list with this one, as a watch begins with.
fn list(found: &Lease) -> Value {
    json!({
        "kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1",
        "metadata": { "resourceVersion": "1" }, "items": [body(found)],
    })
}

/// Leads in front of an API server that takes the lease once and then answers like this.
async fn leading(
    then: impl Fn(&Request) -> (u16, Value) + Send + Sync + 'static,
) -> (Leadership, tokio::task::JoinHandle<()>) {
    let taken = std::sync::atomic::AtomicBool::new(false);
    let client = FakeApi::default().client(move |request| {
        if request.path.ends_with("/leases") {
            return (200, list(&stored(None, "1")));
        }
        if taken.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return then(request);
        }
        (200, request.body.clone())
    });
    let (mut leadership, campaign) = super::campaign(client, short(), CancellationToken::new());
    leadership.acquired().await.unwrap();
    (leadership, campaign)
}

/// Waits for the end of a leadership, and tells how long it took.
async fn ends(leadership: &mut Leadership) -> Duration {
    let start = Instant::now();
    let in_time = Duration::from_secs(30);
    tokio::time::timeout(in_time, leadership.lost())
        .await
        .unwrap();
    start.elapsed()
}

#[rstest]
#[case::hangs(|_: &Request| (testing::NO_ANSWER, Value::Null))]
#[case::is_in_trouble(|_: &Request| failure(500, "InternalError", "etcd is away"))]
#[case::has_a_conflict_and_hangs_then(|request: &Request| match request.method.as_str() {
    "PUT" => failure(409, "Conflict", "the object has been modified"),
    _ => (testing::NO_ANSWER, Value::Null),
})]
#[case::conflicts_for_ever(|request: &Request| match request.method.as_str() {
    "PUT" => failure(409, "Conflict", "the object has been modified"),
    _ => (200, body(&stored(Some("me"), "7"))),
})]
#[tokio::test]
async fn a_leader_stops_before_others_start_though_the_api_server(
    #[case] then: fn(&Request) -> (u16, Value),
) {
    let (mut leadership, _campaign) = leading(then).await;
    let took = ends(&mut leadership).await;
    assert!(!leadership.mandate().holds());
    assert!(took < short().terms.duration, "{took:?}");
}

#[tokio::test]
async fn a_process_that_was_frozen_changes_nothing_any_more() {
    let (mut leadership, _campaign) = leading(|request| (200, request.body.clone())).await;
    let mandate = leadership.mandate();
    assert!(mandate.holds());
    // One thread: nothing else runs meanwhile, as in a process that is stopped.
    std::thread::sleep(short().terms.duration);
    assert!(!mandate.holds());
    ends(&mut leadership).await;
}

#[tokio::test]
async fn a_lease_that_is_renewed_goes_on() {
    let (mut leadership, _campaign) = leading(|request| (200, request.body.clone())).await;
    let longer = short().terms.duration * 2;
    let lost = tokio::time::timeout(longer, leadership.lost()).await;
    assert!(lost.is_err() && leadership.mandate().holds());
}

#[tokio::test]
async fn a_campaign_that_panics_is_a_lost_lease() {
    let (mut leadership, campaign) = leading(|_| panic!("as a test wants it")).await;
    let took = ends(&mut leadership).await;
    assert!(took < short().terms.duration, "{took:?}");
    assert!(campaign.await.unwrap_err().is_panic());
}

#[tokio::test]
async fn a_campaign_that_panics_before_it_wins_is_told() {
    let client = FakeApi::default().client(|_| panic!("as a test wants it"));
    let (mut leadership, _campaign) = super::campaign(client, short(), CancellationToken::new());
    assert!(leadership.acquired().await.is_err());
}

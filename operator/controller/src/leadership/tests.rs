//! Who may take a lease and when, and what is said to the API server about it.

use super::*;
use crate::testing::{FakeApi, Request, failure};
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
        duration: Duration::from_mins(1),
    }
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
    let (mut leadership, campaign) = stand(client, candidate(), give_back.clone());
    let in_time = Duration::from_secs(30);
    tokio::time::timeout(in_time, leadership.acquired())
        .await
        .unwrap();
    give_back.cancel();
    tokio::time::timeout(in_time, leadership.lost())
        .await
        .unwrap();
    campaign.await.unwrap();
    let puts: Vec<Value> = api
        .asked()
        .into_iter()
        .filter(|request| request.method == "PUT")
        .map(|request| request.body["spec"]["holderIdentity"].clone())
        .collect();
    assert_eq!(puts, [json!("me"), Value::Null]);
}

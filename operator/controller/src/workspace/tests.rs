//! Passes over a workspace in front of an API server that answers as told.

use crate::testing::{self, object};
use aviary_crds::conditions::{ConditionType, Finding, Reason, merge};
use aviary_crds::names::ANNOTATION_PAUSED;
use aviary_crds::{ClickHouseCluster, Pipe, Workspace, WorkspaceStatus};
use aviary_runtime::ObjectName;
use aviary_runtime::queue::Next;
use aviary_runtime::testing::{FakeApi, Request, failure};
use jiff::Timestamp;
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/aviary-system/secrets";
const STATUS: &str = "/apis/aviary.dev/v1alpha1/namespaces/shop/workspaces/orders/status";

fn name() -> ObjectName {
    ObjectName::new("shop", "orders")
}

fn workspace() -> Workspace {
    let spec = json!({ "clusterRef": { "name": "shared" } });
    object("Workspace", "orders", spec)
}

fn paused_cluster() -> ClickHouseCluster {
    let spec = json!({ "external": {
        "replicas": [{ "name": "a", "url": "http://127.0.0.1:1" }],
        "credentialsSecretRef": { "name": "admin" },
    }});
    let mut cluster: ClickHouseCluster = object("ClickHouseCluster", "shared", spec);
    let annotation = (ANNOTATION_PAUSED.to_owned(), "true".to_owned());
    cluster.metadata.annotations = Some([annotation].into());
    cluster
}

fn pipe(name: &str) -> Pipe {
    let nodes = json!([{ "name": "n", "sql": "SELECT 1" }]);
    object(
        "Pipe",
        name,
        json!({ "workspace": "orders", "nodes": nodes }),
    )
}

/// Whatever is written is taken.
fn accept(request: &Request) -> (u16, Value) {
    match request.path.as_str() {
        SECRETS => (201, request.body.clone()),
        path if path.contains("/pipes/") => (200, json!(pipe("p"))),
        _ => (200, json!(workspace())),
    }
}

fn conditions(request: &Request) -> Vec<String> {
    let conditions = request.body["status"]["conditions"].as_array().unwrap();
    let text = |one: &Value| format!("{}={} {}", one["type"], one["status"], one["reason"]);
    let texts = conditions.iter().map(text);
    texts.map(|text| text.replace('"', "")).collect()
}

#[tokio::test]
async fn gateways_learn_of_tokens_though_there_is_no_cluster() {
    let api = FakeApi::default();
    let workspaces = testing::workspaces(api.client(accept));
    workspaces.index().apply(&name(), workspace());
    workspaces.reconcile(&name()).await.unwrap();
    let asked = api.asked();
    assert_eq!(
        (asked[0].method.as_str(), asked[0].path.as_str()),
        ("POST", SECRETS)
    );
    assert_eq!(asked[1].path, STATUS);
    assert_eq!(conditions(&asked[1])[0], "Ready=False ReferenceNotFound");
}

#[tokio::test]
async fn a_paused_cluster_leaves_conditions_as_they_were() {
    let api = FakeApi::default();
    let workspaces = testing::workspaces(api.client(accept));
    let mut ready = workspace();
    let said = Finding::met(ConditionType::Ready, Reason::Succeeded, "in place");
    ready.status = Some(WorkspaceStatus {
        conditions: merge(&[], &[said], Some(1), Timestamp::UNIX_EPOCH),
        ..WorkspaceStatus::default()
    });
    workspaces.index().apply(&name(), ready);
    let cluster = ObjectName::new("shop", "shared");
    workspaces.index().apply(&cluster, paused_cluster());
    let next = workspaces.reconcile(&name()).await.unwrap();
    assert_eq!(next, Next::After(testing::settings().resync_interval));
    let asked = api.asked();
    assert_eq!(asked[0].path, SECRETS);
    let expected = ["Ready=True Succeeded", "Stalled=True Paused"];
    assert_eq!(conditions(&asked[1]), expected);
}

#[tokio::test]
async fn what_is_in_a_workspace_that_cannot_be_read_stays_as_it_is() {
    let api = FakeApi::default();
    let workspaces = testing::workspaces(api.client(accept));
    workspaces
        .index()
        .apply(&ObjectName::new("shop", "p"), pipe("p"));
    let uid = "uid-of-orders".to_owned();
    workspaces
        .index()
        .mark_unreadable::<Workspace>(&name(), uid);
    workspaces.reconcile(&name()).await.unwrap();
    assert_eq!(api.asked(), []);
}

#[tokio::test]
async fn a_status_that_cannot_be_written_keeps_no_other_from_it() {
    let api = FakeApi::default();
    let client = api.client(|request| match request.path.as_str() {
        path if path.contains("/pipes/a/") => failure(403, "Forbidden", "no"),
        _ => accept(request),
    });
    let workspaces = testing::workspaces(client);
    workspaces.index().apply(&name(), workspace());
    for pipe_name in ["a", "b", "c"] {
        let name = ObjectName::new("shop", pipe_name);
        workspaces.index().apply(&name, pipe(pipe_name));
    }
    assert!(workspaces.reconcile(&name()).await.is_err());
    let asked = api.asked();
    let pipes = asked.iter().filter(|one| one.path.contains("/pipes/"));
    assert_eq!(pipes.count(), 3);
}

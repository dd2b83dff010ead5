//! Objects go in as watches and writes show them; what must be looked at again comes out.

use crate::index::objects::{Index, NamespaceMeta};
use crate::index::{Affected, ObjectMetrics};
use crate::secrets::{PublishedSecret, TokenSecret};
use crate::testing::object;
use aviary_crds::conditions::{ConditionType, Finding, Reason, merge};
use aviary_crds::{
    AccessToken, ClickHouseCluster, ClickHouseClusterStatus, DataSource, Pipe, Workspace,
};
use aviary_runtime::ObjectName;
use aviary_runtime::metrics::Metrics;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

fn with_meta<K: serde::de::DeserializeOwned>(
    kind: &str,
    name: &str,
    spec: Value,
    meta: Value,
) -> K {
    let mut whole = json!({ "apiVersion": "aviary.dev/v1alpha1", "kind": kind, "spec": spec });
    whole["metadata"] = json!({ "name": name, "namespace": "shop", "uid": name, "generation": 1 });
    for (key, value) in meta.as_object().unwrap() {
        whole["metadata"][key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn pipe(workspace: &str, meta: Value) -> Pipe {
    let spec = json!({ "workspace": workspace, "nodes": [{ "name": "n", "sql": "SELECT 1" }] });
    with_meta("Pipe", "p", spec, meta)
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn workspaces<const N: usize>(names: [&str; N]) -> Affected {
    Affected::workspaces(names.map(name))
}

#[test]
fn members_concern_the_workspace_they_name() {
    let index = Index::default();
    let version = |version: &str| pipe("orders", json!({ "resourceVersion": version }));
    assert_eq!(
        index.apply(&name("p"), version("1")),
        workspaces(["orders"])
    );
    assert_eq!(index.apply(&name("p"), version("2")), Affected::default());
    let moved = pipe("returns", json!({ "resourceVersion": "3", "uid": "other" }));
    assert_eq!(
        index.apply(&name("p"), moved),
        workspaces(["orders", "returns"])
    );
    assert_eq!(index.members(&name("orders")).pipes.len(), 0);
    assert_eq!(index.members(&name("returns")).pipes.len(), 1);
    assert_eq!(
        index.remove::<Pipe>(&name("p"), None),
        workspaces(["returns"])
    );
}

#[test]
fn a_status_changes_nothing_but_a_spec_an_annotation_or_a_deletion_does() {
    let index = Index::default();
    index.apply(
        &name("p"),
        pipe("orders", json!({ "resourceVersion": "1" })),
    );
    let mut reported = pipe("orders", json!({ "resourceVersion": "2" }));
    reported.status = Some(aviary_crds::PipeStatus::default());
    assert_eq!(index.apply(&name("p"), reported), Affected::default());
    for change in [
        json!({ "resourceVersion": "3", "generation": 2 }),
        json!({ "resourceVersion": "4", "annotations": { "a": "b" } }),
        json!({ "resourceVersion": "5", "deletionTimestamp": "2026-01-01T00:00:00Z" }),
    ] {
        let affected = index.apply(&name("p"), pipe("orders", change.clone()));
        assert_eq!(affected, workspaces(["orders"]), "{change}");
    }
}

#[test]
fn a_cluster_concerns_itself_and_the_workspaces_on_it() {
    let index = Index::default();
    let on =
        |cluster: Value| object::<Workspace>("Workspace", "w", json!({ "clusterRef": cluster }));
    index.apply(&name("here"), on(json!({ "name": "c" })));
    index.apply(
        &name("there"),
        on(json!({ "name": "c", "namespace": "elsewhere" })),
    );
    let cluster: ClickHouseCluster = object(
        "ClickHouseCluster",
        "c",
        json!({ "external": {
            "replicas": [{ "name": "a", "url": "http://a" }],
            "credentialsSecretRef": { "name": "s" },
        }}),
    );
    let affected = index.apply(&name("c"), cluster);
    assert_eq!(affected.workspaces, BTreeSet::from([name("here")]));
    assert_eq!(affected.clusters, BTreeSet::from([name("c")]));
}

#[test]
fn a_token_secret_concerns_the_workspaces_of_tokens_that_name_it() {
    let index = Index::default();
    let scopes = json!([{ "type": "PIPES:READ", "resource": "*" }]);
    let token: AccessToken = object(
        "AccessToken",
        "reader",
        json!({ "workspace": "orders", "secretName": "value", "scopes": scopes }),
    );
    index.apply(&name("reader"), token);
    let secret = |sha256: &str, version: &str| TokenSecret {
        resource_version: Some(version.to_owned()),
        sha256: Some(sha256.to_owned()),
        is_weak: false,
        owners: Vec::new(),
        labelled: true,
    };
    assert_eq!(
        index.apply(&name("reader"), secret("1", "1")),
        Affected::default()
    );
    assert_eq!(
        index.apply(&name("value"), secret("1", "2")),
        workspaces(["orders"])
    );
    assert_eq!(
        index.apply(&name("value"), secret("1", "3")),
        Affected::default()
    );
    assert_eq!(
        index.apply(&name("value"), secret("2", "4")),
        workspaces(["orders"])
    );
    assert_eq!(
        index.remove::<TokenSecret>(&name("value"), Some("5")),
        workspaces(["orders"])
    );

    // What we make ourselves is no news, unless it is gone again already.
    index.created(&name("value"), secret("3", "6"));
    assert_eq!(
        index.apply(&name("value"), secret("3", "6")),
        Affected::default()
    );
    index.remove::<TokenSecret>(&name("value"), Some("8"));
    index.created(&name("value"), secret("4", "7"));
    assert_eq!(index.token_secret(&name("value")), None);
}

#[test]
fn a_published_secret_concerns_its_workspace_and_those_with_the_same_value() {
    let index = Index::default();
    let spec = json!({ "clusterRef": { "name": "shared" } });
    for workspace in ["orders", "returns"] {
        let object: Workspace = object("Workspace", workspace, spec.clone());
        index.apply(&name(workspace), object);
    }
    let secret_name = |workspace: &str| {
        let name = aviary_crds::names::published_secret(&format!("uid-of-{workspace}"));
        ObjectName::new("aviary-system", name)
    };
    let secret = |workspace: &str, version: &str, since: &str, value: &str| {
        let user = json!({ "name": "user", "password": "" });
        let token = json!({ "name": "t", "sha256": value, "since": since, "scopes": [] });
        let document = json!({ "namespace": "shop", "workspace": workspace,
                               "reader": user, "writer": user, "tokens": [token] });
        PublishedSecret {
            resource_version: Some(version.to_owned()),
            document: Some(version.to_owned()),
            access: Some(serde_json::from_value(document).unwrap()),
        }
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
    let apply = |workspace: &str, version: &str, since: &str, value: &str| {
        let secret = secret(workspace, version, since, value);
        index.apply(&secret_name(workspace), secret)
    };
    assert_eq!(apply("orders", "1", late, "v"), workspaces(["orders"]));
    let both = workspaces(["orders", "returns"]);
    assert_eq!(apply("returns", "2", early, "v"), both);
    let first = |of: &str| index.first_claim_of_others("v", &secret_name(of));
    assert_eq!(first("orders").unwrap().secret, secret_name("returns").name);
    assert_eq!(first("returns").unwrap().secret, secret_name("orders").name);
    let least = first("somebody").unwrap();
    assert_eq!(least.since.to_string(), early);
    // With another value it is nobody's rival any more.
    assert_eq!(apply("returns", "3", early, "w"), both);
    assert_eq!(apply("returns", "4", early, "x"), workspaces(["returns"]));
    assert_eq!(first("orders"), None);
    index.remove::<PublishedSecret>(&secret_name("orders"), Some("5"));
    assert_eq!(first("returns"), None);
}

#[test]
fn our_own_writes_do_not_bring_old_or_other_objects_back() {
    let index = Index::default();
    let at = |version: &str, uid: &str| {
        pipe("orders", json!({ "resourceVersion": version, "uid": uid }))
    };
    let version = || {
        index.members(&name("orders")).pipes[0]
            .metadata
            .resource_version
            .clone()
    };
    index.refresh(&name("p"), at("1", "one"));
    assert_eq!(index.members(&name("orders")).pipes.len(), 0);
    index.apply(&name("p"), at("5", "one"));
    index.refresh(&name("p"), at("6", "one"));
    index.apply(&name("p"), at("5", "one"));
    assert_eq!(version().as_deref(), Some("6"));
    index.refresh(&name("p"), at("7", "two"));
    assert_eq!(version().as_deref(), Some("6"));
}

#[test]
fn a_list_removes_what_is_not_in_it() {
    let index = Index::default();
    index.apply(&name("p"), pipe("orders", json!({})));
    index.apply(&name("q"), pipe("orders", json!({})));
    let affected = index.retain::<Pipe>(&BTreeSet::from([name("q")]));
    assert_eq!(affected, workspaces(["orders"]));
    assert_eq!(index.members(&name("orders")).pipes.len(), 1);
}

#[test]
fn an_unreadable_data_source_is_known_to_be_there() {
    let index = Index::default();
    assert!(index.mark_unreadable::<DataSource>(&name("d"), "uid".to_owned()));
    assert!(!index.mark_unreadable::<DataSource>(&name("d"), "uid".to_owned()));
    let unreadable = index.members(&name("orders")).unreadable_data_sources;
    assert_eq!(unreadable, [("uid".to_owned(), "d".to_owned())]);
    index.retain::<DataSource>(&BTreeSet::new());
    assert!(
        index
            .members(&name("orders"))
            .unreadable_data_sources
            .is_empty()
    );
}

#[test]
fn labels_of_a_namespace_concern_the_workspaces_in_it() {
    let index = Index::default();
    let spec = json!({ "clusterRef": { "name": "shared" } });
    index.apply(
        &name("orders"),
        object::<Workspace>("Workspace", "orders", spec),
    );
    let namespace = |version: &str, labels: Value| -> NamespaceMeta {
        serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": { "name": "shop", "resourceVersion": version, "labels": labels },
        }))
        .unwrap()
    };
    let shop = ObjectName::new("", "shop");
    let concerned = workspaces(["orders"]);
    assert_eq!(index.apply(&shop, namespace("1", json!({}))), concerned);
    assert_eq!(
        index.apply(&shop, namespace("2", json!({}))),
        Affected::default()
    );
    let labelled = namespace("3", json!({ "tenant": "yes" }));
    assert_eq!(index.apply(&shop, labelled), concerned);
    let labels = index.namespace("shop").unwrap().metadata.labels.clone();
    assert_eq!(labels.unwrap()["tenant"], "yes");
}

#[test]
fn conditions_of_a_cluster_are_told_one_by_one() {
    let spec = json!({ "external": {
        "replicas": [{ "name": "a", "url": "http://a" }],
        "credentialsSecretRef": { "name": "admin" },
    }});
    let mut cluster: ClickHouseCluster = object("ClickHouseCluster", "shared", spec);
    let findings = [
        Finding::met(ConditionType::Ready, Reason::Succeeded, "1/1"),
        Finding::unmet(ConditionType::DiskHeadroom, Reason::DiskLow, "9%"),
        Finding::unknown(ConditionType::ReplicasHealthy, Reason::Unknown, "?"),
    ];
    cluster.status = Some(ClickHouseClusterStatus {
        conditions: merge(&[], &findings, Some(1), jiff::Timestamp::UNIX_EPOCH),
        ..ClickHouseClusterStatus::default()
    });
    let name = ObjectName::new("shop", "shared");
    let (index, metrics) = (Arc::new(Index::default()), Metrics::new("aviary"));
    index.apply(&name, cluster);
    metrics.register_collector(ObjectMetrics(index));
    let text = metrics.encode().unwrap();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("aviary_cluster_condition{"));
    let labels = |condition: &str| {
        format!(
            "aviary_cluster_condition{{namespace=\"shop\",name=\"shared\",type=\"{condition}\"}}"
        )
    };
    let mut lines: Vec<&str> = lines.collect();
    lines.sort_unstable();
    let expected = [labels("DiskHeadroom") + " 0", labels("Ready") + " 1"];
    assert_eq!(lines, expected);
}

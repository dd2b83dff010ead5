//! For tests: objects, and what reconciles work with.

use crate::cluster::{Audience, Connected, Fleet, FleetOptions};
use crate::context::Context;
use crate::index::Index;
use crate::kubernetes::{FIELD_MANAGER, Kubernetes};
use crate::workspace::{Checker, Issuer};
use aviary_clickhouse::{Replica, ReplicaConfig};
use aviary_plan::{LastPublished, WorkspaceModel, WorkspaceObjects, model as make_model};
use aviary_runtime::dispatch::Requests;
use aviary_runtime::events::EventRecorder;
use aviary_runtime::kubernetes::Kubernetes as KubernetesApi;
use aviary_runtime::metrics::Metrics;
use aviary_runtime::supervision::Supervisor;
use aviary_runtime::testing::mandate;
use kube::Client;
use prometheus_client::metrics::counter::Counter;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// An object of a kind, in namespace `shop`, with this name and spec.
pub(crate) fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
    serde_json::from_value(json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": format!("uid-of-{name}"),
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": spec,
    }))
    .unwrap()
}

/// A workspace without anything in it.
pub(crate) fn model() -> WorkspaceModel {
    let spec = json!({ "clusterRef": { "name": "shared" } });
    let objects = WorkspaceObjects {
        workspace: Arc::new(object("Workspace", "orders", spec)),
        data_sources: Vec::new(),
        pipes: Vec::new(),
        access_tokens: Vec::new(),
    };
    make_model(&objects, &LastPublished::default())
}

/// A replica that takes connections for as long as the listener is kept, and says nothing.
pub(crate) async fn silent_replica() -> (TcpListener, Connected) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let replica = Replica::connect(&ReplicaConfig {
        name: "silent".to_owned(),
        url: url.clone(),
        user: "admin".to_owned(),
        password: String::new().into(),
        connect_deadline: Duration::from_mins(1),
        statement_deadline: Duration::from_mins(1),
    });
    let connected = Connected {
        replica: replica.unwrap(),
        url,
        pulse: Arc::default(),
    };
    (listener, connected)
}

/// Writes to this API server.
pub(crate) fn kubernetes(client: Client, index: Arc<Index>) -> Kubernetes {
    Kubernetes::new(KubernetesApi::new(client, FIELD_MANAGER, mandate()), index)
}

/// What reconciles work with, in front of this API server.
pub(crate) fn context(client: Client) -> Context {
    let index = Arc::new(Index::default());
    let kubernetes = kubernetes(client.clone(), index.clone());
    let metrics = Arc::new(Metrics::new("aviary"));
    let options = FleetOptions {
        connect_deadline: Duration::from_secs(1),
        statement_deadline: Duration::from_secs(1),
        workspaces_at_once: 1,
    };
    let (workspaces, _) = Requests::channel();
    let audience = Audience {
        clusters: Requests::channel().0,
        workspaces: workspaces.clone(),
    };
    let supervisor = Supervisor::new(metrics.clone());
    let fleet = Fleet::new(
        kubernetes.clone(),
        index.clone(),
        supervisor,
        audience,
        options,
    );
    Context {
        fleet: Arc::new(fleet),
        events: EventRecorder::new(client, FIELD_MANAGER, "test".to_owned(), metrics.clone()),
        index,
        kubernetes,
        mandate: mandate(),
        metrics,
        clickhouse_changes: Counter::default(),
        checker: Checker::new(workspaces.clone(), Duration::from_mins(5)),
        issuer: Issuer::new(workspaces, Duration::from_mins(5)),
        kubernetes_uid: "uid-of-kubernetes".to_owned(),
        namespace: "aviary-system".to_owned(),
        resync_interval: Duration::from_mins(5),
    }
}

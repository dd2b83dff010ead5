//! For tests: objects, and what reconciles work with.

use crate::fleet::{Audience, Connected, Fleet, FleetOptions};
use crate::index::Index;
use crate::kubernetes::{FIELD_MANAGER, Kubernetes};
use crate::workspace::{Executor, Settings, Workspaces};
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

/// A fleet with this index, of one turn a cluster.
pub(crate) fn fleet(kubernetes: Kubernetes, index: Arc<Index>) -> Fleet {
    let options = FleetOptions {
        connect_deadline: Duration::from_secs(1),
        statement_deadline: Duration::from_secs(1),
        workspaces_at_once: 1,
    };
    let audience = Audience {
        clusters: Requests::channel().0,
        workspaces: Requests::channel().0,
    };
    let supervisor = Supervisor::new(Arc::new(Metrics::new("aviary")));
    Fleet::new(kubernetes, index, supervisor, audience, options)
}

/// What carries plans out for a lone replica of the operator.
pub(crate) fn executor() -> Executor {
    Executor {
        mandate: mandate(),
        changes: Counter::default(),
    }
}

/// Settings of an operator in a Kubernetes of its own.
pub(crate) fn settings() -> Settings {
    Settings {
        kubernetes_uid: "uid-of-kubernetes".to_owned(),
        namespace: "aviary-system".to_owned(),
        resync_interval: Duration::from_mins(5),
    }
}

/// The reconcile of workspaces in front of this API server.
pub(crate) fn workspaces(client: Client) -> Workspaces {
    let index = Arc::new(Index::default());
    let metrics = Arc::new(Metrics::new("aviary"));
    let kubernetes = kubernetes(client.clone(), index.clone());
    Workspaces::new(
        kubernetes.clone(),
        Arc::new(fleet(kubernetes, index)),
        executor(),
        EventRecorder::new(client, FIELD_MANAGER, "test".to_owned(), metrics.clone()),
        metrics,
        Requests::channel().0,
        settings(),
    )
}

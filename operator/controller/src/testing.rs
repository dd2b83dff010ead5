//! For tests: objects, and an API server that answers as told.

use crate::cluster::{Audience, Connected, Fleet, FleetOptions};
use crate::context::Context;
use crate::dispatch::Requests;
use crate::happenings::Telemetry;
use crate::index::Index;
use crate::kubernetes::Kubernetes;
use crate::leadership::{Leadership, Mandate};
use crate::metrics::Metrics;
use crate::supervision::Supervisor;
use crate::workspace::{Checker, Issuer};
use aviary_clickhouse::{Replica, ReplicaConfig};
use aviary_plan::{LastPublished, WorkspaceModel, WorkspaceObjects, model as make_model};
use kube::Client;
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
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

/// A request that a [`FakeApi`] got.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// The code of an answer that never comes.
pub(crate) const NO_ANSWER: u16 = 0;

/// An API server that answers as a test says and keeps what it was asked. Watches stay open and
/// silent.
#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<Vec<Request>>>);

impl FakeApi {
    /// A client of an API server that answers each request with a code and an object.
    pub(crate) fn client(
        &self,
        answer: impl Fn(&Request) -> (u16, Value) + Send + Sync + 'static,
    ) -> Client {
        let (asked, answer) = (self.0.clone(), Arc::new(answer));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                if head
                    .uri
                    .query()
                    .is_some_and(|query| query.contains("watch=true"))
                {
                    std::future::pending::<()>().await;
                }
                let body = body.collect_bytes().await?;
                let request = Request {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                let (code, object) = answer(&request);
                asked.lock().unwrap().push(request);
                if code == NO_ANSWER {
                    std::future::pending::<()>().await;
                }
                let body = Body::from(object.to_string().into_bytes());
                Ok::<_, kube::Error>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// What was asked so far, without events, which are sent in their own time.
    pub(crate) fn asked(&self) -> Vec<Request> {
        let asked = self.0.lock().unwrap();
        asked.iter().filter(|one| !is_event(one)).cloned().collect()
    }

    /// The events that were sent so far.
    pub(crate) fn events(&self) -> Vec<Request> {
        let asked = self.0.lock().unwrap();
        asked.iter().filter(|one| is_event(one)).cloned().collect()
    }
}

fn is_event(request: &Request) -> bool {
    request.path.ends_with("/events")
}

/// The API server's answer to a request that failed.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
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

/// The mandate of a lone replica.
pub(crate) fn mandate() -> Mandate {
    Leadership::unchallenged().mandate()
}

/// What reconciles work with, in front of this API server.
pub(crate) fn context(client: Client) -> Context {
    let index = Arc::new(Index::default());
    let kubernetes = Kubernetes::new(client.clone(), index.clone(), mandate());
    let metrics = Arc::new(Metrics::new());
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
        telemetry: Telemetry::new(client, "test".to_owned(), metrics.clone()),
        index,
        kubernetes,
        mandate: mandate(),
        metrics,
        checker: Checker::new(workspaces.clone(), Duration::from_mins(5)),
        issuer: Issuer::new(workspaces, Duration::from_mins(5)),
        kubernetes_uid: "uid-of-kubernetes".to_owned(),
        namespace: "aviary-system".to_owned(),
        resync_interval: Duration::from_mins(5),
    }
}

//! For tests: an API server that answers as told, and the mandate of a lone replica.

#![allow(clippy::unwrap_used)] // For tests only.

use crate::lease::{Leadership, Mandate};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A request that a [`FakeApi`] got.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Such as `PATCH`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// As JSON; null if there was none.
    pub body: Value,
}

/// The code of an answer that never comes.
pub const NO_ANSWER: u16 = 0;

/// An API server that answers as a test says and keeps what it was asked. Watches stay open and
/// silent.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<Vec<Request>>>);

impl FakeApi {
    /// A client of an API server that answers each request with a code and an object.
    pub fn client(
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
    pub fn asked(&self) -> Vec<Request> {
        let asked = self.0.lock().unwrap();
        asked.iter().filter(|one| !is_event(one)).cloned().collect()
    }

    /// The events that were sent so far.
    pub fn events(&self) -> Vec<Request> {
        let asked = self.0.lock().unwrap();
        asked.iter().filter(|one| is_event(one)).cloned().collect()
    }
}

fn is_event(request: &Request) -> bool {
    request.path.ends_with("/events")
}

/// The API server's answer to a request that failed.
pub fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}

/// The mandate of a lone replica.
pub fn mandate() -> Mandate {
    Leadership::unchallenged().mandate()
}

//! A real ClickHouse with workspaces as the operator makes them, and a gateway in
//! front of it that is fed by hand instead of by Kubernetes.

mod engine;
mod gateway;
mod log;
mod lossy;
mod process;
mod scene;
mod scripted;
mod workspace;

pub(crate) use engine::{PASSWORD, start_engine};
pub(crate) use gateway::{Served, start_gateway, start_gateway_process, start_logging_gateway};
pub(crate) use log::Log;
pub(crate) use lossy::Lossy;
pub(crate) use process::Process;
pub(crate) use scene::Scene;
pub(crate) use scripted::{Reply, STORED, Scripted, answer, exception};
pub(crate) use workspace::{ALL, Workspace};

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory for one purpose, empty at first.
pub(crate) fn scratch(purpose: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("gateway")
        .join(purpose);
    if path.exists() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    path
}

/// Somebody with a token.
#[derive(Clone)]
pub(crate) struct Caller {
    http: Client,
    address: SocketAddr,
    token: String,
}

/// An answer, all of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Caller {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        Self {
            http: Client::new(),
            address,
            token: token.to_owned(),
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.address))
            .bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        Answer::of(self.request(Method::POST, path).body(body)).await
    }

    /// Sends NDJSON; rows in the table and in quarantine.
    pub(crate) async fn events(&self, name: &str, body: impl Into<reqwest::Body>) -> (u64, u64) {
        self.post(&format!("/v0/events?name={name}&wait=true"), body)
            .await
            .counts()
    }

    /// Sends a CSV file; rows in the table and in quarantine.
    pub(crate) async fn csv(&self, name: &str, body: impl Into<reqwest::Body>) -> (u64, u64) {
        self.post(
            &format!("/v0/datasources?name={name}&mode=append&format=csv"),
            body,
        )
        .await
        .counts()
    }
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        assert_eq!(self.status, 200, "{}", self.text());
        let answer = self.json();
        (
            answer["successful_rows"].as_u64().unwrap(),
            answer["quarantined_rows"].as_u64().unwrap(),
        )
    }
}

/// ClickHouse's administrator.
#[derive(Clone)]
pub(crate) struct Admin {
    http: Client,
    address: SocketAddr,
}

impl Admin {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            http: Client::new(),
            address,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs a query that must succeed.
    pub(crate) async fn query(&self, sql: &str) -> String {
        String::from_utf8(self.bytes(sql).await)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    pub(crate) async fn bytes(&self, sql: &str) -> Vec<u8> {
        let request = self
            .http
            .post(self.url())
            .basic_auth("default", Some(PASSWORD))
            .body(sql.to_owned());
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.body
    }

    pub(crate) async fn number(&self, sql: &str) -> u64 {
        self.query(sql).await.parse().unwrap()
    }
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

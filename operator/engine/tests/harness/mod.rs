//! Short ways to talk to an engine by plain HTTP, for all test binaries.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode};

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory for one purpose, empty at first.
pub(crate) fn scratch(purpose: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("engine")
        .join(purpose);
    if path.exists() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    path
}

/// A new name with this beginning.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An answer, all of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of an exception that was told in time.
    pub(crate) fn exception(&self) -> Option<u32> {
        self.header("x-clickhouse-exception-code")
            .map(|code| code.parse().unwrap())
    }
}

/// Somebody who sends queries by plain HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client: Client,
    address: SocketAddr,
    user: String,
    password: String,
    url: Vec<(String, String)>,
}

impl Caller {
    pub(crate) fn new(address: SocketAddr, user: &str, password: &str) -> Self {
        Self {
            client: Client::new(),
            address,
            user: user.to_owned(),
            password: password.to_owned(),
            url: Vec::new(),
        }
    }

    /// The same caller with one more URL parameter.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut caller = self.clone();
        caller.url.push((name.to_owned(), value.to_owned()));
        caller
    }

    /// A request with this caller's credentials and parameters.
    pub(crate) fn request(&self, method: reqwest::Method) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("http://{}/", self.address))
            .query(&self.url)
            .header("X-ClickHouse-User", &self.user)
            .header("X-ClickHouse-Key", &self.password)
    }

    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> Answer {
        finish(self.request(reqwest::Method::POST).body(body)).await
    }

    pub(crate) async fn get(&self, query: &str) -> Answer {
        finish(
            self.request(reqwest::Method::GET)
                .query(&[("query", query)]),
        )
        .await
    }

    /// Runs a query that must succeed.
    pub(crate) async fn ok(&self, query: &str) -> String {
        let answer = self.post(query.to_owned()).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.text()
    }

    /// Runs a query that must fail, and returns its code.
    pub(crate) async fn fails(&self, query: &str) -> u32 {
        let answer = self.post(query.to_owned()).await;
        answer
            .exception()
            .unwrap_or_else(|| panic!("{query} succeeded: {}", answer.text()))
    }

    /// Runs a query until it gives `expected`.
    pub(crate) async fn eventually(&self, query: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.ok(query).await;
            if found == expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{query}: {found:?}, not {expected:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Sends a request and reads its whole answer.
pub(crate) async fn finish(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

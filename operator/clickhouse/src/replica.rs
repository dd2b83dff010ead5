//! One replica: its address, its login and a pool of connections to it. Every
//! call has a deadline.

use crate::canonical::Spellings;
use crate::error::ClickHouseError;
use crate::observe::Memory;
use clickhouse::Client;
use clickhouse::query::Query;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use url::Url;

/// ClickHouse closes idle connections after 3 seconds unless told otherwise.
const IDLE_CONNECTION: Duration = Duration::from_secs(2);

/// Where a replica is and how to log in.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Its name, for messages.
    pub name: String,
    /// The address of its HTTP interface.
    pub url: String,
    /// The operator's user.
    pub user: String,
    /// That user's password.
    pub password: SecretString,
    /// How long a connection may take to come about.
    pub connect_deadline: Duration,
    /// How long a statement may take, from request to the end of the answer.
    pub statement_deadline: Duration,
}

/// A replica to talk to. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Replica {
    name: String,
    client: Client,
    deadline: Duration,
    statements: Arc<AtomicU64>,
    given_up: CancellationToken,
    pub(crate) memory: Memory,
    pub(crate) spellings: Spellings,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Replica")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Replica {
    /// Prepares the connection. Nothing is sent before the first call.
    pub fn connect(config: &ReplicaConfig) -> Result<Self, ClickHouseError> {
        let misconfigured = |what: String| ClickHouseError::Misconfigured {
            replica: config.name.clone(),
            what,
        };
        let url = Url::parse(&config.url)
            .map_err(|error| misconfigured(format!("its url is not one: {error}")))?;
        let client = match url.scheme() {
            "http" => plain_client(config),
            "https" => tls_client(config)
                .map_err(|error| misconfigured(format!("no certificates to trust: {error}")))?,
            other => return Err(misconfigured(format!("`{other}` is no http or https url"))),
        };
        Ok(Self {
            name: config.name.clone(),
            client: client
                .with_url(config.url.clone())
                .with_user(&config.user)
                .with_password(config.password.expose_secret())
                // Answers are small, and not every server has the same compression.
                .with_compression(clickhouse::Compression::None)
                .with_validation(false)
                .with_product_info("aviary", env!("CARGO_PKG_VERSION")),
            deadline: config.statement_deadline,
            statements: Arc::default(),
            given_up: CancellationToken::new(),
            memory: Memory::default(),
            spellings: Spellings::default(),
        })
    }

    /// The same replica, which adds the statements it sends to a counter.
    #[must_use]
    pub fn counted_by(mut self, statements: Arc<AtomicU64>) -> Self {
        self.statements = statements;
        self
    }

    /// The same replica, of which nobody expects an answer any more from a moment on: what it was
    /// asked ends then as if its time were over.
    #[must_use]
    pub fn until(mut self, given_up: CancellationToken) -> Self {
        self.given_up = given_up;
        self
    }

    /// Whether it answers the smallest question within this time, if only with a refusal.
    pub async fn is_there(&self, within: Duration) -> bool {
        let sign = self.run(self.query("SELECT 1"));
        match tokio::time::timeout(within, sign).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => !error.is_silence(),
            Err(_) => false,
        }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A statement that is still to be run.
    pub(crate) fn query(&self, sql: &str) -> Query {
        self.client.query_raw(sql)
    }

    /// The same replica, seen by another user.
    pub(crate) fn as_user(&self, user: &str, password: &SecretString) -> Client {
        self.client
            .clone()
            .with_user(user)
            .with_password(password.expose_secret())
    }

    /// Runs a statement without an answer.
    pub(crate) async fn run(&self, query: Query) -> Result<(), ClickHouseError> {
        self.in_time(query.execute()).await
    }

    /// Runs a statement and reads its rows.
    pub(crate) async fn rows<T: DeserializeOwned>(
        &self,
        query: Query,
    ) -> Result<Vec<T>, ClickHouseError> {
        let answer = self
            .in_time(async { query.fetch_bytes("JSONEachRow")?.collect().await })
            .await?;
        answer
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line).map_err(|error| ClickHouseError::Malformed {
                    replica: self.name.clone(),
                    // The error itself could quote what is there.
                    what: format!("a row, from its column {} on", error.column()),
                })
            })
            .collect()
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, clickhouse::error::Error>>,
    ) -> Result<T, ClickHouseError> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let in_time = tokio::time::timeout(self.deadline, call);
        let deadline = match self.given_up.run_until_cancelled(in_time).await {
            Some(Ok(Ok(answer))) => return Ok(answer),
            Some(Ok(Err(error))) => return Err(ClickHouseError::from_client(&self.name, &error)),
            Some(Err(_)) => self.deadline,
            None => Duration::from_secs(begun.elapsed().as_secs()),
        };
        Err(ClickHouseError::TimedOut {
            replica: self.name.clone(),
            deadline,
        })
    }
}

fn connector(config: &ReplicaConfig) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(config.connect_deadline));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector
}

fn plain_client(config: &ReplicaConfig) -> Client {
    let pool = HyperClient::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_CONNECTION)
        .build(connector(config));
    Client::with_http_client(pool)
}

fn tls_client(config: &ReplicaConfig) -> std::io::Result<Client> {
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_only()
        .enable_http1()
        .wrap_connector(connector(config));
    let pool = HyperClient::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_CONNECTION)
        .build(tls);
    Ok(Client::with_http_client(pool))
}

//! One replica: its address, its login and a pool of connections to it. Every
//! call has a deadline.

use crate::error::ClickHouseError;
use crate::http::{Answer, Client, Login, Query};
use crate::server_cache::ServerCache;
use crate::spelling_cache::SpellingCache;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

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
    login: Login,
    deadline: Duration,
    statements: Arc<AtomicU64>,
    given_up: CancellationToken,
    pub(crate) server: ServerCache,
    pub(crate) spellings: SpellingCache,
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
        let client = Client::new(&config.url, config.connect_deadline).map_err(|error| {
            ClickHouseError::Misconfigured {
                replica: config.name.clone(),
                what: error.to_string(),
            }
        })?;
        Ok(Self {
            name: config.name.clone(),
            client,
            login: login(&config.name, &config.user, &config.password)?,
            deadline: config.statement_deadline,
            statements: Arc::default(),
            given_up: CancellationToken::new(),
            server: ServerCache::default(),
            spellings: SpellingCache::default(),
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
        Query::new(self.login.clone(), sql)
    }

    /// The same replica, seen by another user.
    pub(crate) fn as_user(
        &self,
        user: &str,
        password: &SecretString,
    ) -> Result<Self, ClickHouseError> {
        Ok(Self {
            login: login(&self.name, user, password)?,
            ..self.clone()
        })
    }

    /// Runs a statement without an answer.
    pub(crate) async fn run(&self, query: Query) -> Result<(), ClickHouseError> {
        self.answer(query).await.map(drop)
    }

    /// Runs a statement and reads its rows.
    pub(crate) async fn rows<T: DeserializeOwned>(
        &self,
        query: Query,
    ) -> Result<Vec<T>, ClickHouseError> {
        let answer = self.answer(query.with("default_format", "JSONEachRow"));
        self.read_rows(&answer.await?)
    }

    /// The same of whatever answers, which may be a ClickHouse of before 19.x: that proves nothing in
    /// its head. What is read must be of use to nobody until something in it is proof enough.
    pub(crate) async fn unproven_rows<T: DeserializeOwned>(
        &self,
        query: Query,
    ) -> Result<Vec<T>, ClickHouseError> {
        let answer = self
            .ask(query.with("default_format", "JSONEachRow"))
            .await?;
        let rows = self.read_rows(&answer);
        rows.map_err(|error| {
            if answer.is_proven {
                error
            } else {
                ClickHouseError::foreign(&self.name)
            }
        })
    }

    async fn answer(&self, query: Query) -> Result<Answer, ClickHouseError> {
        let answer = self.ask(query).await?;
        if answer.is_proven {
            Ok(answer)
        } else {
            Err(ClickHouseError::foreign(&self.name))
        }
    }

    async fn ask(&self, query: Query) -> Result<Answer, ClickHouseError> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let in_time = tokio::time::timeout(self.deadline, self.client.ask(query));
        let deadline = match self.given_up.run_until_cancelled(in_time).await {
            Some(Ok(answer)) => {
                return answer.map_err(|error| ClickHouseError::from_http(&self.name, &error));
            }
            Some(Err(_)) => self.deadline,
            None => Duration::from_secs(begun.elapsed().as_secs()),
        };
        Err(ClickHouseError::TimedOut {
            replica: self.name.clone(),
            deadline,
        })
    }

    /// What is no UTF-8, such as a column's name that somebody made of bytes, is read with U+FFFD for
    /// each bad byte.
    fn read_rows<T: DeserializeOwned>(&self, answer: &Answer) -> Result<Vec<T>, ClickHouseError> {
        String::from_utf8_lossy(&answer.body)
            .split('\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_str(line).map_err(|error| ClickHouseError::Malformed {
                    replica: self.name.clone(),
                    // The error itself could quote what is there.
                    what: format!("a row, from its column {} on", error.column()),
                })
            })
            .collect()
    }
}

fn login(replica: &str, user: &str, password: &SecretString) -> Result<Login, ClickHouseError> {
    Login::new(user, password).ok_or_else(|| ClickHouseError::Misconfigured {
        replica: replica.to_owned(),
        what: "its user or password holds characters that HTTP cannot carry".to_owned(),
    })
}

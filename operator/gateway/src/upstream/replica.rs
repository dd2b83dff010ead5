//! One replica: its idle connections, and whether it is known to be away.

use super::connection::{Answer, Connection, Request};
use super::stream::Stream;
use super::{Address, UpstreamError};
use crate::metrics::{Metrics, ReplicaUp};
use crate::workers::PerWorker;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Idle connections of a worker beyond this are closed.
const MOST_IDLE: usize = 256;

/// Connections without a request. Each stays in its box, since it moves with its answer through
/// every step of a request.
type Idle = Vec<Box<Connection>>;

/// How connections are made.
#[derive(Clone)]
pub(crate) struct ReplicaSettings {
    /// How long a connection may take to come up.
    pub(crate) connect_timeout: Duration,
    /// How often a replica that is away is looked at again.
    pub(crate) probe_interval: Duration,
    /// For `https` addresses.
    pub(crate) tls: TlsConnector,
}

/// A replica of ClickHouse.
pub(crate) struct Replica {
    address: Address,
    settings: ReplicaSettings,
    metrics: Arc<Metrics>,
    up: Arc<ReplicaUp>,
    /// For each worker the connections that it made: another could use them, but
    /// would have to be woken by the one that made them.
    idle: PerWorker<Mutex<Idle>>,
    away: AtomicBool,
}

impl Replica {
    pub(super) fn new(
        address: Address,
        settings: ReplicaSettings,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            up: metrics.replica(&address.authority),
            address,
            settings,
            metrics,
            idle: PerWorker::new(Mutex::default),
            away: AtomicBool::new(false),
        })
    }

    /// Whether it did not answer the last time and has not been seen since.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for the head of its answer. A request that may be
    /// carried out twice is sent again when an idle connection turns out to be closed.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: &Request<'_>,
    ) -> Result<Answer, UpstreamError> {
        let now = Instant::now();
        if let Some(connection) = self.take_idle(now) {
            match self.exchange(now, connection, request).await {
                Err(UpstreamError::Interrupted(_)) if request.repeatable => {}
                result => return result.map_err(|error| self.note(error)),
            }
        }
        let result = match self.connect().await {
            Ok(connection) => self.exchange(Instant::now(), connection, request).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| self.note(error))
    }

    async fn exchange(
        self: &Arc<Self>,
        now: Instant,
        mut connection: Box<Connection>,
        request: &Request<'_>,
    ) -> Result<Answer, UpstreamError> {
        let head = connection.exchange(now, &self.address, request).await?;
        Ok(Answer::new(head, connection, Arc::clone(self)))
    }

    pub(super) fn give_back(&self, now: Instant, connection: Box<Connection>) {
        let mut idle = self.idle();
        // The oldest stand first and are used last: those are the ones that expire.
        while idle.first().is_some_and(|oldest| oldest.idle_until <= now) {
            idle.remove(0);
        }
        if idle.len() < MOST_IDLE {
            idle.push(connection);
        }
    }

    fn take_idle(&self, now: Instant) -> Option<Box<Connection>> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).find(|connection| connection.is_alive(now))
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        let own = self.idle.own().lock();
        own.unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Box<Connection>, UpstreamError> {
        let connecting = timeout(self.settings.connect_timeout, self.open()).await;
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let stream = connecting
            .unwrap_or_else(|_| Err(late()))
            .map_err(UpstreamError::Connect)?;
        Ok(Box::new(Connection::new(stream)))
    }

    async fn open(&self) -> io::Result<Stream> {
        let address = (self.address.host.as_str(), self.address.port);
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(match &self.address.server_name {
            None => Stream::Plain(socket),
            Some(name) => {
                let encrypted = self.settings.tls.connect(name.clone(), socket).await?;
                Stream::Encrypted(Box::new(encrypted))
            }
        })
    }

    /// Counts an error, and finds out whether the replica is still there.
    fn note(self: &Arc<Self>, error: UpstreamError) -> UpstreamError {
        self.metrics.upstream_error(error.reason());
        match error {
            UpstreamError::Connect(_) => self.leave(),
            UpstreamError::Timeout => drop(tokio::spawn(suspect(Arc::clone(self)))),
            _ => {}
        }
        error
    }

    /// Takes the replica out of the choice until it is seen again.
    fn leave(self: &Arc<Self>) {
        if self.away.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(replica = %self.address.authority, "replica is away");
        self.up.set(false);
        for idle in self.idle.iter() {
            idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        tokio::spawn(watch_for_return(
            Arc::downgrade(self),
            self.settings.probe_interval,
        ));
    }

    async fn answers(&self) -> bool {
        let ping = async {
            match self.connect().await {
                Ok(mut connection) => connection.ping(&self.address).await,
                Err(_) => false,
            }
        };
        timeout(self.settings.connect_timeout, ping)
            .await
            .unwrap_or(false)
    }
}

/// A query without an answer may be slow, or its replica may hang.
async fn suspect(replica: Arc<Replica>) {
    if !replica.is_away() && !replica.answers().await {
        replica.leave();
    }
}

/// Looks for a replica that is away, so that no request has to find out.
async fn watch_for_return(replica: Weak<Replica>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(replica) = replica.upgrade() else {
            return;
        };
        if replica.answers().await {
            replica.away.store(false, Ordering::Relaxed);
            replica.up.set(true);
            tracing::info!(replica = %replica.address.authority, "replica is back");
            return;
        }
    }
}

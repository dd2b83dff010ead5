//! One replica: its idle connections, and whether it is known to be away.

use super::address::Address;
use super::connection::Connection;
use super::ejection::Ejection;
use super::error::UpstreamError;
use super::patience::Losses;
use super::stream::Stream;
use crate::metrics::{Metrics, ReplicaState};
use crate::workers::PerWorker;
use aviary_crds::address;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Idle connections of a worker beyond this are closed.
const MOST_IDLE: usize = 256;

/// How often a replica that answers is asked for its health.
const LOOK: Duration = Duration::from_secs(1);
/// A replica that is silent when asked for its health so many times, one after another, is dead,
/// whatever its machine goes on taking. One that is busy answers: it costs nothing.
const DEAD_AFTER: u32 = 4;
/// How long the other machine may confirm nothing of what was sent to it.
const UNCONFIRMED: Duration = Duration::from_secs(30);
/// When a quiet connection is asked whether the other machine is still there, and how often then.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How a replica answers when it is asked whether it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Answers,
    /// It takes no connections, or says no: it ends, or is not up yet. What is in flight may
    /// still end well, and if its process is gone, connections have broken.
    Refuses,
    /// Nothing comes back at all.
    Silent,
}

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
    pub(super) address: Address,
    settings: ReplicaSettings,
    metrics: Arc<Metrics>,
    state: Arc<ReplicaState>,
    /// For each worker the connections that it made: another could use them, but
    /// would have to be woken by the one that made them.
    idle: PerWorker<Mutex<Idle>>,
    away: AtomicBool,
    losses: Losses,
    ejection: Ejection,
    /// Whether a task looks after it.
    looked_after: AtomicBool,
}

impl Replica {
    pub(super) fn new(
        address: Address,
        settings: ReplicaSettings,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: metrics.replica(&address.authority),
            address,
            settings,
            metrics,
            idle: PerWorker::new(Mutex::default),
            away: AtomicBool::new(false),
            losses: Losses::default(),
            ejection: Ejection::default(),
            looked_after: AtomicBool::new(false),
        })
    }

    /// Whether it did not answer the last time and has not been seen since.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(super) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Notes why there is no answer. ClickHouse ends what takes too long by itself, and earlier.
    pub(super) fn unanswered(self: &Arc<Self>, error: UpstreamError) -> UpstreamError {
        if let UpstreamError::Interrupted(_)
        | UpstreamError::Timeout
        | UpstreamError::Foreign
        | UpstreamError::Malformed(_) = error
        {
            self.fail(&error);
        }
        self.note(error)
    }

    /// Notes that it did what it was asked.
    pub(super) fn did_well(&self) {
        if self.ejection.did_well() {
            self.state.set_ejected(None);
            tracing::info!(replica = %self.address.authority, "replica does well again");
        }
    }

    /// Notes that it failed at what others may do.
    pub(super) fn fail(&self, reason: &UpstreamError) {
        self.metrics.replica_failure();
        if let Some(until) = self.ejection.failed(Instant::now()) {
            self.state.set_ejected(Some(until));
            tracing::warn!(replica = %self.address.authority, %reason, "replica fails: others are asked first for a while");
        }
    }

    /// Whether it fails at what others may do, so that they should be asked first.
    pub(crate) fn is_out(&self) -> bool {
        self.ejection.is_out(Instant::now())
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

    pub(super) fn take_idle(&self, now: Instant) -> Option<Box<Connection>> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).find(|connection| connection.is_alive(now))
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        let own = self.idle.own().lock();
        own.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn connect(&self) -> Result<Box<Connection>, UpstreamError> {
        let connecting = timeout(self.settings.connect_timeout, self.open()).await;
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let stream = connecting
            .unwrap_or_else(|_| Err(late()))
            .map_err(UpstreamError::Connect)?;
        Ok(Box::new(Connection::new(stream)))
    }

    async fn open(&self) -> io::Result<Stream> {
        let address = (self.address.host.as_str(), self.address.port);
        let found = address::allowed(lookup_host(address).await?)?;
        let socket = TcpStream::connect(&*found).await?;
        socket.set_nodelay(true)?;
        let options = SockRef::from(&socket);
        options.set_tcp_user_timeout(Some(UNCONFIRMED))?;
        options.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(KEEPALIVE)
                .with_interval(KEEPALIVE),
        )?;
        Ok(match &self.address.server_name {
            None => Stream::Plain(socket),
            Some(name) => {
                let encrypted = self.settings.tls.connect(name.clone(), socket).await?;
                Stream::Encrypted(Box::new(encrypted))
            }
        })
    }

    /// Counts an error, and finds out whether the replica is still there.
    pub(super) fn note(self: &Arc<Self>, error: UpstreamError) -> UpstreamError {
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
        self.look_after();
        if self.away.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(replica = %self.address.authority, "replica is away");
        self.state.set_up(false);
        for idle in self.idle.iter() {
            idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Gives up what is in flight to it.
    fn lose(self: &Arc<Self>, first: bool) {
        if first {
            tracing::warn!(replica = %self.address.authority, "replica answers nothing any more");
        }
        self.leave();
        self.losses.add();
    }

    fn come_back(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            self.state.set_up(true);
            tracing::info!(replica = %self.address.authority, "replica is back");
        }
    }

    async fn health(&self) -> Health {
        let ping = async {
            let mut connection = self.open().await.map(Connection::new)?;
            Ok(connection.ping(&self.address).await)
        };
        match timeout(self.settings.connect_timeout, ping).await {
            Ok(Ok(true)) => Health::Answers,
            Ok(Ok(false)) => Health::Refuses,
            // What the system gave up waiting for.
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Health::Silent,
            Ok::<io::Result<bool>, _>(Err(_)) => Health::Refuses,
            Err(_) => Health::Silent,
        }
    }

    /// Sees to it that somebody asks for its health.
    pub(super) fn look_after(self: &Arc<Self>) {
        if !self.looked_after.load(Ordering::Relaxed)
            && !self.looked_after.swap(true, Ordering::Relaxed)
        {
            let looking = Looking(Arc::downgrade(self));
            tokio::spawn(looking.look(self.settings.probe_interval));
        }
    }
}

/// A query without an answer may be slow, or its replica may hang.
async fn suspect(replica: Arc<Replica>) {
    if !replica.is_away() && replica.health().await != Health::Answers {
        replica.leave();
    }
}

/// Somebody who asks for the health of a replica for as long as it is in use.
struct Looking(Weak<Replica>);

impl Looking {
    /// Looks often while it does not answer.
    async fn look(self, interval: Duration) {
        let mut silent = 0;
        let mut wait = interval;
        loop {
            tokio::time::sleep(wait).await;
            let Some(replica) = self.0.upgrade() else {
                return;
            };
            let health = replica.health().await;
            silent = if health == Health::Silent {
                silent + 1
            } else {
                0
            };
            if health == Health::Answers {
                replica.come_back();
                wait = LOOK;
            } else {
                wait = interval;
            }
            // What is sent to it while it is dead is given up, too.
            if silent >= DEAD_AFTER {
                replica.lose(silent == DEAD_AFTER);
            }
        }
    }
}

/// If the task ends while the replica is in use, the next request starts another.
impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(replica) = self.0.upgrade() {
            replica.looked_after.store(false, Ordering::Relaxed);
        }
    }
}

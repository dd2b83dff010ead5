//! Starting and stopping an engine.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::EngineConfig;
use crate::core::Core;
use crate::error::EngineError;
use crate::http::server;

/// Starts engines.
#[derive(Debug)]
pub struct Engine;

/// An engine that serves requests until [`RunningEngine::shutdown`].
pub struct RunningEngine {
    core: Arc<Core>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Opens libchdb on the data path and serves HTTP. One engine serves one
    /// data path, and one process runs one engine at a time.
    pub async fn start(config: EngineConfig) -> Result<RunningEngine, EngineError> {
        let mut sockets = Vec::new();
        for &address in &config.listen {
            let socket = TcpListener::bind(address)
                .await
                .map_err(|source| EngineError::Listen { address, source })?;
            sockets.push((address, socket));
        }
        let runtime = Handle::current();
        let data_path = config.data_path.clone();
        let core = tokio::task::spawn_blocking(move || Core::open(config, runtime))
            .await
            .map_err(|error| EngineError::Broken {
                reason: error.to_string(),
            })??;
        let core = Arc::new(core);

        let (stop, stopped) = watch::channel(false);
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for (address, socket) in sockets {
            addresses.push(socket.local_addr().unwrap_or(address));
            listeners.push(tokio::spawn(server::serve(
                Arc::clone(&core),
                socket,
                stopped.clone(),
            )));
        }
        tracing::warn!(
            version = core.facts.version,
            ?addresses,
            data_path = %data_path.display(),
            "the embedded engine is for development and tests: run clickhouse-server where data matters"
        );
        Ok(RunningEngine {
            core,
            addresses,
            stop,
            listeners,
        })
    }
}

impl RunningEngine {
    /// The first address it listens on.
    ///
    /// # Panics
    /// Never: an engine listens on at least the addresses it was given; with
    /// none given this returns the unspecified address.
    pub fn address(&self) -> SocketAddr {
        self.addresses
            .first()
            .copied()
            .unwrap_or_else(|| ([0, 0, 0, 0], 0).into())
    }

    /// All addresses it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// ClickHouse's version, as `SELECT version()` gives it.
    pub fn version(&self) -> &str {
        &self.core.facts.version
    }

    /// How often libchdb was opened: once at the start, and again for changed users.
    pub fn openings(&self) -> u64 {
        self.core.openings()
    }

    /// Stops: no new connections, running queries up to the deadline, then
    /// libchdb is closed.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        self.core.close().await;
        for listener in self.listeners {
            // Clients that keep an idle or stuck connection open do not hold up the stop.
            let _ = tokio::time::timeout(self.core.config.shutdown_deadline, listener).await;
        }
    }
}

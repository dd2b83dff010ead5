//! Starting and stopping an engine.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use tokio::runtime::{self, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

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
    /// Ends once the last connection has.
    served: oneshot::Receiver<()>,
}

impl Engine {
    /// Opens libchdb on the data path and serves HTTP. One engine serves one
    /// data path, and one process runs one engine at a time.
    pub async fn start(config: EngineConfig) -> Result<RunningEngine, EngineError> {
        let mut sockets = Vec::new();
        let mut addresses = Vec::new();
        for &address in &config.listen {
            let (socket, bound) =
                listen(address).map_err(|source| EngineError::Listen { address, source })?;
            sockets.push(socket);
            addresses.push(bound);
        }
        let data_path = config.data_path.clone();
        let broken = |reason: String| EngineError::Broken { reason };
        let opened = tokio::task::spawn_blocking(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| broken(error.to_string()))?;
            let core = Core::open(config, runtime.handle().clone())?;
            Ok::<_, EngineError>((core, runtime))
        });
        let (core, runtime) = opened.await.map_err(|error| broken(error.to_string()))??;
        let core = Arc::new(core);

        let (stop, stopped) = watch::channel(false);
        let (ended, served) = oneshot::channel();
        let serving = Arc::clone(&core);
        thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                serve(&runtime, &serving, sockets, &stopped);
                // Whoever stops the engine may have stopped waiting.
                let _ = ended.send(());
            })
            .map_err(|error| broken(error.to_string()))?;
        tracing::warn!(
            version = core.info.version,
            ?addresses,
            data_path = %data_path.display(),
            "the embedded engine is for development and tests: run clickhouse-server where data matters"
        );
        Ok(RunningEngine {
            core,
            addresses,
            stop,
            served,
        })
    }
}

fn listen(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Serves all connections on this thread. It only passes bytes on, and a request costs one wake of a
/// worker and one of this thread; on a runtime of several threads it would cost some of those, too.
fn serve(
    runtime: &Runtime,
    core: &Arc<Core>,
    sockets: Vec<TcpListener>,
    stopped: &watch::Receiver<bool>,
) {
    runtime.block_on(async {
        let mut listeners = JoinSet::new();
        for socket in sockets {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => {
                    listeners.spawn(server::serve(Arc::clone(core), socket, stopped.clone()));
                }
                Err(error) => tracing::error!(%error, "cannot serve a listener"),
            }
        }
        listeners.join_all().await;
    });
}

impl RunningEngine {
    /// The first address it listens on.
    ///
    /// # Panics
    /// Never: an engine listens on at least the addresses it was given; with
    /// none given this returns the unspecified address.
    pub fn address(&self) -> SocketAddr {
        let first = self.addresses.first().copied();
        first.unwrap_or_else(|| ([0, 0, 0, 0], 0).into())
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
        // Clients that keep an idle or stuck connection open do not hold up the stop.
        let _ = tokio::time::timeout(self.core.config.shutdown_deadline, self.served).await;
    }
}

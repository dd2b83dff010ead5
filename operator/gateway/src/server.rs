//! The gateway as a server: takes connections, and ends without breaking a request.

use crate::answer_body::Body;
use crate::args::GatewayArgs;
use crate::attempts::Attempts;
use crate::budgets::{BudgetError, Budgets, LARGEST_HEAD, Sizes};
use crate::client_stream::ClientStream;
use crate::connections::{Connections, Peer};
use crate::event::{AccessLog, Consumers};
use crate::head_timer::HeadTimer;
use crate::index::Index;
use crate::ingest;
use crate::metrics::Metrics;
use crate::open_files;
use crate::origin::Origin;
use crate::service::{Service, plain};
use crate::upstream::ReplicaSettings;
use crate::workers::{PerWorker, Workers};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a replica that is away is looked at.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// When the system has no file handle left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the last lines of the access log may take.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Connections for metrics and health, and those of one origin: whoever has many must not keep the
/// kubelet from its probes.
const OBSERVERS: usize = 128;
const OBSERVERS_OF_ORIGIN: usize = 32;

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address is taken or not ours.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no way to the apiserver.
    #[error("find the Kubernetes apiserver: {0}")]
    Kubernetes(#[source] Box<kube::Error>),
    /// The limits do not go together.
    #[error("share out the memory: {0}")]
    Budgets(#[from] BudgetError),
    /// The system's TLS settings are unusable.
    #[error("prepare TLS: {0}")]
    Tls(String),
    /// The threads that serve clients cannot be started.
    #[error("start the threads that serve clients: {0}")]
    Workers(#[source] std::io::Error),
    /// The thread that writes the access log cannot be started.
    #[error("start the access log: {0}")]
    AccessLog(#[source] std::io::Error),
    /// Signals cannot be listened for.
    #[error("listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// A gateway. Feed its [`Index`], and serve.
#[derive(Clone)]
pub struct Gateway {
    service: Arc<Service>,
    connections: Arc<Connections>,
    access_log: Option<Arc<AccessLog>>,
    args: Arc<GatewayArgs>,
}

impl Gateway {
    /// A gateway that serves nothing yet. Knows nothing of Kubernetes. If the arguments ask for an
    /// access log, it goes to standard output.
    pub fn new(args: GatewayArgs) -> Result<Self, GatewayError> {
        Self::with_access_log(args, std::io::stdout())
    }

    /// The same, with another place for the access log.
    pub fn with_access_log(
        args: GatewayArgs,
        output: impl Write + Send + 'static,
    ) -> Result<Self, GatewayError> {
        let metrics = Arc::new(Metrics::new());
        let replicas = ReplicaSettings {
            connect_timeout: args.connect_timeout.get(),
            probe_interval: PROBE_INTERVAL,
            tls: tls()?,
        };
        let sizes = Sizes::of(&args)?.within(open_files::raise());
        let ingestion = ingest::Settings {
            block_bytes: sizes.block(&args),
            insert_timeout: args.insert_timeout.get(),
            insert_repeat: args.insert_repeat.get(),
            body_timeout: args.body_timeout.get(),
        };
        let budgets = Budgets::new(sizes, args.uploads_per_workspace, &metrics);
        let connections = Connections::new(
            sizes.connections as usize,
            sizes.connections_of_origin as usize,
            metrics.connections(),
        );
        let index = Index::new(replicas, ingestion, budgets, Arc::clone(&metrics));
        let access_log = if args.access_log {
            let access_log = AccessLog::start(output, metrics.access_log_dropped());
            Some(Arc::new(access_log.map_err(GatewayError::AccessLog)?))
        } else {
            None
        };
        let consumers = || Consumers::new(Arc::clone(&metrics), access_log.clone());
        let service = Service {
            index: Arc::new(index),
            attempts: Attempts::new(args.failed_logins_per_address),
            consumers: PerWorker::new(consumers),
            metrics,
            ready: Arc::new(AtomicBool::new(false)),
        };
        Ok(Self {
            access_log,
            service: Arc::new(service),
            connections,
            args: Arc::new(args),
        })
    }

    /// What is served.
    pub fn index(&self) -> &Arc<Index> {
        &self.service.index
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.service.metrics
    }

    /// Says whether requests should be sent here.
    pub fn set_ready(&self, ready: bool) {
        self.service.ready.store(ready, Ordering::Relaxed);
    }

    /// Serves clients until `stop`; then ends connections as their requests end,
    /// and returns when all have, or when the time for that is over.
    pub async fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<(), GatewayError> {
        let connections = TaskTracker::new();
        let workers = {
            let (gateway, stop, connections) = (self.clone(), stop.clone(), connections.clone());
            // A token of its own, since a connection locks its token whenever it wakes up.
            let serve = move |(socket, peer)| {
                let connection = gateway.clone().connection(socket, peer, stop.child_token());
                connections.track_future(connection)
            };
            Workers::start(serve).map_err(GatewayError::Workers)?
        };
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let taken = accepted.and_then(|(socket, address)| {
                match self.connections.admit(Origin::of(address.ip())) {
                    Some(peer) => workers.take(socket, peer),
                    None => {
                        self.service.metrics.refused("connection");
                        self.connections.refuse(socket);
                        Ok(())
                    }
                }
            });
            if let Err(error) = taken {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(self.args.drain_timeout.get(), connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = connections.len(),
                "requests in flight are broken off"
            );
        }
        if let Some(access_log) = &self.access_log {
            let access_log = Arc::clone(access_log);
            let flushed = tokio::task::spawn_blocking(move || access_log.flush(LAST_LINES));
            let _ = flushed.await;
        }
        Ok(())
    }

    async fn connection(self, socket: TcpStream, peer: Peer, stop: CancellationToken) {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "set TCP_NODELAY");
        }
        let peer = Arc::new(peer);
        let timer = HeadTimer::new(self.args.header_timeout.get());
        let stream = ClientStream::new(
            socket,
            Arc::clone(&peer),
            self.args.write_timeout.get(),
            timer.clone(),
        );
        let service = service_fn(|request| {
            let answer = self.service.answer(request, &peer);
            answer.map(Ok::<_, Infallible>)
        });
        let connection = http1::Builder::new()
            .timer(timer)
            // From the end of the answer before it; the timer sees to the rest.
            .header_read_timeout(self.args.idle_timeout.get())
            .max_buf_size(LARGEST_HEAD)
            .serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` for as long as the process lives.
    pub async fn serve_metrics(&self, listener: TcpListener) {
        let observers = Connections::new(OBSERVERS, OBSERVERS_OF_ORIGIN, Gauge::default());
        loop {
            let Ok((socket, address)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Some(peer) = observers.admit(Origin::of(address.ip())) else {
                observers.refuse(socket);
                continue;
            };
            let service = Arc::clone(&self.service);
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let response = observe(&service, request.uri().path());
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(socket), answer);
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection for metrics ended early");
                }
                drop(peer);
            });
        }
    }
}

fn observe(service: &Service, path: &str) -> Response<Body> {
    match path {
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => service.readiness(),
        "/metrics" => {
            let mut response = Response::new(Body::full(Bytes::from(service.metrics.encode())));
            let media_type = HeaderValue::from_static(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            );
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, media_type);
            response
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz\n",
        ),
    }
}

/// For replicas behind `https`: the certificate authorities of the system.
fn tls() -> Result<TlsConnector, GatewayError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| GatewayError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

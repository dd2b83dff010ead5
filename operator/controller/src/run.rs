//! Starts everything and stops it in order: serve, lead, watch, reconcile; then the other way round.

use crate::args::OperatorArgs;
use crate::cluster::Clusters;
use crate::fleet::{Audience, Fleet, FleetOptions, ReplicaMetrics};
use crate::index::{Index, ObjectMetrics};
use crate::kubernetes::{FIELD_MANAGER, Kubernetes};
use crate::watches::{self, Feed};
use crate::workspace::{Executor, Settings, Workspaces};
use aviary_runtime::ObjectName;
use aviary_runtime::dispatch::{Requests, dispatch};
use aviary_runtime::events::EventRecorder;
use aviary_runtime::kubernetes::{Kubernetes as KubernetesApi, KubernetesError, counting_client};
use aviary_runtime::lease::{CampaignEnded, Candidate, Leadership, Mandate, Terms, campaign};
use aviary_runtime::metrics::Metrics;
use aviary_runtime::queue::{Next, Timing};
use aviary_runtime::server::{Answers, serve};
use aviary_runtime::supervision::Supervisor;
use aviary_runtime::watch::{Progress, Watches};
use kube::{Client, Config};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The pause after the first failure of an object; it doubles up to the resync interval.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The pause before the API server is asked again which Kubernetes it is of.
const IDENTIFYING_PAUSE: Duration = Duration::from_secs(2);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No kubeconfig and not in a Pod, or either is broken.
    #[error("find the Kubernetes API: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client cannot be made.
    #[error("set up the Kubernetes client: {0}")]
    Client(Box<kube::Error>),
    /// The address is taken, or not this machine's.
    #[error("listen on {address}: {error}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("wait for signals: {0}")]
    Signal(std::io::Error),
    /// Another replica may have taken over: this one must not go on.
    #[error("the lease was lost to another replica, or could not be renewed in time")]
    LeaseLost,
    /// Nothing stands for election any more: another process may do better.
    #[error("the task that stands for election ended by itself")]
    CampaignEnded,
}

/// Runs the operator until SIGTERM or SIGINT, or until it must not go on.
pub async fn run(args: OperatorArgs) -> Result<(), OperatorError> {
    let stop = stop_on_signal()?;
    let metrics = Arc::new(Metrics::new("aviary"));
    let config = Config::infer().await?;
    let client = counting_client(config, metrics.clone())
        .map_err(|error| OperatorError::Client(Box::new(error)))?;
    let progress = Progress::default();
    let supervisor = Supervisor::new(metrics.clone());
    let server = start_server(&args, &metrics, &progress, &supervisor, &stop).await?;

    let give_back = CancellationToken::new();
    let (mut leadership, campaign) = elect(&client, &args, &give_back);
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        acquired = leadership.acquired() => match acquired {
            Ok(()) => {
                metrics.leads();
                lead(&args, client, &metrics, progress, supervisor, &mut leadership, &stop).await
            }
            Err(CampaignEnded) => Err(OperatorError::CampaignEnded),
        },
    };
    stop.cancel();
    give_back.cancel();
    if let Some(campaign) = campaign {
        let _ = campaign.await;
    }
    let _ = server.await;
    if ended.is_ok() {
        tracing::info!("stopped");
    }
    ended
}

/// Works until `stop`, or until the lease is lost.
async fn lead(
    args: &OperatorArgs,
    client: Client,
    metrics: &Arc<Metrics>,
    progress: Progress,
    supervisor: Supervisor,
    leadership: &mut Leadership,
    stop: &CancellationToken,
) -> Result<(), OperatorError> {
    let mandate = leadership.mandate();
    let work = work(args, client, metrics, progress, supervisor, mandate, stop);
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => Ok(()),
        () = leadership.lost() => Err(OperatorError::LeaseLost),
    }
}

/// Watches everything, then reconciles until `stop` and finishes what is under way.
async fn work(
    args: &OperatorArgs,
    client: Client,
    metrics: &Arc<Metrics>,
    progress: Progress,
    supervisor: Supervisor,
    mandate: Mandate,
    stop: &CancellationToken,
) {
    let index = Arc::new(Index::default());
    let api = KubernetesApi::new(client.clone(), FIELD_MANAGER, mandate.clone());
    let kubernetes = Kubernetes::new(api, index.clone());
    let (workspaces, workspace_requests) = Requests::channel();
    let (revocations, revocation_requests) = Requests::channel();
    let (clusters, cluster_requests) = Requests::channel();
    let fleet = Arc::new(Fleet::new(
        kubernetes.clone(),
        index.clone(),
        supervisor.clone(),
        Audience {
            clusters: clusters.clone(),
            workspaces: workspaces.clone(),
        },
        fleet_options(args),
    ));
    let clickhouse_changes = register(metrics, &index, &fleet);
    let events = EventRecorder::new(
        client.clone(),
        FIELD_MANAGER,
        identity(args),
        metrics.clone(),
    );
    let watches = Watches {
        progress: progress.clone(),
        supervisor,
        stop: stop.clone(),
    };
    let feed = Feed {
        index: index.clone(),
        events: events.clone(),
        workspaces: workspaces.clone(),
        revocations,
        clusters,
    };
    watches::start(
        &watches,
        &client,
        &feed,
        &args.namespace,
        args.watch_namespace.as_deref(),
    );

    tokio::select! {
        () = stop.cancelled() => return,
        () = progress.complete() => {}
    }
    let Some(kubernetes_uid) = stop.run_until_cancelled(identify(&kubernetes)).await else {
        return;
    };
    tracing::info!("every kind is listed, starting to reconcile");
    let executor = Executor {
        mandate,
        changes: clickhouse_changes,
    };
    let settings = Settings {
        kubernetes_uid,
        namespace: args.namespace.clone(),
        resync_interval: args.resync_interval.get(),
    };
    let workspaces = Arc::new(Workspaces::new(
        kubernetes.clone(),
        fleet.clone(),
        executor,
        events.clone(),
        metrics.clone(),
        workspaces,
        settings,
    ));
    let clusters = Arc::new(Clusters {
        kubernetes,
        fleet,
        events,
    });
    let loops = Loops {
        metrics: metrics.clone(),
        timing: timing(args),
        stop: stop.clone(),
    };
    let workspace = |name| {
        let workspaces = workspaces.clone();
        async move { workspaces.reconcile(&name).await }
    };
    // Access is taken away in a queue of its own: never behind ClickHouse, and also where the
    // rest is paused.
    let revocation = |name| {
        let workspaces = workspaces.clone();
        async move { workspaces.revoke(&name).await }
    };
    let cluster = |name| {
        let clusters = clusters.clone();
        async move { clusters.reconcile(&name).await }
    };
    tokio::join!(
        loops.run("Workspace", workspace_requests, workspace),
        loops.run("AccessToken", revocation_requests, revocation),
        loops.run("ClickHouseCluster", cluster_requests, cluster),
    );
}

/// Adds what there is to read of objects and replicas, and the build. Gives the counter of changes.
fn register(metrics: &Metrics, index: &Arc<Index>, fleet: &Arc<Fleet>) -> Counter {
    let changes = Counter::default();
    metrics.register(
        "clickhouse_changes",
        "Steps that changed something in ClickHouse",
        changes.clone(),
    );
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics.register("build", "The running build", Info::new(version));
    metrics.register_collector(ObjectMetrics(index.clone()));
    metrics.register_collector(ReplicaMetrics(fleet.clone()));
    changes
}

/// The uid of the namespace `kube-system`, which every Kubernetes has once and none twice. What
/// is made in ClickHouse carries it, so nothing is made before it is known.
async fn identify(kubernetes: &Kubernetes) -> String {
    loop {
        match kubernetes.get_namespace("kube-system").await {
            Ok(found) => return found.and_then(|it| it.metadata.uid).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "cannot tell which Kubernetes this is yet, trying again");
            }
        }
        tokio::time::sleep(IDENTIFYING_PAUSE).await;
    }
}

/// What every kind's loop runs with.
struct Loops {
    metrics: Arc<Metrics>,
    timing: Timing,
    stop: CancellationToken,
}

impl Loops {
    /// Works on the objects of a kind that are asked for, until the stop.
    async fn run<Work, Running>(
        &self,
        kind: &'static str,
        requests: UnboundedReceiver<ObjectName>,
        work: Work,
    ) where
        Work: Fn(ObjectName) -> Running,
        Running: Future<Output = Result<Next, KubernetesError>> + Send + 'static,
    {
        dispatch(requests, self.timing, self.stop.clone(), |name| {
            let running = work(name.clone());
            let metrics = self.metrics.clone();
            async move {
                let started = Instant::now();
                let result = running.await;
                concluded(&metrics, kind, &name, started, result)
            }
        })
        .await;
    }
}

/// Counts a reconcile. What ClickHouse or a spec did wrong is in conditions by now; only trouble
/// with Kubernetes itself has nowhere else to go than the log.
fn concluded(
    metrics: &Metrics,
    kind: &'static str,
    name: &ObjectName,
    started: Instant,
    result: Result<Next, KubernetesError>,
) -> Next {
    let (next, failure) = match result {
        Ok(next) => (next, None),
        Err(error) if error.is_conflict() => {
            tracing::debug!(kind, %name, %error, "somebody else was faster, trying again");
            (Next::Retry, Some("Conflict"))
        }
        Err(error) => {
            tracing::warn!(kind, %name, %error, "reconcile failed, trying again");
            (Next::Retry, Some("Kubernetes"))
        }
    };
    metrics.reconciled(kind, started.elapsed(), failure);
    next
}

fn timing(args: &OperatorArgs) -> Timing {
    Timing {
        debounce: args.debounce.get(),
        first_retry: FIRST_RETRY,
        longest_retry: args.resync_interval.get(),
    }
}

fn fleet_options(args: &OperatorArgs) -> FleetOptions {
    FleetOptions {
        connect_deadline: args.connect_deadline.get(),
        statement_deadline: args.statement_deadline.get(),
        workspaces_at_once: usize::from(args.concurrency),
    }
}

fn elect(
    client: &Client,
    args: &OperatorArgs,
    give_back: &CancellationToken,
) -> (Leadership, Option<JoinHandle<()>>) {
    if !args.leader_elect {
        return (Leadership::unchallenged(), None);
    }
    let candidate = Candidate {
        namespace: args.namespace.clone(),
        lease: args.lease_name.clone(),
        identity: identity(args),
        terms: Terms::new(args.lease_duration.get()),
    };
    let (leadership, running) = campaign(client.clone(), candidate, give_back.clone());
    (leadership, Some(running))
}

/// The Pod's name, which no other container has at the same time; elsewhere the host's name and
/// process, so that two operators on one machine are two.
fn identity(args: &OperatorArgs) -> String {
    args.identity.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}-{}", host.trim(), std::process::id())
    })
}

async fn start_server(
    args: &OperatorArgs,
    metrics: &Arc<Metrics>,
    progress: &Progress,
    supervisor: &Supervisor,
    stop: &CancellationToken,
) -> Result<JoinHandle<std::io::Result<()>>, OperatorError> {
    let address = args.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| OperatorError::Listen { address, error })?;
    let answers = Answers {
        metrics: metrics.clone(),
        progress: progress.clone(),
        supervisor: supervisor.clone(),
    };
    tracing::info!(%address, "serving /healthz, /readyz and /metrics");
    Ok(tokio::spawn(serve(listener, answers, stop.clone())))
}

fn stop_on_signal() -> Result<CancellationToken, OperatorError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(OperatorError::Signal)?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop, finishing what is under way");
        stopped.cancel();
    });
    Ok(stop)
}

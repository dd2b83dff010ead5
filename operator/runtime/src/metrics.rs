//! The registry of metrics, and the counters of what this crate does itself. Whoever runs it
//! registers what else there is to count or to look at.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

/// Upper bounds of the buckets for the duration of a reconcile, in seconds.
const SECONDS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskLabel {
    task: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabel {
    verb: String,
}

/// The counters, and the registry they are in.
#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
    reconcile_seconds: Family<KindLabel, Histogram, fn() -> Histogram>,
    reconcile_errors: Family<ErrorLabels, Counter>,
    events: Family<ReasonLabel, Counter>,
    events_dropped: Counter,
    kubernetes_requests: Family<VerbLabel, Counter>,
    leads: Gauge,
    task_panics: Family<TaskLabel, Counter>,
}

impl Metrics {
    /// A registry whose metrics have names that begin with `prefix_`.
    pub fn new(prefix: &str) -> Self {
        let metrics = Self {
            registry: RwLock::new(Registry::with_prefix(prefix)),
            reconcile_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            reconcile_errors: Family::default(),
            events: Family::default(),
            events_dropped: Counter::default(),
            kubernetes_requests: Family::default(),
            leads: Gauge::default(),
            task_panics: Family::default(),
        };
        metrics.register_own();
        metrics
    }

    fn register_own(&self) {
        self.register(
            "reconcile_seconds",
            "Duration of reconciles; their count is the number of reconciles",
            self.reconcile_seconds.clone(),
        );
        self.register(
            "reconcile_errors",
            "Reconciles that did not reach their end, by the first reason",
            self.reconcile_errors.clone(),
        );
        self.register(
            "events",
            "Changes that were told as Kubernetes events",
            self.events.clone(),
        );
        self.register(
            "events_dropped",
            "Kubernetes events that were not sent because too many waited",
            self.events_dropped.clone(),
        );
        self.register(
            "kubernetes_requests",
            "Requests to the Kubernetes API, each watch being one",
            self.kubernetes_requests.clone(),
        );
        self.register(
            "leader",
            "Whether this replica of the operator leads",
            self.leads.clone(),
        );
        self.register(
            "task_panics",
            "Tasks that panicked, which is a fault of the operator; each was started again",
            self.task_panics.clone(),
        );
    }

    /// Adds a metric.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry().register(name, help, metric);
    }

    /// Adds what is read from where it is known when Prometheus asks.
    pub fn register_collector(&self, collector: impl Collector) {
        self.registry().register_collector(Box::new(collector));
    }

    /// Records that a reconcile took this long, and why it failed if it did.
    pub fn reconciled(&self, kind: &'static str, took: Duration, failure: Option<&'static str>) {
        self.reconcile_seconds
            .get_or_create(&KindLabel { kind })
            .observe(took.as_secs_f64());
        if let Some(reason) = failure {
            self.failed(kind, reason);
        }
    }

    /// Counts a reconcile that did not reach its end.
    pub fn failed(&self, kind: &'static str, reason: &'static str) {
        let labels = ErrorLabels { kind, reason };
        self.reconcile_errors.get_or_create(&labels).inc();
    }

    /// This replica leads.
    pub fn leads(&self) {
        self.leads.set(1);
    }

    pub(crate) fn event(&self, reason: &'static str) {
        self.events.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    pub(crate) fn kubernetes_request(&self, verb: String) {
        self.kubernetes_requests
            .get_or_create(&VerbLabel { verb })
            .inc();
    }

    pub(crate) fn task_panicked(&self, task: &'static str) {
        self.task_panics.get_or_create(&TaskLabel { task }).inc();
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// A collector failed.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn registry(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

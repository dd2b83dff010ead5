//! What every reconcile works with.

use crate::cluster::Fleet;
use crate::index::Index;
use crate::kubernetes::Kubernetes;
use crate::workspace::{Checker, Issuer};
use aviary_runtime::events::EventRecorder;
use aviary_runtime::lease::Mandate;
use aviary_runtime::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;
use std::time::Duration;

/// Shared by all reconciles.
pub(crate) struct Context {
    pub(crate) index: Arc<Index>,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) fleet: Arc<Fleet>,
    /// Asked before ClickHouse is changed; Kubernetes asks on its own.
    pub(crate) mandate: Mandate,
    pub(crate) checker: Checker,
    pub(crate) issuer: Issuer,
    pub(crate) events: EventRecorder,
    pub(crate) metrics: Arc<Metrics>,
    /// Steps that changed something in ClickHouse.
    pub(crate) clickhouse_changes: Counter,
    /// Uid of the Kubernetes this is.
    pub(crate) kubernetes_uid: String,
    /// Namespace of the operator.
    pub(crate) namespace: String,
    pub(crate) resync_interval: Duration,
}

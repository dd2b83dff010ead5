//! Which replicas answer. A series lives as long as somebody is served from its replica.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Whether a replica answers, as it was said last.
#[derive(Debug)]
pub(crate) struct ReplicaUp(AtomicBool);

impl ReplicaUp {
    pub(crate) fn set(&self, up: bool) {
        self.0.store(up, Ordering::Relaxed);
    }
}

/// All replicas in use, by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Replicas(Arc<Mutex<BTreeMap<String, Weak<ReplicaUp>>>>);

impl Replicas {
    /// What is said of the replica at this address, by everybody who uses it.
    pub(super) fn at(&self, address: &str) -> Arc<ReplicaUp> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(up) = known.get(address).and_then(Weak::upgrade) {
            return up;
        }
        let up = Arc::new(ReplicaUp(AtomicBool::new(true)));
        known.insert(address.to_owned(), Arc::downgrade(&up));
        up
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    replica: String,
}

impl Collector for Replicas {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Whether a replica answers.";
        let mut series = encoder.encode_descriptor("replica_up", help, None, MetricType::Gauge)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, up| up.strong_count() > 0);
        for (replica, up) in known.iter() {
            let Some(up) = up.upgrade() else { continue };
            let labels = ReplicaLabels {
                replica: replica.clone(),
            };
            let series = series.encode_family(&labels)?;
            ConstGauge::new(i64::from(up.0.load(Ordering::Relaxed))).encode(series)?;
        }
        Ok(())
    }
}

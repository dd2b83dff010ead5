//! Which replicas answer, and which are left out. A series lives as long as somebody is served from its replica.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// How a replica is, as it was said last.
#[derive(Debug)]
pub(crate) struct ReplicaState {
    up: AtomicBool,
    ejected_until: Mutex<Option<Instant>>,
}

impl ReplicaState {
    fn new() -> Self {
        Self {
            up: AtomicBool::new(true),
            ejected_until: Mutex::default(),
        }
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// Until when others are asked before it; none if it is asked like them.
    pub(crate) fn set_ejected(&self, until: Option<Instant>) {
        *self.ejected_until() = until;
    }

    fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    fn is_ejected(&self) -> bool {
        self.ejected_until()
            .is_some_and(|until| Instant::now() < until)
    }

    fn ejected_until(&self) -> MutexGuard<'_, Option<Instant>> {
        let until = self.ejected_until.lock();
        until.unwrap_or_else(PoisonError::into_inner)
    }
}

/// All replicas in use, by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Replicas(Arc<Mutex<BTreeMap<String, Weak<ReplicaState>>>>);

impl Replicas {
    /// What is said of the replica at this address, by everybody who uses it.
    pub(super) fn at(&self, address: &str) -> Arc<ReplicaState> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = known.get(address).and_then(Weak::upgrade) {
            return state;
        }
        let state = Arc::new(ReplicaState::new());
        known.insert(address.to_owned(), Arc::downgrade(&state));
        state
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    replica: String,
}

impl Collector for Replicas {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, state| state.strong_count() > 0);
        let known: Vec<_> = known
            .iter()
            .filter_map(|(replica, state)| Some((replica, state.upgrade()?)))
            .collect();
        let mut show = |name, help, value: fn(&ReplicaState) -> bool| {
            let mut series = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (replica, state) in &known {
                let labels = ReplicaLabels {
                    replica: (*replica).clone(),
                };
                let series = series.encode_family(&labels)?;
                ConstGauge::new(i64::from(value(state))).encode(series)?;
            }
            Ok(())
        };
        let help = "Whether a replica answers.";
        show("replica_up", help, ReplicaState::is_up)?;
        let help = "Whether a replica is asked after the others, because it fails.";
        show("replica_ejected", help, ReplicaState::is_ejected)
    }
}

//! What is known of objects and clusters, read when Prometheus asks, so that nothing stays behind
//! when one goes.

use crate::index::objects::Index;
use crate::metrics::gauge;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ObjectLabels {
    kind: Cow<'static, str>,
    condition: String,
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClusterConditionLabels {
    namespace: String,
    name: String,
    r#type: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClusterLabels {
    namespace: String,
    name: String,
}

/// Reads gauges from the conditions of objects.
pub(crate) struct ObjectMetrics(pub(crate) Arc<Index>);

impl fmt::Debug for ObjectMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ObjectMetrics")
    }
}

impl Collector for ObjectMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.objects(&mut encoder)?;
        self.clusters(&mut encoder)
    }
}

impl ObjectMetrics {
    fn objects(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let objects = Family::<ObjectLabels, Gauge>::default();
        self.0.visit_conditions(|kind, conditions| {
            for condition in conditions {
                let labels = ObjectLabels {
                    kind: kind.clone(),
                    condition: condition.type_.clone(),
                    status: condition.status.clone(),
                };
                objects.get_or_create(&labels).inc();
            }
        });
        gauge(encoder, "objects", "Objects by condition", &objects)
    }

    /// What is not known has no line: it is neither well nor ill.
    fn clusters(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let holds = Family::<ClusterConditionLabels, Gauge>::default();
        let pending = Family::<ClusterLabels, Gauge>::default();
        self.0.visit_clusters(|name, status| {
            let labels = ClusterLabels {
                namespace: name.namespace.clone(),
                name: name.name.clone(),
            };
            let count = i64::try_from(status.pending_drops.len()).unwrap_or(i64::MAX);
            pending.get_or_create(&labels).set(count);
            let conditions = status.conditions.iter();
            let known = conditions.filter(|one| one.status != "Unknown");
            for condition in known {
                let labels = ClusterConditionLabels {
                    namespace: name.namespace.clone(),
                    name: name.name.clone(),
                    r#type: condition.type_.clone(),
                };
                let value = (condition.status == "True").into();
                holds.get_or_create(&labels).set(value);
            }
        });
        let help = "Whether a condition of a ClickHouseCluster, such as DiskHeadroom, holds";
        gauge(encoder, "cluster_condition", help, &holds)?;
        let help =
            "Databases and tables whose owners wanted them dropped, and which are still there";
        gauge(encoder, "pending_drops", help, &pending)
    }
}

//! What is known of replicas and disks, read when Prometheus asks, so that nothing stays behind when
//! one goes.

use crate::fleet::connections::Fleet;
use crate::metrics::gauge;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReplicaLabels {
    cluster: String,
    replica: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DiskLabels {
    cluster: String,
    replica: String,
    disk: String,
}

/// Reads gauges from what the last probes found.
pub(crate) struct ReplicaMetrics(pub(crate) Arc<Fleet>);

impl fmt::Debug for ReplicaMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ReplicaMetrics")
    }
}

impl Collector for ReplicaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let statements = ConstCounter::new(self.0.statements());
        statements.encode(encoder.encode_descriptor(
            "clickhouse_statements",
            "Statements sent to ClickHouse",
            None,
            MetricType::Counter,
        )?)?;
        self.replicas(&mut encoder)
    }
}

impl ReplicaMetrics {
    fn replicas(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let up = Family::<ReplicaLabels, Gauge>::default();
        let delay = Family::<ReplicaLabels, Gauge>::default();
        let queue = Family::<ReplicaLabels, Gauge>::default();
        let read_only = Family::<ReplicaLabels, Gauge>::default();
        let free = Family::<DiskLabels, Gauge>::default();
        let total = Family::<DiskLabels, Gauge>::default();
        self.0.visit_health(|cluster, replica, health| {
            let labels = ReplicaLabels {
                cluster: cluster.to_string(),
                replica: replica.to_owned(),
            };
            up.get_or_create(&labels).set(health.is_some().into());
            let Some(health) = health else { return };
            if let Some(replication) = &health.replication {
                let set = |family: &Family<ReplicaLabels, Gauge>, value: u64| {
                    family
                        .get_or_create(&labels)
                        .set(i64::try_from(value).unwrap_or(i64::MAX));
                };
                set(&delay, replication.max_delay_seconds);
                set(&queue, replication.queue);
                set(&read_only, replication.read_only);
            }
            for disk in &health.disks {
                let labels = DiskLabels {
                    cluster: cluster.to_string(),
                    replica: replica.to_owned(),
                    disk: disk.name.clone(),
                };
                let set = |family: &Family<DiskLabels, Gauge>, value: u64| {
                    family
                        .get_or_create(&labels)
                        .set(i64::try_from(value).unwrap_or(i64::MAX));
                };
                set(&free, disk.free_bytes);
                set(&total, disk.total_bytes);
            }
        });
        for (name, help, family) in [
            (
                "replica_up",
                "Whether a ClickHouse replica answered its last probe",
                &up,
            ),
            (
                "replication_delay_seconds",
                "The largest delay of a replica's tables",
                &delay,
            ),
            (
                "replication_queue",
                "Entries in a replica's replication queues",
                &queue,
            ),
            (
                "replication_read_only_tables",
                "A replica's tables that are read-only",
                &read_only,
            ),
        ] {
            gauge(encoder, name, help, family)?;
        }
        gauge(encoder, "disk_free_bytes", "Free space of a disk", &free)?;
        gauge(encoder, "disk_total_bytes", "Size of a disk", &total)
    }
}

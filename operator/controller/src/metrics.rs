//! What clusters and objects are like, read from where it is known when Prometheus asks, so that
//! nothing stays behind when one goes; and how often ClickHouse was changed.

use crate::cluster::Fleet;
use crate::index::Index;
use aviary_runtime::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use std::fmt;
use std::sync::Arc;

/// Adds what is known of objects and clusters, and the build. Gives the counter of changes.
pub(crate) fn register(metrics: &Metrics, index: Arc<Index>, fleet: Arc<Fleet>) -> Counter {
    let changes = Counter::default();
    metrics.register(
        "clickhouse_changes",
        "Steps that changed something in ClickHouse",
        changes.clone(),
    );
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics.register("build", "The running build", Info::new(version));
    metrics.register_collector(Observed { index, fleet });
    changes
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ObjectLabels {
    kind: &'static str,
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

/// Reads gauges from where the facts are.
struct Observed {
    index: Arc<Index>,
    fleet: Arc<Fleet>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Observed")
    }
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let statements = ConstCounter::new(self.fleet.statements());
        statements.encode(encoder.encode_descriptor(
            "clickhouse_statements",
            "Statements sent to ClickHouse",
            None,
            MetricType::Counter,
        )?)?;
        self.objects(&mut encoder)?;
        self.clusters(&mut encoder)?;
        self.replicas(&mut encoder)
    }
}

impl Observed {
    fn objects(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let objects = Family::<ObjectLabels, Gauge>::default();
        self.index.visit_conditions(|kind, conditions| {
            for condition in conditions {
                let labels = ObjectLabels {
                    kind,
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
        self.index.visit_clusters(|name, status| {
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

    fn replicas(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let up = Family::<ReplicaLabels, Gauge>::default();
        let delay = Family::<ReplicaLabels, Gauge>::default();
        let queue = Family::<ReplicaLabels, Gauge>::default();
        let read_only = Family::<ReplicaLabels, Gauge>::default();
        let free = Family::<DiskLabels, Gauge>::default();
        let total = Family::<DiskLabels, Gauge>::default();
        self.fleet.visit_health(|cluster, replica, health| {
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

fn gauge<Labels>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    family: &Family<Labels, Gauge>,
) -> fmt::Result
where
    Labels: EncodeLabelSet + Clone + std::hash::Hash + Eq,
{
    family.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{context, object};
    use aviary_crds::conditions::{ConditionType, Finding, Reason, merge};
    use aviary_crds::{ClickHouseCluster, ClickHouseClusterStatus};
    use aviary_runtime::ObjectName;
    use aviary_runtime::testing::FakeApi;
    use serde_json::json;

    #[tokio::test]
    async fn conditions_of_a_cluster_are_told_one_by_one() {
        let context = context(FakeApi::default().client(|_| unreachable!()));
        let spec = json!({ "external": {
            "replicas": [{ "name": "a", "url": "http://a" }],
            "credentialsSecretRef": { "name": "admin" },
        }});
        let mut cluster: ClickHouseCluster = object("ClickHouseCluster", "shared", spec);
        let findings = [
            Finding::met(ConditionType::Ready, Reason::Succeeded, "1/1"),
            Finding::unmet(ConditionType::DiskHeadroom, Reason::DiskLow, "9%"),
            Finding::unknown(ConditionType::ReplicasHealthy, Reason::Unknown, "?"),
        ];
        cluster.status = Some(ClickHouseClusterStatus {
            conditions: merge(&[], &findings, Some(1), jiff::Timestamp::UNIX_EPOCH),
            ..ClickHouseClusterStatus::default()
        });
        let name = ObjectName::new("shop", "shared");
        context.index.apply(&name, cluster);
        super::register(
            &context.metrics,
            context.index.clone(),
            context.fleet.clone(),
        );
        let text = context.metrics.encode().unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("aviary_cluster_condition{"));
        let labels = |condition: &str| {
            format!(
                "aviary_cluster_condition{{namespace=\"shop\",name=\"shared\",type=\"{condition}\"}}"
            )
        };
        let mut lines: Vec<&str> = lines.collect();
        lines.sort_unstable();
        let expected = [labels("DiskHeadroom") + " 0", labels("Ready") + " 1"];
        assert_eq!(lines, expected);
    }
}

//! `ClickHouseCluster`: a ClickHouse deployment that workspaces are placed on,
//! and what its replicas say of their disks and their replication.

use crate::quantity::{Duration, Percent};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A ClickHouse deployment that workspaces are placed on.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "aviary.dev",
    version = "v1alpha1",
    kind = "ClickHouseCluster",
    plural = "clickhouseclusters",
    shortname = "chc",
    category = "aviary",
    namespaced,
    status = "ClickHouseClusterStatus",
    derive = "PartialEq",
    doc = "A ClickHouse deployment that workspaces are placed on.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "string",
        json_path = ".status.healthyReplicas",
        description = "Healthy replicas of all"
    ),
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ReplicasHealthy\")].status"
    ),
    printcolumn(
        name = "Free",
        type_ = "string",
        json_path = ".status.lowestFree",
        description = "Free space of the fullest disk"
    ),
    printcolumn(
        name = "Headroom",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"DiskHeadroom\")].status"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ClickHouseClusterSpec {
    /// A ClickHouse that exists already and is run by somebody else.
    pub external: ExternalCluster,

    /// Which namespaces may place workspaces on this cluster.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,

    /// When a disk counts as short of room.
    #[serde(default)]
    pub disk_headroom: DiskHeadroomPolicy,

    /// When a replica counts as behind.
    #[serde(default)]
    pub replica_health: ReplicaHealthPolicy,

    /// How often each replica is asked for its health.
    #[serde(default = "default_probe_interval")]
    #[x_kube(validation = Rule::new("self.matches('[1-9][0-9]*(s|m$|m[0-9]|h|d|w)')").message("probeInterval must be at least 1s"))]
    pub probe_interval: Duration,
}

fn default_probe_interval() -> Duration {
    constant("15s")
}

/// A ClickHouse that is run by somebody else: where its replicas are and how to log in.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalCluster {
    /// Every replica of the (single) shard. Each is given the same objects; endpoints are asked of any that is healthy.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    #[x_kube(validation = Rule::new("self.all(a, self.filter(b, b.url == a.url).size() == 1)").message("every replica needs a URL of its own: two replicas have the same url"))]
    pub replicas: Vec<ReplicaAddress>,

    /// The Secret, in this namespace, with the operator's ClickHouse user. It needs the
    /// rights to make databases, users and grants.
    pub credentials_secret_ref: CredentialsSecretRef,
}

/// Where one replica answers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaAddress {
    /// A name for status and events, such as `replica-0`.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// The address of its HTTP interface, such as `http://clickhouse-0.clickhouse:8123`.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && (self.startsWith('http://') || self.startsWith('https://'))").message("url must be an http:// or https:// address such as http://clickhouse-0.clickhouse:8123"))]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.contains('?')").message("url must not hold credentials or parameters: name a Secret in credentialsSecretRef"))]
    pub url: String,
}

/// A Secret with a user name and a password.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSecretRef {
    /// Name of the Secret in the cluster's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the user name.
    #[serde(default = "default_user_key")]
    pub username_key: String,
    /// Key of the password.
    #[serde(default = "default_password_key")]
    pub password_key: String,
}

fn default_user_key() -> String {
    "username".to_owned()
}

fn default_password_key() -> String {
    "password".to_owned()
}

/// Which namespaces may place workspaces on a cluster.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector is needed with from: Selector, and only then"))]
pub struct AllowedNamespaces {
    /// `Same`: the cluster's own namespace; `All`; or those that `selector` matches.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces, with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// How allowed namespaces are chosen.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespacesFrom {
    /// The cluster's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// Those that the selector matches.
    Selector,
}

/// When a disk counts as short of room.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("int(self.critical.replace('%', '')) <= int(self.warning.replace('%', ''))").message("critical must not be above warning: both are the free share of a disk"))]
pub struct DiskHeadroomPolicy {
    /// Free share of a disk below which `DiskHeadroom` is `False` with reason `DiskLow`.
    #[serde(default = "default_warning")]
    pub warning: Percent,
    /// Free share of a disk below which the reason is `DiskCritical`.
    #[serde(default = "default_critical")]
    pub critical: Percent,
}

impl Default for DiskHeadroomPolicy {
    fn default() -> Self {
        Self {
            warning: default_warning(),
            critical: default_critical(),
        }
    }
}

fn default_warning() -> Percent {
    constant("20%")
}

fn default_critical() -> Percent {
    constant("10%")
}

/// When a replica counts as behind.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaHealthPolicy {
    /// Replication delay from which a replica counts as behind.
    #[serde(default = "default_max_delay")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("maxDelay must be above zero: every replica would count as behind"))]
    pub max_delay: Duration,
}

impl Default for ReplicaHealthPolicy {
    fn default() -> Self {
        Self {
            max_delay: default_max_delay(),
        }
    }
}

fn default_max_delay() -> Duration {
    constant("5m")
}

/// What is known of a cluster. Written only when something changed that a person would care about.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClickHouseClusterStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `ReplicasHealthy`, `DiskHeadroom`, `CleanedUp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Version of ClickHouse; several, joined by commas, while replicas differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Healthy replicas of all, such as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_replicas: Option<String>,
    /// Free share of the fullest disk, such as `42%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowest_free: Option<String>,
    /// Data whose owner was deleted with `deletionPolicy: Delete` and which could not be dropped
    /// yet. It is tried again until it is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["ownerUid".to_owned()]))]
    pub pending_drops: Vec<PendingDrop>,
    /// Each replica, as it answered itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub replicas: Vec<ReplicaStatus>,
}

/// A consent to drop data that outlives the object which gave it.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingDrop {
    /// The uid of the object that was deleted. What has another owner by now is left alone.
    pub owner_uid: String,
    /// Its `<namespace>/<name>`.
    pub owner: String,
    /// The `<namespace>/<name>` of the workspace.
    pub workspace: String,
    /// The database that is to be dropped, or that holds the table.
    pub database: String,
    /// The table that is to be dropped with its quarantine; the whole database if there is none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// When the object was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consented_at: Option<Time>,
    /// Why it could not be dropped yet.
    pub why: String,
}

/// What one replica said of itself.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Its name in the spec.
    pub name: String,
    /// Whether it answered within its deadline.
    pub reachable: bool,
    /// Why it is not reachable or not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskStatus>,
    /// Its replication, where it has replicated tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<ReplicationStatus>,
}

/// One disk of a replica. Sizes are rounded so that a status changes when a person would care.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    /// Its name in ClickHouse.
    pub name: String,
    /// Its size, such as `100Gi`.
    pub total: String,
    /// Its free space, such as `42Gi`.
    pub free: String,
    /// Its free share in whole percent.
    pub free_percent: i32,
}

/// Replication of one replica, over all of its replicated tables.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationStatus {
    /// Number of replicated tables.
    pub tables: i64,
    /// How many of them are read-only.
    pub read_only: i64,
    /// The largest delay in seconds, rounded down to whole minutes.
    pub max_delay_seconds: i64,
    /// Entries in the replication queues, rounded to the leading digit.
    pub queue: i64,
}

/// A quantity written in this crate, which its tests parse.
pub(crate) fn constant<T: std::str::FromStr>(text: &'static str) -> T
where
    T::Err: std::fmt::Debug,
{
    #[expect(
        clippy::expect_used,
        reason = "every default is parsed by the test `defaults_parse`"
    )]
    text.parse().expect("a quantity in the source parses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_parse() {
        let spec: ClickHouseClusterSpec = serde_yaml::from_str(
            "external: {replicas: [{name: a, url: 'http://a:8123'}], credentialsSecretRef: {name: s}}",
        )
        .unwrap();
        assert_eq!(spec.probe_interval.to_string(), "15s");
        assert_eq!(spec.disk_headroom.warning.get(), 20);
        assert_eq!(spec.disk_headroom.critical.get(), 10);
        assert_eq!(spec.replica_health.max_delay.to_string(), "5m");
        assert_eq!(
            spec.external.credentials_secret_ref.username_key,
            "username"
        );
    }
}

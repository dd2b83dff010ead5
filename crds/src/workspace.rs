//! `Workspace`: a tenant. One ClickHouse database, its users and limits, and
//! everything that names the workspace in its own namespace.

use crate::clickhouse_cluster::constant;
use crate::published::PublishedWorkspace;
use crate::quantity::{ByteSize, Duration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tenant: one ClickHouse database with its users, limits, tokens and everything in it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "aviary.dev",
    version = "v1alpha1",
    kind = "Workspace",
    plural = "workspaces",
    shortname = "ws",
    category = "aviary",
    namespaced,
    status = "WorkspaceStatus",
    derive = "PartialEq",
    doc = "A tenant: one ClickHouse database with its users, limits, tokens and everything in it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Tier",
        type_ = "string",
        json_path = ".spec.tier",
        priority = 1
    ),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name"
    ),
    printcolumn(name = "Database", type_ = "string", json_path = ".status.database"),
    printcolumn(
        name = "Objects",
        type_ = "string",
        json_path = ".status.readyObjects",
        description = "Ready objects of all in the workspace"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
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
#[x_kube(validation = Rule::new("has(self.database) == has(oldSelf.database)").message("database cannot be added or removed after the workspace is made: its tables would be left behind"))]
pub struct WorkspaceSpec {
    /// What the tenant gets. `Shared`: a database on the cluster that `clusterRef` names.
    #[serde(default)]
    pub tier: Tier,

    /// The `ClickHouseCluster` the workspace is placed on.
    #[x_kube(validation = Rule::new("self == oldSelf").message("clusterRef is immutable: moving a workspace to another cluster would leave its data behind"))]
    pub cluster_ref: ClusterRef,

    /// Name of the database; `<namespace>_<workspace>` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_-]*$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("database is immutable: a renamed database would leave its tables behind"))]
    #[x_kube(validation = Rule::new("!(self in ['default', 'system', 'INFORMATION_SCHEMA', 'information_schema'])").message("database must not be one of ClickHouse's own"))]
    pub database: Option<String>,

    /// What happens to the database when the workspace is deleted, as it says then.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// What the tenant may use.
    #[serde(default)]
    pub limits: Limits,
}

/// What a tenant can get.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// A database on a shared cluster, served by the shared gateway.
    #[default]
    Shared,
}

/// Names a `ClickHouseCluster`.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; the workspace's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// What happens to data when its object is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// The data stays and is released: an object of the same name may take it over again.
    #[default]
    Retain,
    /// The data is dropped.
    Delete,
}

/// What a tenant may use; endpoints and ingestion that go beyond are refused with 429, 413 or a query error.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Endpoint queries that run at once, per gateway.
    #[serde(default = "default_concurrent_queries")]
    #[schemars(range(min = 1, max = 10000))]
    pub concurrent_queries: u32,
    /// How long an endpoint query may run.
    #[serde(default = "default_query_timeout")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("queryTimeout must be above zero: zero would mean no limit"))]
    pub query_timeout: Duration,
    /// How much memory an endpoint query may use.
    #[serde(default = "default_query_memory")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("queryMemory must be above zero: zero would mean no limit"))]
    pub query_memory: ByteSize,
    /// Requests of all kinds per second, per gateway, with bursts of twice as many.
    #[serde(default = "default_requests_per_second")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second: u32,
    /// The largest body of one request, after decompression.
    #[serde(default = "default_body_size")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("bodySize must be above zero"))]
    pub body_size: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_queries: default_concurrent_queries(),
            query_timeout: default_query_timeout(),
            query_memory: default_query_memory(),
            requests_per_second: default_requests_per_second(),
            body_size: default_body_size(),
        }
    }
}

fn default_concurrent_queries() -> u32 {
    50
}

fn default_query_timeout() -> Duration {
    constant("10s")
}

fn default_query_memory() -> ByteSize {
    constant("2Gi")
}

fn default_requests_per_second() -> u32 {
    1000
}

fn default_body_size() -> ByteSize {
    constant("1Gi")
}

/// What is known of a workspace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Accepted`, `Applied`, `CleanedUp`; `Reconciling` or `Stalled` while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The database in ClickHouse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Ready objects of all that belong to the workspace, such as `9/10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_objects: Option<String>,
    /// What the gateways serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedWorkspace>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_parse() {
        let spec: WorkspaceSpec = serde_yaml::from_str("clusterRef: {name: shared}").unwrap();
        assert_eq!(spec.limits, Limits::default());
        assert_eq!(spec.deletion_policy, DeletionPolicy::Retain);
    }
}

//! `Pipe`: a chain of SQL nodes, one of which can be published as an endpoint.

use crate::published::PublishedPipe;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A chain of SQL nodes, one of which can be published as an HTTP endpoint.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "aviary.dev",
    version = "v1alpha1",
    kind = "Pipe",
    plural = "pipes",
    shortname = "pipe",
    category = "aviary",
    namespaced,
    status = "PipeStatus",
    derive = "PartialEq",
    doc = "A chain of SQL nodes, one of which can be published as an HTTP endpoint.",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Published",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Published\")].status",
        description = "Whether the live revision is this spec"
    ),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
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
    ),
    validation = Rule::new("self.metadata.name != 'openapi' || has(self.spec.name)").message("a pipe cannot be called `openapi`, as /v0/pipes/openapi.json is the description of all: give it a spec.name or another name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) == has(oldSelf.name)").message("name cannot be added or removed after the pipe is made: its URL would change"))]
#[x_kube(validation = Rule::new("!has(self.endpoint) || self.nodes.exists(n, n.name == self.endpoint.node)").message("endpoint.node must be the name of one of nodes"))]
pub struct PipeSpec {
    /// The workspace, in this namespace, that this pipe belongs to.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("workspace is immutable: delete the pipe and make it in the other workspace"))]
    pub workspace: String,

    /// Name in URLs and SQL; the object's name with dashes as underscores by default.
    /// In YAML, write `"n"`, `"y"`, `"on"`, `"off"`, `"yes"` and `"no"` in quotes: without them they are booleans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("name is immutable: the endpoint's URL would change"))]
    #[x_kube(validation = Rule::new("self != 'openapi' && !self.contains('__')").message("name must not be `openapi` or hold `__`: Aviary uses those itself"))]
    pub name: Option<String>,

    /// What the pipe answers, for people; also in the OpenAPI document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,

    /// The SQL, in named steps. A node can use data sources, other pipes, and the nodes of this pipe as tables.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub nodes: Vec<Node>,

    /// Publishes a node over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
}

/// A named step of a pipe.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name, by which other nodes of the pipe use it as a table.
    /// In YAML, write `"n"`, `"y"`, `"on"`, `"off"`, `"yes"` and `"no"` in quotes: without them they are booleans.
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub name: String,
    /// What the step does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// A `SELECT`, with parameters such as `{{ Int32(month, 1, description='Month of the year') }}`.
    #[schemars(length(min = 1, max = 65536))]
    pub sql: String,
}

/// Publishes a node over HTTP as `/v0/pipes/<name>.json` (and csv, ndjson, parquet).
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The node whose rows are the answer.
    #[schemars(length(min = 1, max = 64))]
    pub node: String,
}

/// What is known of a pipe.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipeStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Accepted`, `Published`; `Reconciling` or `Stalled` while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Path of the endpoint on the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The last good revision: what the gateways serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedPipe>,
}

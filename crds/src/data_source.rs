//! `DataSource`: a table that is fed. Its columns, engine and TTL, how CSV
//! files for it are written, and what becomes of it on deletion.

use crate::published::PublishedDataSource;
use crate::quantity::Duration;
use crate::workspace::DeletionPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::csv::{CsvDialect, CsvHeader};

/// A table that is fed: schema, engine, TTL, ingestion and quarantine.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "aviary.dev",
    version = "v1alpha1",
    kind = "DataSource",
    plural = "datasources",
    shortname = "dsrc",
    category = "aviary",
    namespaced,
    status = "DataSourceStatus",
    derive = "PartialEq",
    doc = "A table that is fed: schema, engine, TTL, ingestion and quarantine.",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Table", type_ = "string", json_path = ".status.table"),
    printcolumn(name = "Engine", type_ = "string", json_path = ".spec.engine.type"),
    printcolumn(name = "TTL", type_ = "string", json_path = ".spec.ttl.keep"),
    printcolumn(
        name = "Quarantined",
        type_ = "integer",
        json_path = ".status.quarantine.rows"
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
#[x_kube(validation = Rule::new("has(self.name) == has(oldSelf.name)").message("name cannot be added or removed after the data source is made"))]
#[x_kube(validation = Rule::new("!has(self.ttl) || !has(self.ttl.column) || self.columns.exists(c, c.name == self.ttl.column)").message("ttl.column must be one of columns"))]
#[x_kube(validation = Rule::new("self.engine.type != 'ReplacingMergeTree' && self.engine.type != 'CollapsingMergeTree' && self.engine.type != 'VersionedCollapsingMergeTree' || size(self.sortingKey) > 0").message("sortingKey is needed by engines that replace or collapse rows: it says which rows are the same"))]
pub struct DataSourceSpec {
    /// The workspace, in this namespace, that this data source belongs to.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("workspace is immutable: delete the data source and make it in the other workspace"))]
    pub workspace: String,

    /// Name of the table; the object's name with dashes as underscores by default.
    /// In YAML, write `"n"`, `"y"`, `"on"`, `"off"`, `"yes"` and `"no"` in quotes: without them they are booleans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("name is immutable: a renamed table would leave its data behind"))]
    #[x_kube(validation = Rule::new("!self.contains('__') && !self.endsWith('_quarantine')").message("name must not hold `__` or end in `_quarantine`: Aviary uses those for tables of its own"))]
    pub name: Option<String>,

    /// What the data is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,

    /// The columns, in the order of the table.
    #[schemars(length(min = 1, max = 500))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub columns: Vec<Column>,

    /// The table engine. On a replicated cluster the replicated variant of it is made.
    #[serde(default)]
    pub engine: Engine,

    /// Columns or expressions that rows are sorted by; none means insertion order.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub sorting_key: Vec<String>,

    /// Expression that splits the table into partitions, such as `toYYYYMM(time)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub partition_key: Option<String>,

    /// How long rows are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,

    /// What becomes of rows that do not fit.
    #[serde(default)]
    pub quarantine: Quarantine,

    /// How CSV files for this data source are written.
    #[serde(default)]
    pub csv: CsvDialect,

    /// What happens to the table and its quarantine when this object is deleted, as it says then.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A column of a data source.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// Its name.
    /// In YAML, write `"n"`, `"y"`, `"on"`, `"off"`, `"yes"` and `"no"` in quotes: without them they are booleans.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    #[x_kube(validation = Rule::new("!self.startsWith('c__')").message("column names must not start with `c__`: the quarantine table uses those"))]
    pub name: String,

    /// Its ClickHouse type, such as `Int32`, `Nullable(Float64)` or `LowCardinality(String)`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.matches('(?i)^(int|uint|boolean)$')").message("type must be a ClickHouse type with its width: Int32 or UInt64 rather than Int, Bool rather than Boolean"))]
    pub column_type: String,

    /// Where the value stands in a JSON row, such as `$.user.id`; `$.<name>` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('$')").message("jsonPath must start with `$`, such as `$.user.id`"))]
    #[x_kube(validation = Rule::new(r#"self.matches(r"""^[^$]|^\$(\.[^.\[]+|\.?\[('[^']*'|"[^"]*")\])*(\[:\])?$""")"#).message("jsonPath must lead through keys, such as `$.user.id`, `$.['odd key']` or `$.tags[:]` for a whole array: single elements cannot be picked"))]
    pub json_path: Option<String>,

    /// SQL expression for rows that do not give a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub default: Option<String>,

    /// Compression, such as `ZSTD(3)` or `Delta, LZ4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub codec: Option<String>,

    /// What the column is, for people; stored in ClickHouse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub comment: Option<String>,
}

/// A table engine of the MergeTree family and its arguments.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.version) || self.type == 'ReplacingMergeTree' || self.type == 'VersionedCollapsingMergeTree'").message("version belongs to ReplacingMergeTree and VersionedCollapsingMergeTree"))]
#[x_kube(validation = Rule::new("!has(self.isDeleted) || (self.type == 'ReplacingMergeTree' && has(self.version))").message("isDeleted belongs to ReplacingMergeTree and needs version"))]
#[x_kube(validation = Rule::new("(self.type == 'CollapsingMergeTree' || self.type == 'VersionedCollapsingMergeTree') == has(self.sign)").message("sign is needed by CollapsingMergeTree and VersionedCollapsingMergeTree, and only by them"))]
#[x_kube(validation = Rule::new("self.type != 'VersionedCollapsingMergeTree' || has(self.version)").message("VersionedCollapsingMergeTree needs version"))]
#[x_kube(validation = Rule::new("!has(self.columns) || self.type == 'SummingMergeTree'").message("columns belongs to SummingMergeTree"))]
pub struct Engine {
    /// Which engine.
    #[serde(default, rename = "type")]
    pub engine_type: EngineType,
    /// Column by which the newest row is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub version: Option<String>,
    /// Column that marks a row as deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub is_deleted: Option<String>,
    /// Column with 1 for a row and -1 for its cancellation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub sign: Option<String>,
    /// Columns that are summed; all numeric ones by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 128)))]
    pub columns: Option<Vec<String>>,
}

/// The engines a data source can have.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineType {
    /// Keeps every row.
    #[default]
    MergeTree,
    /// Keeps the newest of rows with equal sorting keys.
    ReplacingMergeTree,
    /// Sums rows with equal sorting keys.
    SummingMergeTree,
    /// Merges aggregate states of rows with equal sorting keys.
    AggregatingMergeTree,
    /// Lets a row cancel an earlier one.
    CollapsingMergeTree,
    /// Lets a row cancel an earlier one, in any order.
    VersionedCollapsingMergeTree,
}

impl EngineType {
    /// The engine's name in ClickHouse.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MergeTree => "MergeTree",
            Self::ReplacingMergeTree => "ReplacingMergeTree",
            Self::SummingMergeTree => "SummingMergeTree",
            Self::AggregatingMergeTree => "AggregatingMergeTree",
            Self::CollapsingMergeTree => "CollapsingMergeTree",
            Self::VersionedCollapsingMergeTree => "VersionedCollapsingMergeTree",
        }
    }
}

/// How long rows are kept: a policy on a time column, or a raw expression.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.expression) ? !has(self.column) && !has(self.keep) : has(self.column) && has(self.keep)").message("ttl needs either column and keep, or expression alone"))]
pub struct Ttl {
    /// The `Date` or `DateTime` column that tells a row's age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub column: Option<String>,
    /// How long a row is kept, such as `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Duration>,
    /// A raw ClickHouse TTL expression, such as `time + INTERVAL 3 MONTH DELETE WHERE level = 'debug'`.
    /// Intervals are at most 25000 days: beyond, dates overflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub expression: Option<String>,
}

/// What becomes of rows that do not fit: they lie in `<name>_quarantine`, with the column and the reason.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// How long they are kept from when they came, such as `30d`; at most `25000d`.
    #[serde(default = "default_quarantine_keep")]
    pub keep: Duration,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self {
            keep: default_quarantine_keep(),
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant that a test reads")]
fn default_quarantine_keep() -> Duration {
    "90d".parse().expect("90d is a duration")
}

/// What is known of a data source.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataSourceStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Accepted`, `Applied`; `Reconciling` or `Stalled` while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The table in ClickHouse, with its database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// What lies in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<QuarantineStatus>,
    /// What the gateways ingest into: the shape that ClickHouse has, not the one wished for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedDataSource>,
}

/// What lies in a data source's quarantine.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineStatus {
    /// About how many rows, counted at least every five minutes: told anew when it changes by a tenth,
    /// and when it begins or ends.
    #[schemars(range(min = 0))]
    pub rows: i64,
    /// Since when there have been some; nothing while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

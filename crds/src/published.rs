//! What the operator tells the gateways: the contract between the two.
//!
//! Shapes that ClickHouse has, revisions that were checked, and (in a Secret
//! only) credentials and token hashes. Gateways read these and never a spec.

use crate::access_token::Scope;
use crate::csv::CsvDialect;
use jiff::Timestamp;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// What may stand in `c__error` of a row for a landing table, besides what is wrong with the row.
///
/// An INSERT that ClickHouse refuses for one of its rows may have stored others all the same, since
/// the views of a landing write one after the other. When it is sent again in parts, these keep a
/// row from coming twice.
pub mod judged {
    /// The row goes to quarantine if its values are not in order, and else nowhere.
    pub const QUARANTINE_ONLY: &str = "c__quarantine_only";
    /// The row goes into the table if its values are in order, and else nowhere. With words behind
    /// it, it goes to quarantine for them instead of into the table.
    pub const TABLE_ONLY: &str = "c__table_only";
    /// The row goes nowhere.
    pub const SETTLED: &str = "c__settled";
}

/// What gateways need to serve a workspace; in `Workspace.status.published`.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedWorkspace {
    /// Its database.
    pub database: String,
    /// Base URLs of the replicas' HTTP interfaces.
    pub replica_urls: Vec<String>,
    /// Endpoint queries that run at once, per gateway.
    pub concurrent_queries: u32,
    /// Milliseconds an endpoint query may run.
    pub query_timeout_milliseconds: u64,
    /// Bytes of memory an endpoint query may use.
    pub query_memory_bytes: u64,
    /// Requests per second, per gateway.
    pub requests_per_second: u32,
    /// Bytes of one request's body, after decompression.
    pub body_size_bytes: u64,
}

/// What gateways need to ingest; in `DataSource.status.published`.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedDataSource {
    /// Name of the table, in SQL and in `?name=`.
    pub name: String,
    /// The columns, in the order of the table.
    pub columns: Vec<PublishedColumn>,
    /// How CSV files are written.
    pub csv: CsvDialect,
}

/// A column that rows are ingested into.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedColumn {
    /// Its name.
    pub name: String,
    /// Its type, as ClickHouse writes it.
    #[serde(rename = "type")]
    pub column_type: String,
    /// The values that the table takes of it; all of its type if there are none here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<i64>,
    /// Where its value stands in a JSON row.
    pub json_path: String,
    /// Whether rows without a value get a default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_default: bool,
}

/// What gateways need to serve an endpoint; in `Pipe.status.published`.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPipe {
    /// Name of the pipe, in SQL and in URLs.
    pub name: String,
    /// Hash of what is published; changes when the answer may.
    pub revision: String,
    /// The generation of the spec that was published.
    pub generation: i64,
    /// One statement in the template language, every node and pipe it uses included.
    pub template: String,
    /// What the pipe answers, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The columns of the answer.
    pub columns: Vec<ResultColumn>,
}

/// A column of an endpoint's answer.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// Its ClickHouse type.
    #[serde(rename = "type")]
    pub column_type: String,
}

/// The JSON document in a published-workspace Secret: who may do what, and as which ClickHouse user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceAccess {
    /// Namespace of the workspace.
    pub namespace: String,
    /// Name of the workspace.
    pub workspace: String,
    /// Runs endpoint queries.
    pub reader: ClickHouseUser,
    /// Writes rows.
    pub writer: ClickHouseUser,
    /// The tokens that open this workspace.
    pub tokens: Vec<PublishedToken>,
    /// Values that opened it and no longer do. They open nothing, here or elsewhere: whoever
    /// still sends one must not reach another tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_values: Vec<FormerValue>,
    /// Where the workspace is in ClickHouse: for the operator, which clears up after it by this
    /// when the workspace itself is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estate: Option<WorkspaceEstate>,
}

impl WorkspaceAccess {
    /// Every value this workspace has a claim to: SHA-256 in lower-case hex, and since when. Those
    /// of tokens come first.
    pub fn claimed_values(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        let tokens = self.tokens.iter();
        let former = self.former_values.iter();
        tokens
            .map(|token| (&*token.sha256, token.since))
            .chain(former.map(|value| (&*value.sha256, value.since)))
    }
}

/// A workspace's claim to a token's value. Of several the least holds: who had the value first.
///
/// The operator, which lets no second claim in, and every gateway on its own decide by this order.
/// `since` is the operator's clock at the moment it first published the value, so no tenant can
/// choose it; the Secret's name only makes the order total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueClaim {
    /// When the value was first published for the workspace.
    pub since: Timestamp,
    /// Name of the published-workspace Secret.
    pub secret: String,
}

/// What a workspace has in ClickHouse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceEstate {
    /// Uid of the workspace.
    pub uid: String,
    /// Namespace of its `ClickHouseCluster`.
    pub cluster_namespace: String,
    /// Name of its `ClickHouseCluster`.
    pub cluster: String,
    /// Its database.
    pub database: String,
}

/// A ClickHouse user with its password.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClickHouseUser {
    /// Its name.
    pub name: String,
    /// Its password.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
}

/// A token, known by the hash of its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedToken {
    /// Name of the `AccessToken`.
    pub name: String,
    /// SHA-256 of the value, in lower-case hex.
    pub sha256: String,
    /// Since when the workspace has the value.
    #[serde(default)]
    pub since: Timestamp,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// A value that no token of the workspace has any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FormerValue {
    /// SHA-256 of the value, in lower-case hex.
    pub sha256: String,
    /// Since when the workspace has the value.
    pub since: Timestamp,
}

/// Secrets are written out in one place: into the data of a Kubernetes Secret.
fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_print() {
        let user: ClickHouseUser =
            serde_yaml::from_str("{name: reader, password: hunter2}").unwrap();
        assert!(!format!("{user:?}").contains("hunter2"));
        assert!(serde_yaml::to_string(&user).unwrap().contains("hunter2"));
    }
}

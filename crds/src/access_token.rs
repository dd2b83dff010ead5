//! `AccessToken`: a credential for the gateway. Its value is made by the
//! operator and lives only in a Secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A credential with scopes for HTTP access to one workspace.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "aviary.dev",
    version = "v1alpha1",
    kind = "AccessToken",
    plural = "accesstokens",
    shortname = "atok",
    category = "aviary",
    namespaced,
    status = "AccessTokenStatus",
    derive = "PartialEq",
    doc = "A credential with scopes for HTTP access to one workspace.",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName"),
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
#[x_kube(validation = Rule::new("has(self.secretName) == has(oldSelf.secretName)").message("secretName cannot be added or removed after the token is made: make another token"))]
pub struct AccessTokenSpec {
    /// The workspace, in this namespace, that this token opens.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("workspace is immutable: make a token in the other workspace"))]
    pub workspace: String,

    /// The Secret that holds the value under the key `token`; the object's own name by default.
    /// Delete the Secret to get a new value. One that is there before the token, with the label
    /// `aviary.dev/role: token`, brings a value along: at least 32 bytes, 8 of them different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("secretName is immutable: make another token"))]
    pub secret_name: Option<String>,

    /// What the token may do.
    #[schemars(length(min = 1, max = 200))]
    pub scopes: Vec<Scope>,
}

/// One right of a token.
#[derive(
    JsonSchema, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// What may be done.
    #[serde(rename = "type")]
    pub scope_type: ScopeType,
    /// The pipe or data source, by its name in SQL and URLs; `*` for all of the workspace.
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^(\*|[A-Za-z_][A-Za-z0-9_]*)$")
    )]
    pub resource: String,
}

/// What a scope lets a token do.
#[derive(
    JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum ScopeType {
    /// Call the endpoint of a pipe.
    #[serde(rename = "PIPES:READ")]
    PipesRead,
    /// Send rows to a data source.
    #[serde(rename = "DATASOURCES:APPEND")]
    DataSourcesAppend,
}

/// What is known of a token. Its value is not in here.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessTokenStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Accepted`, `Applied`; `Reconciling` or `Stalled` while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The Secret that holds the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

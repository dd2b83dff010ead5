//! Aviary's Kubernetes API, and nothing else: the kinds of `aviary.dev/v1alpha1`,
//! the vocabulary of their conditions, and the quantities and names they use.
//!
//! This crate does not know ClickHouse, SQL or HTTP. One file a kind; what the
//! operator tells the gateway is in [`published`].

#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column repeats the attribute `type_`"
)]
#![expect(
    unreachable_pub,
    reason = "the derive of KubeSchema copies each struct into a function"
)]

pub mod access_token;
pub mod address;
pub mod clickhouse_cluster;
pub mod conditions;
mod csv;
pub mod data_source;
pub mod event_reasons;
pub mod names;
pub mod pipe;
pub mod published;
pub mod quantity;
mod vocabulary;
pub mod workspace;

pub use access_token::{AccessToken, AccessTokenSpec, AccessTokenStatus, Scope, ScopeType};
pub use clickhouse_cluster::{
    AllowedNamespaces, ClickHouseCluster, ClickHouseClusterSpec, ClickHouseClusterStatus,
    NamespacesFrom,
};
pub use data_source::{DataSource, DataSourceSpec, DataSourceStatus};
pub use pipe::{Pipe, PipeSpec, PipeStatus};
pub use quantity::{ByteSize, Duration, Percent};
pub use workspace::{DeletionPolicy, Workspace, WorkspaceSpec, WorkspaceStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every kind.
pub const GROUP: &str = "aviary.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";

/// Every custom resource definition, in the order in which a reader meets them.
pub fn all_definitions() -> Vec<CustomResourceDefinition> {
    vec![
        ClickHouseCluster::crd(),
        Workspace::crd(),
        DataSource::crd(),
        Pipe::crd(),
        AccessToken::crd(),
    ]
}

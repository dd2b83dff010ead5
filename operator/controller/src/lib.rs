//! Watch, reconcile, report: everything that talks to Kubernetes.
//!
//! Two queues, one of workspaces and one of clusters, are fed by watches through an index in
//! memory. A pass over a workspace takes everything that names it and chains four steps: observe
//! (its objects, its cluster, what ClickHouse has), plan (in `aviary-plan`, pure), execute (on
//! every replica, through `aviary-clickhouse`), report (Secrets, conditions, events).
//!
//! What runs all this (queues, watches, writes, the lease) is `aviary-runtime`, which knows no kind.
//!
//! This crate knows no SQL: what statements say is up to the planner, how they are sent to the
//! client. It does not know HTTP endpoints or ingestion: it publishes, gateways serve.

mod args;
mod cluster;
mod events;
mod fleet;
mod index;
mod kinds;
mod kubernetes;
mod metrics;
pub mod rbac;
mod reasons;
mod run;
mod secrets;
#[cfg(test)]
mod testing;
mod token_values;
mod topology;
mod watches;
mod workspace;

pub use args::OperatorArgs;
pub use run::{OperatorError, run};

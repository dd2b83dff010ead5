//! What many tests can do at once, each in a namespace of its own. One binary,
//! so that it is linked once and its tests fill each other's waiting time.
//!
//! What needs quiet or disturbs others is beside it, in binaries that run one
//! after the other: `quiet` before this one, `zz_disruption` and `zzz_afterwards` after it.

mod admission;
mod data_sources;
mod dead_replicas;
mod deletion;
mod demo;
mod drift;
mod endpoints;
mod foreign;
mod ingestion;
mod isolation;
mod journey;
mod limits;
mod machine;
mod manifests;
mod pipes;
mod tenancy;

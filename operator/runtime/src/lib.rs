//! What any operator needs to run, whatever its kinds: a queue of names and who works on it,
//! watches and the stores they feed, writes to the Kubernetes API with deadlines and fair shares,
//! events, leader election on a Lease, supervision of tasks, and the server for probes and metrics.
//!
//! This crate knows none of Aviary's kinds, and nothing of ClickHouse: it is generic over both, so
//! that what runs reconciles cannot come to depend on what they do.

pub mod bulkhead;
pub mod dispatch;
pub mod events;
pub mod keyed;
pub mod kubernetes;
pub mod lease;
pub mod metrics;
mod object_name;
pub mod queue;
pub mod server;
pub mod store;
pub mod supervision;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod watch;

pub use object_name::ObjectName;

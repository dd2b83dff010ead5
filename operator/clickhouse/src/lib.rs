//! Everything that talks to ClickHouse: [observe](observe) a workspace's catalog,
//! bring expressions into ClickHouse's own [spelling](canonical), [execute](execute)
//! a plan's steps, [check](check) pipes as the tenant, and [probe](probe) health.
//!
//! This crate does not know Kubernetes, and decides nothing: what should be there
//! and what is to be done is `aviary-plan`'s. Every call has a deadline, and a
//! replica that does not answer costs only its own.

mod canonical;
mod check;
mod error;
mod execute;
mod http;
mod observe;
mod probe;
mod replica;
mod server_cache;
mod spelling_cache;

pub use check::{PipeCheck, PipeError, ReaderCredentials, ResultColumn};
pub use error::{Category, ClickHouseError};
pub use execute::{Bounds, Failure, Outcome};
pub use observe::Observed;
pub use probe::{Disk, Health, Replication};
pub use replica::{Replica, ReplicaConfig};

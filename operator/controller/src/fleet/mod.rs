//! Every cluster's replicas: connections to them, what their probes say, and who may ask how much.

mod connections;
mod metrics;
mod probe;

pub(crate) use connections::{Audience, ConnectError, Connected, Fleet, FleetOptions, Lanes};
pub(crate) use metrics::ReplicaMetrics;
pub(crate) use probe::Answer;

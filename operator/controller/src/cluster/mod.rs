//! The reconcile of a `ClickHouseCluster`: what its probes heard is compared with what was known,
//! and reported. The probes themselves run beside it, in the fleet.

mod reconciler;
mod settled;
mod status;

pub(crate) use reconciler::Clusters;

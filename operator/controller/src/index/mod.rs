//! What the watches have seen, in memory, and which workspaces and clusters a change concerns.

mod lookups;
mod metrics;
mod objects;
#[cfg(test)]
mod tests;

pub(crate) use metrics::ObjectMetrics;
pub(crate) use objects::{Affected, Index, Indexed, Members, NamespaceMeta, cluster_of};

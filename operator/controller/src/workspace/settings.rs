//! What every pass over a workspace is told, and nothing changes while the operator runs.

use std::time::Duration;

/// Who we are, and how often everything is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Uid of the Kubernetes this is.
    pub(crate) kubernetes_uid: String,
    /// Namespace of the operator.
    pub(crate) namespace: String,
    pub(crate) resync_interval: Duration,
}

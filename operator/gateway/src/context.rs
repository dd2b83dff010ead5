//! What a request knows of itself once its token is checked.

use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::index::{Opened, ServedWorkspace};
use crate::metrics::Metrics;
use crate::request_id::RequestId;
use crate::rights::{Access, authorize};
use std::sync::Arc;
use std::time::Duration;

/// An authenticated request.
pub(crate) struct Context<'a> {
    pub(crate) request_id: RequestId,
    pub(crate) metrics: &'a Metrics,
    pub(crate) opened: Arc<Opened>,
}

impl Context<'_> {
    /// Makes sure that the token may do this.
    pub(crate) fn authorize(&self, access: Access<'_>) -> Result<(), ApiError> {
        Ok(authorize(&self.opened.principal, access)?)
    }

    /// The workspace, which may not be published yet though its tokens are.
    pub(crate) fn workspace(&self) -> Result<&Arc<ServedWorkspace>, ApiError> {
        self.opened.served.as_ref().ok_or_else(|| {
            ApiError::new(
                ErrorCode::WorkspaceNotReady,
                "the workspace is not ready: see `kubectl get workspaces`",
            )
            .retry_after(Duration::from_secs(2))
        })
    }
}

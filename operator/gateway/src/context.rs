//! What a request knows of itself once its token is checked.

use crate::error::{ApiError, ErrorCode};
use crate::index::{Opened, ServedWorkspace};
use crate::metrics::Metrics;
use crate::request_id::RequestId;
use aviary_crds::ScopeType;
use std::sync::Arc;
use std::time::Duration;

/// An authenticated request.
pub(crate) struct Context<'a> {
    pub(crate) request_id: RequestId,
    pub(crate) metrics: &'a Metrics,
    pub(crate) opened: Arc<Opened>,
}

impl Context<'_> {
    /// Makes sure that the token may do this with the pipe or data source of this name.
    pub(crate) fn require(&self, what: ScopeType, name: &str) -> Result<(), ApiError> {
        if self.opened.principal.scopes.allow(what, name) {
            return Ok(());
        }
        let scope = match what {
            ScopeType::PipesRead => "PIPES:READ",
            ScopeType::DataSourcesAppend => "DATASOURCES:APPEND",
        };
        let shown: String = name.chars().take(64).collect();
        Err(ApiError::new(
            ErrorCode::ScopeMissing,
            format!("the token needs the scope {scope} for `{shown}`"),
        ))
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

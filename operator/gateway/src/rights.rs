//! Who presents a token, and what it may do. Every route asks [`authorize`]; what a token may do is
//! decided nowhere else.

use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::metrics::Resource;
use crate::workspace_key::WorkspaceKey;
use aviary_crds::{Scope, ScopeType};
use std::sync::Arc;

/// A token, without its value.
pub(crate) struct Principal {
    /// Its name, which is its `AccessToken`'s.
    pub(crate) token: String,
    /// The workspace it opens.
    pub(crate) workspace: WorkspaceKey,
    /// The same, to count requests for that are about nothing closer.
    pub(crate) resource: Arc<Resource>,
    scopes: Vec<Scope>,
}

/// What somebody wants to do, and with what. It need not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access<'a> {
    /// Read the pipe of this name.
    Read(&'a str),
    /// Append to the data source of this name.
    Append(&'a str),
}

/// The token has no right to this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied<'a>(Access<'a>);

/// Makes sure that a token may do this.
pub(crate) fn authorize<'a>(principal: &Principal, access: Access<'a>) -> Result<(), Denied<'a>> {
    let (scope_type, name) = access.needs();
    let grants = |scope: &Scope| {
        scope.scope_type == scope_type && (scope.resource == name || scope.resource == "*")
    };
    if principal.scopes.iter().any(grants) {
        Ok(())
    } else {
        Err(Denied(access))
    }
}

impl Principal {
    pub(crate) fn new(
        token: &str,
        workspace: WorkspaceKey,
        resource: Arc<Resource>,
        scopes: Vec<Scope>,
    ) -> Self {
        Self {
            token: token.to_owned(),
            workspace,
            resource,
            scopes,
        }
    }
}

impl<'a> Access<'a> {
    /// The scope it needs, and for which name.
    fn needs(self) -> (ScopeType, &'a str) {
        match self {
            Self::Read(pipe) => (ScopeType::PipesRead, pipe),
            Self::Append(data_source) => (ScopeType::DataSourcesAppend, data_source),
        }
    }
}

impl From<Denied<'_>> for ApiError {
    fn from(Denied(access): Denied<'_>) -> Self {
        let (scope_type, name) = access.needs();
        let scope = match scope_type {
            ScopeType::PipesRead => "PIPES:READ",
            ScopeType::DataSourcesAppend => "DATASOURCES:APPEND",
        };
        let shown: String = name.chars().take(64).collect();
        Self::new(
            ErrorCode::ScopeMissing,
            format!("the token needs the scope {scope} for `{shown}`"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, ResourceKind, ResourceName};

    #[test]
    fn scopes_are_per_name_or_for_all() {
        let scope = |scope_type, resource: &str| Scope {
            scope_type,
            resource: resource.to_owned(),
        };
        let resource = Metrics::new().resource(ResourceName {
            namespace: "demo".to_owned(),
            workspace: "shop".to_owned(),
            kind: ResourceKind::Workspace,
            name: String::new(),
        });
        let scopes = vec![
            scope(ScopeType::PipesRead, "*"),
            scope(ScopeType::DataSourcesAppend, "events"),
        ];
        let principal = Principal::new("app", WorkspaceKey::new("demo", "shop"), resource, scopes);
        let may = |access| authorize(&principal, access).is_ok();
        assert!(may(Access::Read("anything")));
        assert!(may(Access::Append("events")));
        assert!(!may(Access::Append("event")));
        let error = ApiError::from(authorize(&principal, Access::Append("x")).unwrap_err());
        assert_eq!(error.code(), ErrorCode::ScopeMissing);
        assert_eq!(
            error.message(),
            "the token needs the scope DATASOURCES:APPEND for `x`"
        );
    }
}

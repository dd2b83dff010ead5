//! Names that more than one part must agree on: finalizers, labels, annotations,
//! and how an object's Kubernetes name becomes its name in SQL and URLs.

/// Held by a `Workspace` whose policy is `Delete` until its database is dropped, or it is written
/// down that this is still to be done.
pub const WORKSPACE_FINALIZER: &str = "aviary.dev/workspace";
/// Held in the same way by a `DataSource` for its table.
pub const DATA_SOURCE_FINALIZER: &str = "aviary.dev/datasource";

/// On a Secret: what it is to Aviary (see [`LABEL_PUBLISHED_WORKSPACE`] and [`LABEL_TOKEN`]).
pub const LABEL_ROLE: &str = "aviary.dev/role";
/// Value of [`LABEL_ROLE`] on the Secret that tells the gateway how to serve one workspace.
pub const LABEL_PUBLISHED_WORKSPACE: &str = "published-workspace";
/// Value of [`LABEL_ROLE`] on the Secret that holds one token's value.
pub const LABEL_TOKEN: &str = "token";
/// On objects the operator makes: the workspace they belong to.
pub const LABEL_WORKSPACE: &str = "aviary.dev/workspace";

/// Key of a token Secret under which the token's value stands.
pub const TOKEN_SECRET_KEY: &str = "token";
/// Key of a published-workspace Secret under which its JSON document stands.
pub const PUBLISHED_SECRET_KEY: &str = "access.json";

/// Set to `true` on a `Workspace` (or a `ClickHouseCluster`) to stop the operator from changing anything for it.
pub const ANNOTATION_PAUSED: &str = "aviary.dev/paused";

/// The name of a data source or pipe in SQL and URLs: `spec.name`, or the
/// object's name with dashes and dots as underscores, since Kubernetes names
/// cannot hold an underscore.
pub fn sql_name(spec_name: Option<&str>, object_name: &str) -> String {
    spec_name.map_or_else(|| object_name.replace(['-', '.'], "_"), str::to_owned)
}

/// The database of a workspace unless `spec.database` says otherwise. Neither
/// part can hold an underscore, so two workspaces never share a name.
pub fn default_database(namespace: &str, workspace: &str) -> String {
    format!("{namespace}_{workspace}")
}

/// Name of the Secret, in the operator's namespace, that publishes a workspace to the gateways.
pub fn published_secret(workspace_uid: &str) -> String {
    format!("aviary-workspace-{workspace_uid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_become_underscores_unless_the_spec_names_it() {
        assert_eq!(sql_name(None, "carrier-delays"), "carrier_delays");
        assert_eq!(sql_name(Some("Carriers"), "carrier-delays"), "Carriers");
    }
}

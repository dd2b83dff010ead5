//! Every kind of Aviary's, once: the list that stores, watches, RBAC and the metric of conditions are
//! made from. What a change of a kind concerns, and what is reported of it, is said where it is looked
//! after.

/// Calls a macro with every kind and the name of its store.
macro_rules! with_kinds {
    ($then:ident) => {
        $then! {
            clusters: aviary_crds::ClickHouseCluster,
            workspaces: aviary_crds::Workspace,
            data_sources: aviary_crds::DataSource,
            pipes: aviary_crds::Pipe,
            access_tokens: aviary_crds::AccessToken,
        }
    };
}

pub(crate) use with_kinds;

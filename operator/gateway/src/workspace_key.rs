//! How workspaces are told apart.

/// Namespace and name of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkspaceKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl WorkspaceKey {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

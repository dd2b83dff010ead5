//! Which cluster a workspace is on, and whether that cluster admits it.

use crate::index::{Index, cluster_of};
use aviary_crds::clickhouse_cluster::{AllowedNamespaces, NamespacesFrom};
use aviary_crds::conditions::Reason;
use aviary_crds::{ClickHouseCluster, Workspace};
use aviary_runtime::ObjectName;
use kube::core::{ParseExpressionError, Selector, SelectorExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a workspace is, or why it is nowhere.
pub(crate) enum Placement {
    On(ObjectName, Arc<ClickHouseCluster>),
    Refused { reason: Reason, message: String },
}

/// Finds the cluster of a workspace.
pub(crate) fn place(index: &Index, workspace: &Workspace) -> Placement {
    let name = cluster_of(workspace);
    let Some(cluster) = index.cluster(&name) else {
        return Placement::Refused {
            reason: Reason::ReferenceNotFound,
            message: format!("ClickHouseCluster `{name}`, named by clusterRef, does not exist"),
        };
    };
    let namespace = workspace.metadata.namespace.clone().unwrap_or_default();
    let admission = match admits(
        &cluster.spec.allowed_namespaces,
        &name.namespace,
        &namespace,
    ) {
        Admission::ByLabels(selector) => {
            let found = index.namespace(&namespace);
            let labels = found.and_then(|found| found.metadata.labels.clone());
            admits_labels(selector, &labels.unwrap_or_default())
        }
        admission => admission,
    };
    match admission {
        Admission::Yes => Placement::On(name, cluster),
        Admission::No | Admission::ByLabels(_) => Placement::Refused {
            reason: Reason::NamespaceNotAllowed,
            message: format!(
                "ClickHouseCluster `{name}` does not admit workspaces from namespace `{namespace}`: see its spec.allowedNamespaces"
            ),
        },
        Admission::Invalid(problem) => Placement::Refused {
            reason: Reason::NamespaceNotAllowed,
            message: format!(
                "spec.allowedNamespaces.selector of ClickHouseCluster `{name}` cannot be used: {problem}"
            ),
        },
    }
}

/// Whether a namespace is admitted.
enum Admission {
    Yes,
    No,
    /// It depends on the namespace's labels.
    ByLabels(Selector),
    Invalid(ParseExpressionError),
}

fn admits(allowed: &AllowedNamespaces, own: &str, namespace: &str) -> Admission {
    match allowed.from {
        _ if own == namespace && allowed.from != NamespacesFrom::Selector => Admission::Yes,
        NamespacesFrom::All => Admission::Yes,
        NamespacesFrom::Same => Admission::No,
        NamespacesFrom::Selector => {
            let selector = allowed.selector.clone().unwrap_or_default();
            match Selector::try_from(selector) {
                Ok(selector) => Admission::ByLabels(selector),
                Err(error) => Admission::Invalid(error),
            }
        }
    }
}

fn admits_labels(selector: Selector, labels: &BTreeMap<String, String>) -> Admission {
    if selector.matches(labels) {
        Admission::Yes
    } else {
        Admission::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({}), "own", true)]
    #[case(json!({}), "other", false)]
    #[case(json!({"from": "All"}), "other", true)]
    #[case(json!({"from": "Selector", "selector": {"matchLabels": {"tenant": "yes"}}}), "other", true)]
    #[case(json!({"from": "Selector", "selector": {"matchLabels": {"tenant": "no"}}}), "other", false)]
    #[case(json!({"from": "Selector", "selector": {"matchLabels": {"tenant": "no"}}}), "own", false)]
    #[case(json!({"from": "Selector", "selector": {"matchExpressions": [{"key": "tenant", "operator": "Exists"}]}}), "other", true)]
    #[case(json!({"from": "Selector", "selector": {"matchExpressions": [{"key": "tenant", "operator": "Like"}]}}), "other", false)]
    fn admission(
        #[case] allowed: serde_json::Value,
        #[case] namespace: &str,
        #[case] expected: bool,
    ) {
        let allowed: AllowedNamespaces = serde_json::from_value(allowed).unwrap();
        let labels = BTreeMap::from([("tenant".to_owned(), "yes".to_owned())]);
        let admitted = match admits(&allowed, "own", namespace) {
            Admission::Yes => true,
            Admission::No | Admission::Invalid(_) => false,
            Admission::ByLabels(selector) => {
                matches!(admits_labels(selector, &labels), Admission::Yes)
            }
        };
        assert_eq!(admitted, expected);
    }
}

//! What the operator may do in Kubernetes: the single place that the chart's and kustomize's
//! roles are generated from. Whoever adds a request to the code adds its rule here.

use crate::kinds::with_kinds;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Resource;

/// Rules for the namespaces that hold workspaces and clusters: all of them, or the watched one.
///
/// Secrets stand in here, for every namespace, since a workspace's tokens are Secrets beside it
/// and a cluster's credentials a Secret beside the cluster. Watches are limited by label to
/// Secrets that hold tokens, others are read one by one when a cluster names them, and none is
/// deleted; but RBAC cannot say "only those with this label".
pub fn cluster_role_rules() -> Vec<PolicyRule> {
    let plurals = plurals();
    let statuses: Vec<String> = plurals.iter().map(|it| format!("{it}/status")).collect();
    vec![
        rule("aviary.dev", &plurals, &["get", "list", "watch"]),
        rule("aviary.dev", &statuses, &["patch"]),
        // Finalizers, which hold what is to be dropped with its data until that is done or noted.
        rule("aviary.dev", &["workspaces", "datasources"], &["patch"]),
        // Where the API server checks it, an owner's finalizers guard blockOwnerDeletion.
        rule("aviary.dev", &["accesstokens/finalizers"], &["update"]),
        rule(
            "",
            &["secrets"],
            &["get", "list", "watch", "create", "patch"],
        ),
        // Labels, for clusters that choose namespaces by them; whether one is going away; and
        // `kube-system`, by which one Kubernetes is told from another.
        rule("", &["namespaces"], &["get", "list", "watch"]),
        rule("events.k8s.io", &["events"], &["create"]),
    ]
}

/// Rules for the operator's own namespace: its lease, and the Secrets that publish workspaces.
pub fn role_rules() -> Vec<PolicyRule> {
    vec![
        rule(
            "coordination.k8s.io",
            &["leases"],
            &["get", "list", "watch", "create", "update"],
        ),
        rule(
            "",
            &["secrets"],
            &["get", "list", "watch", "create", "patch", "delete"],
        ),
    ]
}

/// Every kind, as the API server calls many of it.
fn plurals() -> Vec<String> {
    macro_rules! plural_of_each {
        ($($store:ident: $kind:ty,)+) => {
            vec![$(<$kind>::plural(&()).into_owned(),)+]
        };
    }
    with_kinds!(plural_of_each)
}

fn rule(group: &str, resources: &[impl ToString], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(ToString::to_string).collect()),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_wildcard_and_tenants_secrets_cannot_be_deleted() {
        for rule in cluster_role_rules().into_iter().chain(role_rules()) {
            let texts = [rule.api_groups, rule.resources, Some(rule.verbs)];
            for text in texts.into_iter().flatten().flatten() {
                assert_ne!(text, "*");
            }
        }
        let deletes = cluster_role_rules()
            .into_iter()
            .any(|rule| rule.verbs.iter().any(|verb| verb.contains("delete")));
        assert!(!deletes);
    }

    #[test]
    fn every_kind_can_be_watched_and_reported_on() {
        let rules = cluster_role_rules();
        let may = |resource: &str, verb: &str| {
            rules.iter().any(|rule| {
                rule.resources.iter().flatten().any(|one| one == resource)
                    && rule.verbs.iter().any(|one| one == verb)
            })
        };
        for definition in aviary_crds::all_definitions() {
            let plural = definition.spec.names.plural;
            assert!(may(&plural, "watch"), "{plural}");
            assert!(may(&format!("{plural}/status"), "patch"), "{plural}");
        }
    }
}

//! What the gateway may do in Kubernetes, as data: the manifests and the chart
//! are generated from here, so that they hold what `watch` needs and no more.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// Rights in every namespace: to read what is published.
pub fn cluster_role_rules() -> Vec<PolicyRule> {
    vec![rule("aviary.dev", &["workspaces", "datasources", "pipes"])]
}

/// Rights in the operator's namespace: to read who may do what.
pub fn role_rules() -> Vec<PolicyRule> {
    vec![rule("", &["secrets"])]
}

fn rule(group: &str, resources: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|&name| name.to_owned()).collect()),
        verbs: ["get", "list", "watch"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    }
}

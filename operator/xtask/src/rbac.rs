//! The objects that give components and people their rights, for `config/rbac`:
//! the same as the chart makes as release `aviary` in namespace `aviary-system`.

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Map, Value, json};

const NAMESPACE: &str = "aviary-system";
const RBAC: &str = "rbac.authorization.k8s.io";

/// A component's ServiceAccount, its rights everywhere, and those in its own namespace.
pub(crate) fn of_component(
    component: &str,
    cluster_rules: Vec<PolicyRule>,
    namespace_rules: Vec<PolicyRule>,
) -> [Value; 5] {
    let name = format!("aviary-{component}");
    let everywhere = json!({"name": name, "labels": labels(component)});
    let mut here = everywhere.clone();
    here["namespace"] = json!(NAMESPACE);
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]);
    let role = |kind: &str| json!({"apiGroup": RBAC, "kind": kind, "name": name});
    let version = format!("{RBAC}/v1");
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here}),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": everywhere, "rules": cluster_rules}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": everywhere,
               "roleRef": role("ClusterRole"), "subjects": subjects}),
        json!({"apiVersion": version, "kind": "Role", "metadata": here, "rules": namespace_rules}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": here,
               "roleRef": role("Role"), "subjects": subjects}),
    ]
}

/// What people of a namespace may do with Aviary's objects, added to the standard roles view, edit and admin.
///
/// Operator and gateways send requests to whatever address a cluster names, so clusters are made
/// by those who administer all of Kubernetes.
pub(crate) fn of_people() -> [Value; 2] {
    let definitions = aviary_crds::all_definitions().into_iter();
    let kinds: Vec<String> = definitions
        .map(|definition| definition.spec.names.plural)
        .filter(|kind| kind != "clickhouseclusters")
        .collect();
    let view =
        json!({"apiGroups": ["aviary.dev"], "resources": ["*"], "verbs": ["get", "list", "watch"]});
    let edit = json!({"apiGroups": ["aviary.dev"], "resources": kinds,
                      "verbs": ["create", "update", "patch", "delete", "deletecollection"]});
    [
        added_to("view", &["view", "edit", "admin"], view),
        added_to("edit", &["edit", "admin"], edit),
    ]
}

fn added_to(name: &str, roles: &[&str], rule: Value) -> Value {
    let mut labels = labels("access");
    for role in roles {
        labels.insert(format!("{RBAC}/aggregate-to-{role}"), json!("true"));
    }
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRole",
        "metadata": {"name": format!("aviary-{name}"), "labels": labels},
        "rules": [rule],
    })
}

fn labels(component: &str) -> Map<String, Value> {
    let labels = [
        ("name", "aviary"),
        ("instance", "aviary"),
        ("component", component),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    let named = labels.map(|(name, value)| (format!("app.kubernetes.io/{name}"), json!(value)));
    named.into_iter().collect()
}

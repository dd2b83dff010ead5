//! Clusters of a test's own, and workspaces on them: the shared engine by another name, or
//! engines and servers that the test started itself.

use super::{ENGINE_ADMIN, Scene};
use serde_json::{Value, json};

/// A `ClickHouseCluster` with the credentials of the shared engine, probed every second.
#[derive(Clone, Debug)]
pub struct Cluster(Value);

impl Cluster {
    /// The shared engine under the name `name`.
    #[must_use]
    pub fn shared_engine(name: &str) -> Self {
        Self::at(name, "http://engine-0.engine.clickhouse:8123")
    }

    /// One replica at an address.
    #[must_use]
    pub fn at(name: &str, url: &str) -> Self {
        Self::of(name, json!([{"name": "a", "url": url}]))
    }

    /// The first pods of a StatefulSet in the test's namespace, whose Service has its name.
    #[must_use]
    pub fn of_pods(scene: &Scene, name: &str, set: &str, pods: u32) -> Self {
        let replica = |index: u32| {
            let pod = format!("{set}-{index}");
            json!({"name": pod, "url": format!("http://{pod}.{set}.{}:8123", scene.namespace)})
        };
        Self::of(name, (0..pods).map(replica).collect())
    }

    fn of(name: &str, replicas: Value) -> Self {
        Self(json!({
            "apiVersion": "aviary.dev/v1alpha1",
            "kind": "ClickHouseCluster",
            "metadata": {"name": name},
            "spec": {
                "external": {
                    "replicas": replicas,
                    "credentialsSecretRef": {"name": ENGINE_ADMIN},
                },
                "probeInterval": "1s",
            },
        }))
    }

    /// With other credentials.
    #[must_use]
    pub fn secret(mut self, name: &str) -> Self {
        self.0["spec"]["external"]["credentialsSecretRef"] = json!({"name": name});
        self
    }

    /// With a field of its spec.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.0["spec"][field] = value;
        self
    }

    /// As a manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        self.0.to_string()
    }
}

/// A workspace on a cluster of its namespace, which goes with its data.
#[must_use]
pub fn workspace_on(cluster: &str, name: &str) -> String {
    let workspace = json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "spec": {"clusterRef": {"name": cluster}, "deletionPolicy": "Delete"},
    });
    workspace.to_string()
}

//! Engines of a test's own, like the shared one but for what the test says, and the
//! credentials of the shared one for clusters that are it by another name.

use super::{ClickHouse, Scene};
use crate::product::{ENGINE_ADMIN, ENGINE_NAMESPACE};
use anyhow::Result;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use serde_json::{Value, json};

/// The engines that a test starts.
pub struct Engines<'a> {
    /// How many, named `engine-0` and so on.
    pub replicas: u32,
    /// The size of each one's volume.
    pub disk: &'a str,
    /// Arguments beside those of the shared engine; `$(POD_NAME)` stands for the pod's name.
    pub arguments: &'a [&'a str],
}

impl Scene {
    /// Copies the shared engine's credentials into the namespace.
    pub async fn engine_credentials(&self) -> Result<()> {
        let shared: Api<Secret> = Api::namespaced(self.client.clone(), ENGINE_NAMESPACE);
        let data = shared.get(ENGINE_ADMIN).await?.data.unwrap_or_default();
        let text = |key: &str| {
            data.get(key)
                .map(|value| String::from_utf8_lossy(&value.0).into_owned())
        };
        let content = json!({"username": text("username"), "password": text("password")});
        self.secret(ENGINE_ADMIN, content).await
    }

    /// Starts engines in the namespace, with the shared one's credentials, and waits until they answer.
    pub async fn engines(&self, engines: &Engines<'_>) -> Result<Vec<ClickHouse>> {
        self.engine_credentials().await?;
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "engine"},
            // An engine that hangs keeps its name, as a machine does.
            "spec": {
                "clusterIP": "None", "publishNotReadyAddresses": true,
                "selector": {"app": "engine"}, "ports": [{"port": 8123}],
            },
        });
        self.apply(&service.to_string()).await?;
        self.apply(&self.engine_set(engines).await?.to_string())
            .await?;
        let mut started = Vec::new();
        for index in 0..engines.replicas {
            let pod = format!("engine-{index}");
            let engine = ClickHouse::of(&self.client, &self.namespace, &pod, ENGINE_ADMIN).await?;
            engine.answers().await?;
            started.push(engine);
        }
        Ok(started)
    }

    async fn engine_set(&self, engines: &Engines<'_>) -> Result<Value> {
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), ENGINE_NAMESPACE);
        let shared = serde_json::to_value(sets.get("engine").await?.spec)?;
        let mut template = shared["template"].clone();
        template["metadata"] = json!({"labels": {"app": "engine"}});
        let container = &mut template["spec"]["containers"][0];
        if let Some(arguments) = container["args"].as_array_mut() {
            arguments.extend(engines.arguments.iter().map(|argument| json!(argument)));
        }
        if let Some(variables) = container["env"].as_array_mut() {
            let name = json!({"fieldRef": {"fieldPath": "metadata.name"}});
            variables.push(json!({"name": "POD_NAME", "valueFrom": name}));
        }
        Ok(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "engine"},
            "spec": {
                "serviceName": "engine",
                "replicas": engines.replicas,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "engine"}},
                "template": template,
                "volumeClaimTemplates": [{
                    "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": engines.disk}}},
                }],
            },
        }))
    }
}

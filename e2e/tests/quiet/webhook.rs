//! A webhook that is asked about every Secret made or changed in one namespace, and is no good.

use anyhow::{Context as _, Result};
use aviary_e2e::support::Scene;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;
use tokio::net::TcpListener;

/// What is wrong with the webhook.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Nobody is there: the apiserver refuses at once.
    Absent,
    /// It takes connections and says nothing: the apiserver waits as long as it may.
    Silent,
}

/// The webhook, until it is removed.
pub(crate) struct Webhook {
    configurations: Api<ValidatingWebhookConfiguration>,
    name: String,
    /// Whoever connects waits in its backlog.
    _listener: Option<TcpListener>,
}

impl Webhook {
    /// Has the apiserver ask about Secrets of the scene's namespace, on this machine.
    pub(crate) async fn install(scene: &Scene, trouble: Trouble) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let name = scene.namespace.clone();
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "secrets.e2e.aviary.dev",
                "clientConfig": {"url": format!("https://{address}/")},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"],
                    "operations": ["CREATE", "UPDATE"],
                }],
                "failurePolicy": "Fail",
                "timeoutSeconds": 30,
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }],
        });
        let configurations = Api::all(scene.client.clone());
        let configuration = serde_json::from_value(configuration)?;
        configurations
            .create(&PostParams::default(), &configuration)
            .await
            .context("make a webhook")?;
        Ok(Self {
            configurations,
            name,
            _listener: match trouble {
                Trouble::Absent => None,
                Trouble::Silent => Some(listener),
            },
        })
    }

    /// Nobody asks it any more.
    pub(crate) async fn remove(self) -> Result<()> {
        self.configurations
            .delete(&self.name, &DeleteParams::default())
            .await
            .map(drop)
            .context("delete the webhook")
    }
}

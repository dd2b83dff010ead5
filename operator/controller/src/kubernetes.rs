//! Writes to the Kubernetes API whose answers the index takes in at once, so that the next pass does
//! not work on what this one has replaced. How requests are sent is up to the runtime.

use crate::index::{Index, Indexed};
use aviary_runtime::ObjectName;
use aviary_runtime::kubernetes::{Kubernetes as Api, KubernetesError, Reported as ReportedKind};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Resource;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;

/// The name that stands in `managedFields`.
pub(crate) const FIELD_MANAGER: &str = "aviary-operator";

/// A kind with a status that the operator writes.
pub(crate) trait Reported: Indexed + ReportedKind {}

impl<K: Indexed + ReportedKind> Reported for K {}

/// Writes to the API.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    api: Api,
    index: Arc<Index>,
}

impl Kubernetes {
    pub(crate) fn new(api: Api, index: Arc<Index>) -> Self {
        Self { api, index }
    }

    /// What the watches have seen, and answers to writes.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Makes the status what it ought to be; see [`Api::patch_status`].
    pub(crate) async fn patch_status<K: Reported>(
        &self,
        object: &K,
        status: &K::Status,
    ) -> Result<(), KubernetesError> {
        let patched = self.api.patch_status(object, status).await?;
        self.refresh(object, patched);
        Ok(())
    }

    /// Sets the finalizers of an object that nobody else has changed meanwhile.
    pub(crate) async fn set_finalizers<K: Reported>(
        &self,
        object: &K,
        finalizers: Vec<String>,
    ) -> Result<(), KubernetesError> {
        let patched = self.api.set_finalizers(object, finalizers).await?;
        self.refresh(object, patched);
        Ok(())
    }

    /// Makes a Secret; `false` if one of this name is there already.
    pub(crate) async fn create_secret<K: Indexed + for<'a> From<&'a Secret>>(
        &self,
        name: &ObjectName,
        secret: &Secret,
    ) -> Result<bool, KubernetesError> {
        let created = self.api.create_secret(name, secret).await?;
        if let Some(created) = &created {
            self.index.created(name, K::from(created));
        }
        Ok(created.is_some())
    }

    /// Gives a Secret the labels and data that `secret` has; the rest of it stays.
    pub(crate) async fn update_secret(
        &self,
        name: &ObjectName,
        secret: &Secret,
    ) -> Result<(), KubernetesError> {
        self.api.update_secret(name, secret).await
    }

    pub(crate) async fn get_secret(
        &self,
        name: &ObjectName,
    ) -> Result<Option<Secret>, KubernetesError> {
        self.api.get_secret(name).await
    }

    pub(crate) async fn delete_secret(&self, name: &ObjectName) -> Result<(), KubernetesError> {
        self.api.delete_secret(name).await
    }

    /// The uid that an object has in the API now, whatever a watch has shown.
    pub(crate) async fn get_uid<K>(
        &self,
        name: &ObjectName,
    ) -> Result<Option<String>, KubernetesError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug,
        K: DeserializeOwned,
    {
        self.api.get_uid::<K>(name).await
    }

    pub(crate) async fn get_namespace(
        &self,
        name: &str,
    ) -> Result<Option<Namespace>, KubernetesError> {
        self.api.get_namespace(name).await
    }

    fn refresh<K: Reported>(&self, object: &K, patched: Option<K>) {
        if let Some(patched) = patched {
            self.index.refresh(&ObjectName::of(object), patched);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{kubernetes, object};
    use aviary_crds::{Pipe, PipeStatus};
    use aviary_runtime::testing::FakeApi;
    use serde_json::json;

    #[tokio::test]
    async fn the_next_pass_sees_what_this_one_has_written() {
        let nodes = json!([{ "name": "n", "sql": "SELECT 1" }]);
        let spec = json!({ "workspace": "orders", "nodes": nodes });
        let pipe: Pipe = object("Pipe", "p", spec);
        let status = PipeStatus {
            endpoint: Some("/v0/pipes/p.json".to_owned()),
            ..PipeStatus::default()
        };
        let mut patched = pipe.clone();
        patched.status = Some(status.clone());
        patched.metadata.resource_version = Some("2".to_owned());
        let answer = serde_json::to_value(&patched).unwrap();
        let index = Arc::new(Index::default());
        index.apply(&ObjectName::of(&pipe), pipe.clone());
        let api = FakeApi::default();
        let client = api.client(move |_| (200, answer.clone()));
        let kubernetes = kubernetes(client, index.clone());
        kubernetes.patch_status(&pipe, &status).await.unwrap();
        let known = index.members(&ObjectName::new("shop", "orders")).pipes[0].clone();
        kubernetes.patch_status(&*known, &status).await.unwrap();
        assert_eq!(api.asked().len(), 1);
    }
}

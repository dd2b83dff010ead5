//! Objects of any kind by their manifests: apply, read, delete.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;

/// Server-side applies under this name, as `kubectl apply --server-side` would under its own.
const FIELD_MANAGER: &str = "aviary-e2e";

/// On every namespace of a test.
pub(crate) const LABEL: &str = "aviary.dev/e2e";

/// The documents of a manifest.
pub(crate) fn documents(manifest: &str) -> Result<Vec<DynamicObject>> {
    serde_yaml::Deserializer::from_str(manifest)
        .map(|document| DynamicObject::deserialize(document).context("read a manifest of the test"))
        .collect()
}

/// The API of an object's kind in `namespace`, or of the cluster for kinds without one.
pub(crate) fn api_for(
    client: &Client,
    object: &DynamicObject,
    namespace: &str,
) -> Result<Api<DynamicObject>> {
    let types = object
        .types
        .as_ref()
        .context("a manifest needs apiVersion and kind")?;
    let (group, version) = types
        .api_version
        .rsplit_once('/')
        .unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    Ok(if types.kind == "Namespace" {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(
            client.clone(),
            object.metadata.namespace.as_deref().unwrap_or(namespace),
            &resource,
        )
    })
}

/// Applies every document of a manifest, in its order.
pub(crate) async fn apply(
    client: &Client,
    manifest: &str,
    namespace: &str,
) -> Result<(), ApplyError> {
    for object in documents(manifest).map_err(ApplyError::Manifest)? {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        apply_one(client, &object, namespace, &parameters).await?;
    }
    Ok(())
}

/// Asks whether every document of a manifest would be accepted, each in `namespace` whatever it says itself.
pub(crate) async fn dry_run(
    client: &Client,
    manifest: &str,
    namespace: &str,
) -> Result<(), ApplyError> {
    for mut object in documents(manifest).map_err(ApplyError::Manifest)? {
        object.metadata.namespace = None;
        let parameters = PatchParams::apply(FIELD_MANAGER).force().dry_run();
        apply_one(client, &object, namespace, &parameters).await?;
    }
    Ok(())
}

async fn apply_one(
    client: &Client,
    object: &DynamicObject,
    namespace: &str,
    parameters: &PatchParams,
) -> Result<(), ApplyError> {
    let api = api_for(client, object, namespace).map_err(ApplyError::Manifest)?;
    api.patch(&object.name_any(), parameters, &Patch::Apply(object))
        .await
        .map(drop)
        .map_err(ApplyError::Refused)
}

/// Why a manifest was not applied.
#[derive(Debug)]
pub(crate) enum ApplyError {
    /// The test's own manifest is wrong.
    Manifest(anyhow::Error),
    /// The apiserver refused it.
    Refused(kube::Error),
}

impl From<ApplyError> for anyhow::Error {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Manifest(error) => error,
            ApplyError::Refused(error) => anyhow::Error::new(error).context("apply a manifest"),
        }
    }
}

/// Makes a namespace for one test.
pub(crate) async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    namespace.metadata.labels = Some([(LABEL.to_owned(), "true".to_owned())].into());
    Api::all(client.clone())
        .create(&kube::api::PostParams::default(), &namespace)
        .await
        .with_context(|| format!("create namespace {name}"))?;
    Ok(())
}

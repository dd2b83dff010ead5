//! For tests: workspaces from manifests, and a ClickHouse that does what steps say.

#![allow(
    clippy::unwrap_used,
    reason = "a test that is written wrongly may panic"
)]

#[cfg(test)]
pub(crate) mod simulate;

use crate::catalog::{Catalog, Sha256};
use crate::desired::{CredentialHashes, ServerFeatures, desired};
use crate::last_published::LastPublished;
use crate::model::{WorkspaceModel, model};
use crate::objects::WorkspaceObjects;
use aviary_crds::{AccessToken, DataSource, Pipe, Workspace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

const DEFAULT_WORKSPACE: &str =
    "{kind: Workspace, metadata: {name: shop}, spec: {clusterRef: {name: shared}}}";

/// Reads manifests, in the order of their age. Without a Workspace among them,
/// there is one named `shop`.
pub fn objects(namespace: &str, manifests: &str) -> WorkspaceObjects {
    let mut found = WorkspaceObjects {
        workspace: read(
            namespace,
            serde_yaml::from_str(DEFAULT_WORKSPACE).unwrap(),
            0,
            |it: &mut Workspace| &mut it.metadata,
        ),
        data_sources: Vec::new(),
        pipes: Vec::new(),
        access_tokens: Vec::new(),
    };
    for (age, document) in serde_yaml::Deserializer::from_str(manifests).enumerate() {
        let value = serde_yaml::Value::deserialize(document).unwrap();
        let Some(kind) = value["kind"].as_str().map(str::to_owned) else {
            continue;
        };
        match kind.as_str() {
            "Workspace" => {
                found.workspace = read(namespace, value, 0, |it: &mut Workspace| &mut it.metadata);
            }
            "DataSource" => {
                let parsed = read(namespace, value, age, |it: &mut DataSource| {
                    &mut it.metadata
                });
                found.data_sources.push(parsed);
            }
            "Pipe" => {
                let parsed = read(namespace, value, age, |it: &mut Pipe| &mut it.metadata);
                found.pipes.push(parsed);
            }
            "AccessToken" => {
                let parsed = read(namespace, value, age, |it: &mut AccessToken| {
                    &mut it.metadata
                });
                found.access_tokens.push(parsed);
            }
            other => panic!("unknown kind {other}"),
        }
    }
    found
}

fn read<T: DeserializeOwned>(
    namespace: &str,
    mut manifest: serde_yaml::Value,
    age: usize,
    metadata: fn(&mut T) -> &mut ObjectMeta,
) -> Arc<T> {
    let kind = manifest["kind"].as_str().unwrap().to_owned();
    manifest["apiVersion"] = "aviary.dev/v1alpha1".into();
    let mut parsed: T =
        serde_yaml::from_value(manifest).unwrap_or_else(|error| panic!("{kind}: {error}"));
    complete(metadata(&mut parsed), namespace, &kind, age);
    Arc::new(parsed)
}

/// What the API server would have added.
fn complete(metadata: &mut ObjectMeta, namespace: &str, kind: &str, age: usize) {
    let name = metadata.name.clone().unwrap();
    metadata
        .namespace
        .get_or_insert_with(|| namespace.to_owned());
    metadata
        .uid
        .get_or_insert_with(|| format!("{}-{namespace}-{name}", kind.to_lowercase()));
    metadata.creation_timestamp.get_or_insert_with(|| {
        let second = 1_700_000_000 + i64::try_from(age).unwrap();
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    });
}

/// Hashes of passwords that nobody has.
pub fn credentials() -> CredentialHashes {
    CredentialHashes {
        reader_sha256: Sha256::new("a".repeat(64)).unwrap(),
        writer_sha256: Sha256::new("b".repeat(64)).unwrap(),
    }
}

/// The model of manifests and the catalog that it asks of a server of today.
pub fn desired_by(manifests: &str) -> (WorkspaceModel, Catalog) {
    let objects = objects("acme", manifests);
    let model = model(&objects, &LastPublished::of(&objects));
    let catalog = desired(&model, &credentials(), &ServerFeatures::current());
    (model, catalog)
}

//! Objects for tests.

use aviary_plan::{WorkspaceModel, WorkspaceObjects, model as make_model};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// An object of a kind, in namespace `shop`, with this name and spec.
pub(crate) fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
    serde_json::from_value(json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": format!("uid-of-{name}"),
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": spec,
    }))
    .unwrap()
}

/// A workspace without anything in it.
pub(crate) fn model() -> WorkspaceModel {
    let spec = json!({ "clusterRef": { "name": "shared" } });
    make_model(&WorkspaceObjects {
        workspace: Arc::new(object("Workspace", "orders", spec)),
        data_sources: Vec::new(),
        pipes: Vec::new(),
        access_tokens: Vec::new(),
    })
}

//! 50 workspaces with 10 objects each: their manifests, and waiting until all are ready.

use crate::support::DEADLINE;
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

const NAMESPACES: usize = 5;
const WORKSPACES_PER_NAMESPACE: usize = 10;
/// One workspace, four data sources, four pipes, one token.
const OBJECTS_PER_WORKSPACE: usize = 10;
/// All of them.
pub(crate) const OBJECTS: usize = NAMESPACES * WORKSPACES_PER_NAMESPACE * OBJECTS_PER_WORKSPACE;

const KINDS: [&str; 4] = ["Workspace", "DataSource", "Pipe", "AccessToken"];
/// On every object and namespace; its value is the prefix of this run.
const LABEL: &str = "aviary.dev/bench";

/// The tenants of one run.
pub(crate) struct Tenants {
    prefix: String,
}

impl Tenants {
    /// Names that no earlier run has used.
    pub(crate) fn new() -> Self {
        Self {
            prefix: format!("bench-{:08x}", rand::random::<u32>()),
        }
    }

    /// What the names of all namespaces and databases begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The namespace of the workspace that is looked at closely.
    pub(crate) fn first_namespace(&self) -> String {
        format!("{}-0", self.prefix)
    }

    /// The database of each workspace.
    pub(crate) fn databases(&self) -> Vec<String> {
        self.workspaces()
            .map(|(namespace, workspace)| format!("{namespace}_{workspace}"))
            .collect()
    }

    /// Every object, one JSON document each, as `kubectl apply` takes them.
    pub(crate) fn manifests(&self) -> String {
        let documents: Vec<String> = self
            .workspaces()
            .flat_map(|(namespace, workspace)| self.objects(&namespace, &workspace))
            .map(|object| object.to_string())
            .collect();
        documents.join("\n---\n")
    }

    /// Makes the namespaces, which have to be there before anything in them.
    pub(crate) async fn create_namespaces(&self, client: &Client) -> Result<()> {
        let api: Api<Namespace> = Api::all(client.clone());
        for name in self.namespaces() {
            let mut namespace = Namespace::default();
            namespace.metadata.labels = Some([(LABEL.to_owned(), self.prefix.clone())].into());
            namespace.metadata.name = Some(name);
            api.create(&PostParams::default(), &namespace)
                .await
                .context("create a namespace")?;
        }
        Ok(())
    }

    /// Deletes the namespaces with all that is in them, and waits until they are gone.
    pub(crate) async fn remove(&self, client: &Client) -> Result<()> {
        let api: Api<Namespace> = Api::all(client.clone());
        let ours = ListParams::default().labels(&format!("{LABEL}={}", self.prefix));
        let namespaces = api.list(&ours).await.context("list the namespaces")?.items;
        for namespace in &namespaces {
            api.delete(&namespace.name_any(), &DeleteParams::default())
                .await
                .context("delete a namespace")?;
        }
        for namespace in namespaces {
            let name = namespace.name_any();
            let gone = await_condition(api.clone(), &name, |found: Option<&Namespace>| {
                found.is_none()
            });
            tokio::time::timeout(DEADLINE, Box::pin(gone))
                .await
                .with_context(|| format!("namespace {name} does not go"))??;
        }
        Ok(())
    }

    /// Watches until the current generation of every object is ready.
    pub(crate) async fn until_ready(&self, client: &Client, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let selector = watcher::Config::default().labels(&format!("{LABEL}={}", self.prefix));
        let changes = KINDS.map(|kind| {
            let resource =
                ApiResource::from_gvk(&GroupVersionKind::gvk("aviary.dev", "v1alpha1", kind));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            watcher(api, selector.clone()).applied_objects().boxed()
        });
        let ready = stream::select_all(changes)
            .try_filter(|object| future::ready(is_ready(object)))
            .map_ok(|object| object.uid());
        let mut ready = pin!(ready);
        let mut uids = HashSet::new();
        while uids.len() < OBJECTS {
            let next = tokio::time::timeout_at(deadline, ready.try_next()).await;
            let next = next.with_context(|| {
                let seconds = patience.as_secs();
                format!("after {seconds} s, {} of {OBJECTS} are ready", uids.len())
            })?;
            let next = next.context("watch the objects")?;
            uids.insert(next.context("the watch ended")?);
        }
        Ok(())
    }

    fn namespaces(&self) -> impl Iterator<Item = String> {
        (0..NAMESPACES).map(|number| format!("{}-{number}", self.prefix))
    }

    fn workspaces(&self) -> impl Iterator<Item = (String, String)> {
        self.namespaces().flat_map(|namespace| {
            (0..WORKSPACES_PER_NAMESPACE)
                .map(move |number| (namespace.clone(), format!("tenant-{number}")))
        })
    }

    fn objects(&self, namespace: &str, workspace: &str) -> Vec<Value> {
        let object = |kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": "aviary.dev/v1alpha1",
                "kind": kind,
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {LABEL: self.prefix},
                },
                "spec": spec,
            })
        };
        let mut objects = vec![object("Workspace", workspace, workspace_spec())];
        for name in ["events", "orders", "prices", "visits"] {
            let object_name = format!("{workspace}-{name}");
            objects.push(object(
                "DataSource",
                &object_name,
                data_source_spec(workspace, name),
            ));
        }
        for (name, sql) in PIPES {
            let object_name = format!("{workspace}-{}", name.replace('_', "-"));
            objects.push(object(
                "Pipe",
                &object_name,
                pipe_spec(workspace, name, sql),
            ));
        }
        objects.push(object(
            "AccessToken",
            &format!("{workspace}-reader"),
            token_spec(workspace),
        ));
        objects
    }
}

/// The name in URLs of the pipe that is changed.
pub(crate) const CHANGED_PIPE: &str = "newest";
/// Its Kubernetes name, and the name of its workspace's token.
pub(crate) const CHANGED_OBJECT: &str = "tenant-0-newest";
pub(crate) const TOKEN: &str = "tenant-0-reader";

const PIPES: [(&str, &str); 4] = [
    (
        "by_day",
        "SELECT toDate(time) AS day, count() AS events FROM events GROUP BY day ORDER BY day DESC \
         LIMIT {{ Int32(limit, 10) }}",
    ),
    (
        "by_kind",
        "SELECT kind, sum(amount) AS amount FROM orders \
         {% if defined(kind) %} WHERE kind = {{ String(kind) }} {% end %} GROUP BY kind ORDER BY kind",
    ),
    (CHANGED_PIPE, "SELECT max(time) AS time FROM events"),
    (
        "prices_of_visits",
        "SELECT visits.kind AS kind, avg(prices.amount) AS price FROM visits \
         INNER JOIN prices ON prices.id = visits.id GROUP BY kind ORDER BY kind",
    ),
];

fn workspace_spec() -> Value {
    json!({
        "clusterRef": {"name": "shared", "namespace": "clickhouse"},
        "deletionPolicy": "Delete",
    })
}

fn data_source_spec(workspace: &str, name: &str) -> Value {
    json!({
        "workspace": workspace,
        "name": name,
        "columns": [
            {"name": "time", "type": "DateTime('UTC')"},
            {"name": "id", "type": "UInt64"},
            {"name": "kind", "type": "LowCardinality(String)"},
            {"name": "amount", "type": "Nullable(Float64)"},
            {"name": "note", "type": "String", "default": "''"},
        ],
        "sortingKey": ["kind", "time"],
        "ttl": {"column": "time", "keep": "3650d"},
        "deletionPolicy": "Delete",
    })
}

fn pipe_spec(workspace: &str, name: &str, sql: &str) -> Value {
    json!({
        "workspace": workspace,
        "name": name,
        "nodes": [{"name": "answer", "sql": sql}],
        "endpoint": {"node": "answer"},
    })
}

fn token_spec(workspace: &str) -> Value {
    json!({"workspace": workspace, "scopes": [{"type": "PIPES:READ", "resource": "*"}]})
}

/// Whether the status says Ready of the spec as it is now.
fn is_ready(object: &DynamicObject) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "Ready"
            && condition["status"] == "True"
            && condition["observedGeneration"].as_i64() >= object.metadata.generation
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_hundred_objects_of_different_names() {
        let tenants = Tenants::new();
        let manifests = tenants.manifests();
        let names: HashSet<String> = manifests
            .split("\n---\n")
            .map(|document| serde_json::from_str::<Value>(document).unwrap())
            .map(|object| {
                let metadata = &object["metadata"];
                format!(
                    "{} {} {}",
                    object["kind"], metadata["namespace"], metadata["name"]
                )
            })
            .collect();
        assert_eq!(names.len(), 500);
        assert_eq!(OBJECTS, 500);
        assert_eq!(tenants.databases().len(), 50);
        let closely = format!(
            "\"Pipe\" \"{}\" \"{CHANGED_OBJECT}\"",
            tenants.first_namespace()
        );
        assert!(names.contains(&closely));
    }

    #[test]
    fn ready_means_the_current_spec() {
        let mut object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"generation": 2},
            "status": {"conditions": [
                {"type": "Accepted", "status": "False", "observedGeneration": 2},
                {"type": "Ready", "status": "True", "observedGeneration": 1},
            ]},
        }))
        .unwrap();
        assert!(!is_ready(&object));
        object.data["status"]["conditions"][1]["observedGeneration"] = json!(2);
        assert!(is_ready(&object));
        object.data["status"]["conditions"][1]["status"] = json!("Unknown");
        assert!(!is_ready(&object));
    }
}

//! Manifests sorted into workspaces, filled in as the API server would, and without
//! what it would refuse.

use crate::input::{Manifest, Place};
use crate::report::{Reference, Refusal, Skipped};
use crate::schema::{Schemas, Violation, meant};
use aviary_crds::conditions::Reason;
use aviary_crds::workspace::ClusterRef;
use aviary_crds::{AccessToken, ClickHouseCluster, DataSource, GROUP, Pipe, VERSION, Workspace};
use aviary_plan::{ObjectKey, Rejection, WorkspaceObjects};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was found in files.
#[derive(Default)]
pub struct Inventory {
    /// By namespace and name.
    pub tenants: Vec<Tenant>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) skipped: Vec<Skipped>,
}

/// A workspace and what belongs to it.
pub struct Tenant {
    /// The objects.
    pub objects: WorkspaceObjects,
    /// Its cluster, by namespace and name.
    pub(crate) cluster: (String, String),
    /// Whether that is among the files and has several replicas.
    pub(crate) on_replicas: bool,
    places: BTreeMap<ObjectKey, Place>,
}

/// What names one workspace, which may not be there.
#[derive(Default)]
struct Group {
    workspace: Option<Arc<Workspace>>,
    data_sources: Vec<Arc<DataSource>>,
    pipes: Vec<Arc<Pipe>>,
    access_tokens: Vec<Arc<AccessToken>>,
    places: BTreeMap<ObjectKey, Place>,
}

/// The state of sorting.
struct Sorter<'a> {
    namespace: &'a str,
    schemas: Schemas,
    inventory: Inventory,
    seen: BTreeMap<Reference, Place>,
    /// By namespace and name of the workspace.
    groups: BTreeMap<(String, String), Group>,
    /// Clusters with several replicas, by namespace and name.
    replicated: BTreeSet<(String, String)>,
}

impl Inventory {
    /// Sorts manifests; objects without a namespace are in the one given.
    pub(crate) fn of(manifests: &[Manifest], namespace: &str) -> Self {
        let mut sorter = Sorter {
            namespace,
            schemas: Schemas::of_all_kinds(),
            inventory: Self::default(),
            seen: BTreeMap::new(),
            groups: BTreeMap::new(),
            replicated: BTreeSet::new(),
        };
        for manifest in manifests {
            sorter.sort(manifest);
        }
        sorter.finish()
    }
}

impl Tenant {
    /// The refusal of one of its objects by the planner, with where that object stands.
    pub(crate) fn refusal(&self, rejection: &Rejection) -> Option<Refusal> {
        let place = self.places.get(&rejection.object)?;
        let metadata = &self.objects.workspace.metadata;
        Some(Refusal {
            place: place.clone(),
            object: Reference::of(
                &rejection.object,
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default(),
            ),
            field: String::new(),
            reason: rejection.reason.as_str(),
            message: rejection.message.clone(),
            hint: None,
        })
    }
}

impl Sorter<'_> {
    fn sort(&mut self, manifest: &Manifest) {
        let version = manifest.text(&["apiVersion"]);
        let kind = manifest.text(&["kind"]);
        let is_known = self.schemas.kinds().any(|known| known == kind);
        let group = version.split_once('/').map_or("", |(group, _)| group);
        if group != GROUP && !(version.is_empty() && is_known) {
            return self.skip(manifest, kind);
        }
        let mut object = manifest.node.to_json();
        let name = self.complete(kind, manifest, &mut object);
        let violations = if version != format!("{GROUP}/{VERSION}") {
            vec![violation(
                "apiVersion",
                format!("it must be {GROUP}/{VERSION}"),
                None,
            )]
        } else if !is_known {
            let known: Vec<&str> = self.schemas.kinds().collect();
            vec![violation(
                "kind",
                format!("there is no kind `{kind}`"),
                Some(meant(kind, &known)),
            )]
        } else if let Some(other) = self.seen.get(&name) {
            vec![violation(
                "",
                format!("it stands in {other}, too: the later would overwrite the earlier"),
                None,
            )]
        } else {
            self.schemas.check(kind, &object)
        };
        self.seen
            .entry(name.clone())
            .or_insert_with(|| manifest.place(""));
        let violations = if violations.is_empty() {
            self.take(&name, manifest, object)
                .err()
                .into_iter()
                .collect()
        } else {
            violations
        };
        for violation in violations {
            self.refuse(manifest, &name, violation);
        }
    }

    fn skip(&mut self, manifest: &Manifest, kind: &str) {
        let message = match kind {
            "" => "this is no Kubernetes object".to_owned(),
            "Kustomization" => "a Kustomization is not applied here: give its result, `kubectl kustomize DIR | aviary plan -f -`, where it changes anything".to_owned(),
            _ => format!("{kind} {} is no object of Aviary's", manifest.text(&["metadata", "name"])),
        };
        let place = manifest.place("");
        self.inventory.skipped.push(Skipped { place, message });
    }

    /// Adds what the API server would, as far as it has to be there: what is given stays.
    fn complete(&self, kind: &str, manifest: &Manifest, object: &mut Value) -> Reference {
        let mut name = Reference {
            kind: kind.to_owned(),
            namespace: self.namespace.to_owned(),
            name: manifest.text(&["metadata", "name"]).to_owned(),
        };
        if let Value::Object(fields) = object {
            // Of another time, and perhaps another cluster.
            fields.remove("status");
        }
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            let namespace = metadata
                .entry("namespace")
                .or_insert_with(|| self.namespace.into());
            namespace
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut name.namespace);
            let uid = format!(
                "uid-of-{}-{}.{}",
                kind.to_lowercase(),
                name.namespace,
                name.name
            );
            metadata.entry("uid").or_insert_with(|| uid.into());
        }
        name
    }

    fn take(
        &mut self,
        name: &Reference,
        manifest: &Manifest,
        object: Value,
    ) -> Result<(), Violation> {
        let own = name.name.clone();
        let at = (name.namespace.as_str(), manifest.place(""));
        match name.kind.as_str() {
            "Workspace" => {
                let workspace = typed(object)?;
                self.group(at, &own, ObjectKey::Workspace).workspace = Some(workspace);
            }
            "DataSource" => {
                let source: Arc<DataSource> = typed(object)?;
                let group = self.group(at, &source.spec.workspace, ObjectKey::DataSource(own));
                group.data_sources.push(source);
            }
            "Pipe" => {
                let pipe: Arc<Pipe> = typed(object)?;
                let group = self.group(at, &pipe.spec.workspace, ObjectKey::Pipe(own));
                group.pipes.push(pipe);
            }
            "AccessToken" => {
                let token: Arc<AccessToken> = typed(object)?;
                let group = self.group(at, &token.spec.workspace, ObjectKey::AccessToken(own));
                group.access_tokens.push(token);
            }
            _ => {
                let cluster: Arc<ClickHouseCluster> = typed(object)?;
                if cluster.spec.external.replicas.len() > 1 {
                    self.replicated.insert((name.namespace.clone(), own));
                }
            }
        }
        Ok(())
    }

    /// What names a workspace of a namespace, with where another object of it stands.
    fn group(
        &mut self,
        (namespace, place): (&str, Place),
        workspace: &str,
        object: ObjectKey,
    ) -> &mut Group {
        let of = (namespace.to_owned(), workspace.to_owned());
        let group = self.groups.entry(of).or_default();
        group.places.insert(object, place);
        group
    }

    fn refuse(&mut self, manifest: &Manifest, name: &Reference, violation: Violation) {
        self.inventory.refusals.push(Refusal {
            place: manifest.place(&violation.path),
            object: name.clone(),
            field: violation.path,
            reason: Reason::Invalid.as_str(),
            message: violation.message,
            hint: violation.hint,
        });
    }

    fn finish(mut self) -> Inventory {
        for ((namespace, name), group) in self.groups {
            let Some(workspace) = group.workspace else {
                let refusals = group.places.into_iter().map(|(object, place)| Refusal {
                    place,
                    object: Reference::of(&object, &namespace, &name),
                    field: "spec.workspace".to_owned(),
                    reason: Reason::ReferenceNotFound.as_str(),
                    message: format!(
                        "there is no valid Workspace `{name}` in namespace `{namespace}`"
                    ),
                    hint: Some("give its file, too, with another -f".to_owned()),
                });
                self.inventory.refusals.extend(refusals);
                continue;
            };
            let ClusterRef {
                name,
                namespace: elsewhere,
            } = workspace.spec.cluster_ref.clone();
            let cluster = (elsewhere.unwrap_or(namespace), name);
            self.inventory.tenants.push(Tenant {
                objects: WorkspaceObjects {
                    workspace,
                    data_sources: group.data_sources,
                    pipes: group.pipes,
                    access_tokens: group.access_tokens,
                },
                on_replicas: self.replicated.contains(&cluster),
                cluster,
                places: group.places,
            });
        }
        self.inventory
    }
}

/// What the schema lets pass and the type does not, such as a duration that overflows.
fn typed<T: DeserializeOwned>(object: Value) -> Result<Arc<T>, Violation> {
    serde_path_to_error::deserialize(object)
        .map(Arc::new)
        .map_err(|error| violation(&error.path().to_string(), error.inner().to_string(), None))
}

fn violation(path: &str, message: String, hint: Option<String>) -> Violation {
    Violation {
        path: path.to_owned(),
        message,
        hint,
    }
}

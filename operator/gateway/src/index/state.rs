//! The writer's side of the index: every object as it was published, and how
//! workspaces are put together from them.

use super::object::{Kind, Object, ObjectKey, Published};
use super::served::{Opened, Parts, ServedPipe, ServedWorkspace};
use super::tokens::{Claims, OwnClaims, Tokens, claims_of};
use crate::budgets::Budgets;
use crate::ingest::{self, Destination, Intake};
use crate::metrics::{Metrics, Resource, ResourceKind, ResourceName};
use crate::rights::Principal;
use crate::token_value::TokenHash;
use crate::upstream::{Authorization, Registry, Replica, ReplicaSettings, Replicas};
use crate::workspace_key::WorkspaceKey;
use aviary_crds::published::{
    PublishedDataSource, PublishedPipe, PublishedWorkspace, WorkspaceAccess,
};
use aviary_sql::Template;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Every object, and which workspaces are to be put together anew.
pub(super) struct State {
    registry: Registry,
    ingestion: ingest::Settings,
    budgets: Budgets,
    metrics: Arc<Metrics>,
    workspaces: BTreeMap<WorkspaceKey, PublishedWorkspace>,
    /// By name of the Secret.
    access: BTreeMap<ObjectKey, Arc<Access>>,
    /// The Secrets of a workspace: one, and a second while one takes the other's place.
    access_of: HashMap<WorkspaceKey, BTreeSet<ObjectKey>>,
    claims: Claims,
    /// Those whose Secret somebody deleted while the workspace is served. The operator
    /// makes it anew; until then a client is told to try again, not that its token is unknown.
    awaited: BTreeSet<ObjectKey>,
    data_sources: BTreeMap<ObjectKey, DataSourceEntry>,
    pipes: BTreeMap<ObjectKey, PipeEntry>,
    served: HashMap<WorkspaceKey, Arc<ServedWorkspace>>,
    /// Workspaces to put together anew, and tokens to look at again.
    stale: BTreeSet<WorkspaceKey>,
    stale_tokens: HashSet<TokenHash>,
}

/// A workspace's users and tokens.
struct Access {
    workspace: WorkspaceKey,
    reader: Authorization,
    writer: Authorization,
    claims: OwnClaims,
}

struct DataSourceEntry {
    workspace: WorkspaceKey,
    age: (i64, String),
    published: PublishedDataSource,
}

struct PipeEntry {
    workspace: WorkspaceKey,
    age: (i64, String),
    served: Arc<ServedPipe>,
}

impl State {
    pub(super) fn new(
        replicas: ReplicaSettings,
        ingestion: ingest::Settings,
        budgets: Budgets,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            registry: Registry::new(replicas, Arc::clone(&metrics)),
            ingestion,
            budgets,
            metrics,
            workspaces: BTreeMap::new(),
            access: BTreeMap::new(),
            access_of: HashMap::new(),
            claims: Claims::default(),
            awaited: BTreeSet::new(),
            data_sources: BTreeMap::new(),
            pipes: BTreeMap::new(),
            served: HashMap::new(),
            stale: BTreeSet::new(),
            stale_tokens: HashSet::new(),
        }
    }

    pub(super) fn apply(&mut self, object: Object) {
        let Object {
            key,
            age,
            published,
        } = object;
        match published {
            Published::Workspace(published) => {
                let key = WorkspaceKey::new(&key.namespace, &key.name);
                if self.workspaces.get(&key) != Some(&published) {
                    self.workspaces.insert(key.clone(), published);
                    self.stale.insert(key);
                }
            }
            Published::DataSource(workspace, published) => {
                let workspace = WorkspaceKey::new(&key.namespace, &workspace);
                let same = |old: &DataSourceEntry| {
                    old.published == published && old.workspace == workspace && old.age == age
                };
                if !self.data_sources.get(&key).is_some_and(same) {
                    self.delete(&key);
                    self.stale.insert(workspace.clone());
                    self.data_sources.insert(
                        key,
                        DataSourceEntry {
                            workspace,
                            age,
                            published,
                        },
                    );
                }
            }
            Published::Pipe(workspace, published) => {
                self.apply_pipe(key, age, &workspace, published);
            }
            Published::Access(access) => self.apply_access(key, &access),
        }
    }

    fn apply_pipe(
        &mut self,
        key: ObjectKey,
        age: (i64, String),
        workspace: &str,
        published: PublishedPipe,
    ) {
        let workspace = WorkspaceKey::new(&key.namespace, workspace);
        let same = |old: &PipeEntry| {
            old.served.published == published && old.workspace == workspace && old.age == age
        };
        if self.pipes.get(&key).is_some_and(same) {
            return;
        }
        match Template::parse(&published.template) {
            Ok(template) => {
                self.delete(&key);
                self.stale.insert(workspace.clone());
                let served = Arc::new(ServedPipe {
                    resource: self.resource(&workspace, ResourceKind::Pipe, &published.name),
                    published,
                    template,
                });
                self.pipes.insert(
                    key,
                    PipeEntry {
                        workspace,
                        age,
                        served,
                    },
                );
            }
            // The revision before it stays live.
            Err(error) => {
                tracing::warn!(namespace = key.namespace, pipe = key.name, %error, "published template is not understood");
            }
        }
    }

    fn apply_access(&mut self, key: ObjectKey, access: &WorkspaceAccess) {
        let workspace = WorkspaceKey::new(&access.namespace, &access.workspace);
        self.remove_access(&key);
        self.remove_awaited(&workspace);
        let resource = self.resource(&workspace, ResourceKind::Workspace, "");
        let principals = access.tokens.iter().map(|token| {
            let resource = Arc::clone(&resource);
            let (workspace, scopes) = (workspace.clone(), token.scopes.clone());
            Arc::new(Principal::new(&token.name, workspace, resource, scopes))
        });
        let access = Access {
            reader: Authorization::basic(&access.reader.name, &access.reader.password),
            writer: Authorization::basic(&access.writer.name, &access.writer.password),
            claims: claims_of(&key, access, principals),
            workspace: workspace.clone(),
        };
        self.claims.add(&access.claims);
        self.stale_tokens.extend(tokens(&access.claims));
        let secrets = self.access_of.entry(workspace.clone()).or_default();
        secrets.insert(key.clone());
        self.access.insert(key, Arc::new(access));
        self.stale.insert(workspace);
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        let workspace = match key.kind {
            Kind::Workspace => {
                let key = WorkspaceKey::new(&key.namespace, &key.name);
                self.remove_awaited(&key);
                self.workspaces.remove(&key).map(|_| key)
            }
            Kind::DataSource => self.data_sources.remove(key).map(|old| old.workspace),
            Kind::Pipe => self.pipes.remove(key).map(|old| old.workspace),
            Kind::Access => {
                let access = self.access.get(key);
                if access.is_some_and(|access| self.workspaces.contains_key(&access.workspace)) {
                    self.awaited.insert(key.clone());
                    return;
                }
                self.remove_access(key)
            }
        };
        self.stale.extend(workspace);
    }

    fn remove_access(&mut self, key: &ObjectKey) -> Option<WorkspaceKey> {
        self.awaited.remove(key);
        let old = self.access.remove(key)?;
        self.claims.remove(&old.claims);
        self.stale_tokens.extend(tokens(&old.claims));
        if let Some(secrets) = self.access_of.get_mut(&old.workspace) {
            secrets.remove(key);
            if secrets.is_empty() {
                self.access_of.remove(&old.workspace);
            }
        }
        Some(old.workspace.clone())
    }

    /// Forgets what is kept of a workspace whose Secret is gone.
    fn remove_awaited(&mut self, workspace: &WorkspaceKey) {
        let of_workspace = |key: &&ObjectKey| {
            let access = self.access.get(*key);
            access.is_none_or(|access| access.workspace == *workspace)
        };
        let gone: Vec<ObjectKey> = self.awaited.iter().filter(of_workspace).cloned().collect();
        for key in gone {
            self.remove_access(&key);
        }
    }

    pub(super) fn replace(&mut self, kind: Kind, objects: Vec<Object>, unreadable: &[ObjectKey]) {
        let kept: BTreeSet<&ObjectKey> = objects
            .iter()
            .map(|object| &object.key)
            .chain(unreadable)
            .collect();
        let gone: Vec<ObjectKey> = self
            .keys(kind)
            .into_iter()
            .filter(|key| !kept.contains(key))
            .collect();
        gone.iter().for_each(|key| self.delete(key));
        objects.into_iter().for_each(|object| self.apply(object));
    }

    fn keys(&self, kind: Kind) -> Vec<ObjectKey> {
        match kind {
            Kind::Workspace => self
                .workspaces
                .keys()
                .map(|key| ObjectKey {
                    kind,
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                })
                .collect(),
            Kind::DataSource => self.data_sources.keys().cloned().collect(),
            Kind::Pipe => self.pipes.keys().cloned().collect(),
            Kind::Access => self.access.keys().cloned().collect(),
        }
    }

    /// Takes all changes so far to the readers.
    pub(super) fn publish(&mut self, readers: &Tokens) {
        for key in std::mem::take(&mut self.stale) {
            let previous = self.served.remove(&key);
            if let Some(workspace) = self.serve(&key, previous.as_deref()) {
                self.served.insert(key.clone(), Arc::new(workspace));
            }
            let own = self.access_of.get(&key).into_iter().flatten();
            let own = own.filter_map(|secret| self.access.get(secret));
            let own = own.flat_map(|access| tokens(&access.claims));
            self.stale_tokens.extend(own);
        }
        let changes = std::mem::take(&mut self.stale_tokens).into_iter();
        readers.update(changes.map(|token| {
            let holder = self.claims.holder(&token);
            (token, holder.map(|principal| self.open(principal)))
        }));
        self.metrics.served("workspace", self.served.len());
        self.metrics.served("datasource", self.data_sources.len());
        self.metrics.served("pipe", self.pipes.len());
    }

    fn open(&self, principal: Arc<Principal>) -> Arc<Opened> {
        let served = self.served.get(&principal.workspace).cloned();
        Arc::new(Opened { principal, served })
    }

    fn serve(
        &mut self,
        key: &WorkspaceKey,
        previous: Option<&ServedWorkspace>,
    ) -> Option<ServedWorkspace> {
        let published = self.workspaces.get(key)?.clone();
        let secret = self.access_of.get(key)?.first()?;
        let access = Arc::clone(self.access.get(secret)?);
        let members = self.registry.resolve(&published.replica_urls);
        let replicas = reuse_replicas(previous, members);
        let mut pipes = BTreeMap::new();
        for entry in oldest_first(&self.pipes, key, |entry| (&entry.workspace, &entry.age)) {
            pipes
                .entry(entry.served.published.name.clone())
                .or_insert_with(|| Arc::clone(&entry.served));
        }
        let mut intakes = HashMap::new();
        for entry in oldest_first(&self.data_sources, key, |entry| {
            (&entry.workspace, &entry.age)
        }) {
            let name = entry.published.name.clone();
            let serve = || self.serve_intake(entry, &published, &access, &replicas, previous);
            intakes.entry(name).or_insert_with(serve);
        }
        let reader = access.reader.clone();
        // What is held goes on counting where it did.
        let shares = previous.map_or_else(
            || Arc::new(self.budgets.share()),
            |old| Arc::clone(&old.shares),
        );
        let parts = Parts {
            key: key.clone(),
            shares,
            published,
            replicas,
            reader,
            pipes,
            intakes,
        };
        Some(ServedWorkspace::new(parts, previous))
    }

    /// A data source that is as before stays the very same, with the rows it is
    /// just gathering.
    fn serve_intake(
        &self,
        entry: &DataSourceEntry,
        workspace: &PublishedWorkspace,
        access: &Access,
        replicas: &Arc<Replicas>,
        previous: Option<&ServedWorkspace>,
    ) -> Arc<Intake> {
        let destination = Destination {
            database: workspace.database.clone(),
            published: entry.published.clone(),
            replicas: Arc::clone(replicas),
            writer: access.writer.clone(),
        };
        let same = previous
            .and_then(|old| old.intakes.get(&entry.published.name))
            .filter(|old| old.is_for(&destination));
        same.map_or_else(
            || {
                let name = &entry.published.name;
                let resource = self.resource(&entry.workspace, ResourceKind::DataSource, name);
                let settings = self.ingestion.clone();
                Arc::new(Intake::new(destination, resource, settings))
            },
            Arc::clone,
        )
    }

    /// What requests are counted for.
    fn resource(&self, workspace: &WorkspaceKey, kind: ResourceKind, name: &str) -> Arc<Resource> {
        self.metrics.resource(ResourceName {
            namespace: workspace.namespace.clone(),
            workspace: workspace.name.clone(),
            kind,
            name: name.to_owned(),
        })
    }
}

fn tokens(claims: &OwnClaims) -> impl Iterator<Item = TokenHash> {
    claims.iter().map(|(token, _, _)| *token)
}

fn reuse_replicas(previous: Option<&ServedWorkspace>, members: Vec<Arc<Replica>>) -> Arc<Replicas> {
    match previous.filter(|old| old.replicas.same(&members)) {
        Some(old) => Arc::clone(&old.replicas),
        None => Arc::new(Replicas::new(members)),
    }
}

/// The objects of a workspace, oldest first: of two that claim a name, the first keeps it.
fn oldest_first<'a, E>(
    objects: &'a BTreeMap<ObjectKey, E>,
    workspace: &WorkspaceKey,
    of: impl Fn(&E) -> (&WorkspaceKey, &(i64, String)),
) -> Vec<&'a E> {
    let kind = objects.keys().next().map(|key| key.kind);
    let first = kind.map(|kind| ObjectKey {
        kind,
        namespace: workspace.namespace.clone(),
        name: String::new(),
    });
    let namespace = first.into_iter().flat_map(|first| objects.range(first..));
    let mut entries: Vec<&E> = namespace
        .take_while(|(key, _)| key.namespace == workspace.namespace)
        .map(|(_, entry)| entry)
        .filter(|entry| of(entry).0 == workspace)
        .collect();
    entries.sort_by(|a, b| of(a).1.cmp(of(b).1));
    entries
}

//! The writer's side of the index: every object as it was published, and how
//! workspaces are put together from them.

use super::served::{Opened, Parts, Principal, ServedPipe, ServedWorkspace, WorkspaceKey};
use super::{Kind, Object, ObjectKey, Published};
use crate::auth::{HashedAlready, Scopes, TokenHash};
use crate::ingest::{self, Intake, IntakeParts};
use crate::metrics::Metrics;
use crate::upstream::{Authorization, Registry, Replica, ReplicaSettings, Replicas};
use aviary_crds::published::{
    PublishedDataSource, PublishedPipe, PublishedWorkspace, WorkspaceAccess,
};
use aviary_sql::Template;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What readers see.
#[derive(Default)]
pub(crate) struct Snapshot {
    tokens: HashMap<TokenHash, Arc<Opened>, HashedAlready>,
    workspaces: HashMap<WorkspaceKey, Arc<ServedWorkspace>>,
}

impl Snapshot {
    pub(crate) fn opened(&self, token: &TokenHash) -> Option<&Arc<Opened>> {
        // Found by hash, and then compared as a whole in constant time.
        let (known, opened) = self.tokens.get_key_value(token)?;
        known.matches(token).then_some(opened)
    }
}

/// Every object, and which workspaces are to be put together anew.
pub(super) struct State {
    registry: Registry,
    ingestion: ingest::Settings,
    metrics: Arc<Metrics>,
    workspaces: BTreeMap<WorkspaceKey, PublishedWorkspace>,
    /// By name of the Secret.
    access: BTreeMap<ObjectKey, Arc<Access>>,
    /// Those whose Secret somebody deleted while the workspace is served. The operator
    /// makes it anew; until then a client is told to try again, not that its token is unknown.
    awaited: BTreeSet<ObjectKey>,
    data_sources: BTreeMap<ObjectKey, DataSourceEntry>,
    pipes: BTreeMap<ObjectKey, PipeEntry>,
    stale: BTreeSet<WorkspaceKey>,
    /// Of all tokens, unless they are to be collected anew.
    principals: Option<HashMap<TokenHash, Arc<Principal>>>,
}

/// A workspace's users and tokens.
struct Access {
    workspace: WorkspaceKey,
    reader: Authorization,
    writer: Authorization,
    tokens: Vec<(TokenHash, Arc<Principal>)>,
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
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            registry: Registry::new(replicas, Arc::clone(&metrics)),
            ingestion,
            metrics,
            workspaces: BTreeMap::new(),
            access: BTreeMap::new(),
            awaited: BTreeSet::new(),
            data_sources: BTreeMap::new(),
            pipes: BTreeMap::new(),
            stale: BTreeSet::new(),
            principals: None,
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
                let key = WorkspaceKey::of(&key);
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
        let tokens = access.tokens.iter().filter_map(|token| {
            let principal = Principal {
                workspace: workspace.clone(),
                scopes: Scopes::new(token.scopes.clone()),
            };
            Some((TokenHash::from_hex(&token.sha256)?, Arc::new(principal)))
        });
        let access = Access {
            reader: Authorization::basic(&access.reader.name, &access.reader.password),
            writer: Authorization::basic(&access.writer.name, &access.writer.password),
            tokens: tokens.collect(),
            workspace: workspace.clone(),
        };
        self.access.insert(key, Arc::new(access));
        self.stale.insert(workspace);
        self.principals = None;
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        let workspace = match key.kind {
            Kind::Workspace => {
                let key = WorkspaceKey::of(key);
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
        self.principals = None;
        self.awaited.remove(key);
        self.access.remove(key).map(|old| old.workspace.clone())
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

    /// The snapshot after all changes so far, made from the one before.
    pub(super) fn snapshot(&mut self, previous: &Snapshot) -> Snapshot {
        let mut workspaces = previous.workspaces.clone();
        for key in std::mem::take(&mut self.stale) {
            match self.serve(&key, previous.workspaces.get(&key).map(Arc::as_ref)) {
                Some(workspace) => workspaces.insert(key, Arc::new(workspace)),
                None => workspaces.remove(&key),
            };
        }
        let principals = self.principals.take().unwrap_or_else(|| self.principals());
        let open = |(token, principal): (&TokenHash, &Arc<Principal>)| {
            let opened = Opened {
                principal: Arc::clone(principal),
                served: workspaces.get(&principal.workspace).cloned(),
            };
            (*token, Arc::new(opened))
        };
        let tokens = principals.iter().map(open).collect();
        self.principals = Some(principals);
        self.metrics.served("workspace", workspaces.len());
        self.metrics.served("datasource", self.data_sources.len());
        self.metrics.served("pipe", self.pipes.len());
        Snapshot { tokens, workspaces }
    }

    fn principals(&self) -> HashMap<TokenHash, Arc<Principal>> {
        let mut tokens = HashMap::new();
        for access in self.access.values() {
            for (hash, principal) in &access.tokens {
                // The same value in two workspaces cannot say which it opens; the first keeps it.
                let holder = tokens.entry(*hash).or_insert_with(|| Arc::clone(principal));
                if holder.workspace != principal.workspace {
                    tracing::warn!(
                        namespace = principal.workspace.namespace,
                        workspace = principal.workspace.name,
                        "a token of this workspace opens another one already"
                    );
                }
            }
        }
        tokens
    }

    fn serve(
        &mut self,
        key: &WorkspaceKey,
        previous: Option<&ServedWorkspace>,
    ) -> Option<ServedWorkspace> {
        let published = self.workspaces.get(key)?.clone();
        let access = self
            .access
            .values()
            .find(|access| access.workspace == *key)?
            .clone();
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
        let parts = Parts {
            key: key.clone(),
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
        let parts = IntakeParts {
            database: workspace.database.clone(),
            published: entry.published.clone(),
            replicas: Arc::clone(replicas),
            writer: access.writer.clone(),
        };
        let same = previous
            .and_then(|old| old.intakes.get(&entry.published.name))
            .filter(|old| old.is_made_from(&parts));
        same.map_or_else(
            || Arc::new(Intake::new(parts, self.ingestion.clone())),
            Arc::clone,
        )
    }
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

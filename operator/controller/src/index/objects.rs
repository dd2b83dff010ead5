//! What the watches have seen, in memory, and which workspaces and clusters a change concerns.
//!
//! A plain struct behind a lock: watches feed it, reconciles read it, and the answers to our own
//! writes go in at once, so that the next pass does not work on what this one has replaced.

use crate::index::lookups::Lookups;
use crate::kinds::with_kinds;
use crate::secrets::{PublishedSecret, TokenSecret};
use aviary_crds::clickhouse_cluster::PendingDrop;
use aviary_crds::published::ValueClaim;
use aviary_crds::{
    AccessToken, ClickHouseCluster, ClickHouseClusterStatus, DataSource, Pipe, Workspace,
};
use aviary_runtime::ObjectName;
use aviary_runtime::store::{Replaced, Store, Stored};
use k8s_openapi::api::core::v1::Namespace;
use kube::Resource;
use kube::core::PartialObjectMeta;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What must be looked at again after a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Affected {
    pub(crate) workspaces: BTreeSet<ObjectName>,
    pub(crate) clusters: BTreeSet<ObjectName>,
}

impl Affected {
    fn workspace(name: ObjectName) -> Self {
        Self::workspaces([name])
    }

    pub(crate) fn workspaces(names: impl IntoIterator<Item = ObjectName>) -> Self {
        Self {
            workspaces: names.into_iter().collect(),
            clusters: BTreeSet::new(),
        }
    }
}

/// Everything in the namespace that names one workspace, and the workspace if it is there.
pub(crate) struct Members {
    pub(crate) workspace: Option<Arc<Workspace>>,
    /// Whether the workspace is there but cannot be read.
    pub(crate) workspace_is_unreadable: bool,
    pub(crate) data_sources: Vec<Arc<DataSource>>,
    pub(crate) pipes: Vec<Arc<Pipe>>,
    pub(crate) access_tokens: Vec<Arc<AccessToken>>,
    /// Data sources of the namespace that are there but cannot be read, by uid and name: whether
    /// they belong to this workspace is unknown, so their tables must not count as orphans.
    pub(crate) unreadable_data_sources: Vec<(String, String)>,
}

/// What is known of the Kubernetes API.
#[derive(Default)]
pub(crate) struct Index(RwLock<Stores>);

macro_rules! stores_of {
    ($($store:ident: $kind:ty,)+) => {
        /// One store a kind.
        #[derive(Default)]
        pub(crate) struct Stores {
            $($store: Store<$kind>,)+
            token_secrets: Store<TokenSecret>,
            published_secrets: Store<PublishedSecret>,
            namespaces: Store<NamespaceMeta>,
            lookups: Lookups,
        }

        $(impl Kept for $kind {
            fn store(stores: &mut Stores) -> &mut Store<Self> {
                &mut stores.$store
            }
        })+

        impl Index {
            /// Reads the conditions of every object: for the metric that counts objects by condition.
            pub(crate) fn visit_conditions(
                &self,
                mut visit: impl FnMut(Cow<'static, str>, Conditions<'_>),
            ) {
                let stores = self.read();
                $(for (_, object) in stores.$store.iter() {
                    let status = object.status.as_ref();
                    visit(<$kind>::kind(&()), status.map_or(&[], |status| &status.conditions));
                })+
            }
        }
    };
}

with_kinds!(stores_of);

/// What there is to know of a namespace: its labels, by which clusters admit it.
pub(crate) type NamespaceMeta = PartialObjectMeta<Namespace>;

/// A kind that has a store.
pub(crate) trait Kept: Sized {
    fn store(stores: &mut Stores) -> &mut Store<Self>;
}

/// A kind the index holds.
pub(crate) trait Indexed: Kept + Stored + Send + Sync + 'static {
    /// What must be looked at when this object comes, changes or goes.
    fn concerns(&self, name: &ObjectName, stores: &Stores) -> Affected;
    /// Notes what the object is found by besides its name.
    fn note(&self, _name: &ObjectName, _lookups: &mut Lookups) {}
    /// Takes back what was noted of it.
    fn forget(&self, _name: &ObjectName, _lookups: &mut Lookups) {}
}

impl Index {
    /// Takes in an object as a watch shows it.
    pub(crate) fn apply<K: Indexed>(&self, name: &ObjectName, object: K) -> Affected {
        let stores = &mut *self.write();
        let Some(replaced) = K::store(stores).apply(name, object) else {
            return Affected::default();
        };
        look_up(stores, name, &replaced);
        if !replaced.matters {
            return Affected::default();
        }
        let now = replaced.current.concerns(name, stores);
        match replaced.previous {
            Some(previous) => join(previous.concerns(name, stores), now),
            None => now,
        }
    }

    /// Takes in the answer to a change of ours, unless the object went or was made anew meanwhile.
    pub(crate) fn refresh<K: Indexed + Resource>(&self, name: &ObjectName, object: K) {
        let stores = &mut *self.write();
        let is_same = |known: &K, coming: &K| known.meta().uid == coming.meta().uid;
        if let Some(replaced) = K::store(stores).refresh(name, object, is_same) {
            look_up(stores, name, &replaced);
        }
    }

    /// Takes in what we have made, unless the watch is past that already and knows better.
    pub(crate) fn created<K: Indexed>(&self, name: &ObjectName, object: K) {
        let stores = &mut *self.write();
        if let Some(replaced) = K::store(stores).created(name, object) {
            look_up(stores, name, &replaced);
        }
    }

    /// Takes in that an object is gone, as its last version shows.
    pub(crate) fn remove<K: Indexed>(&self, name: &ObjectName, version: Option<&str>) -> Affected {
        let stores = &mut *self.write();
        let Some(previous) = K::store(stores).remove(name, version) else {
            return Affected::default();
        };
        previous.forget(name, &mut stores.lookups);
        previous.concerns(name, stores)
    }

    /// Takes in that an object is there but does not fit its type: what was known of it stays.
    /// Tells whether that is new.
    pub(crate) fn mark_unreadable<K: Indexed>(&self, name: &ObjectName, uid: String) -> bool {
        K::store(&mut self.write()).mark_unreadable(name, uid)
    }

    /// Takes in a complete list: whatever is not in it is gone.
    pub(crate) fn retain<K: Indexed>(&self, listed: &BTreeSet<ObjectName>) -> Affected {
        let gone = K::store(&mut self.write()).missing_in(listed);
        gone.iter()
            .map(|name| self.remove::<K>(name, None))
            .fold(Affected::default(), join)
    }

    /// The workspace of this name and all that names it, each kind in the order of its names.
    pub(crate) fn members(&self, workspace: &ObjectName) -> Members {
        let stores = self.read();
        Members {
            workspace: stores.workspaces.get(workspace).cloned(),
            workspace_is_unreadable: stores.workspaces.is_unreadable(workspace),
            data_sources: members(&stores.data_sources, workspace, |object| {
                &object.spec.workspace
            }),
            pipes: members(&stores.pipes, workspace, |object| &object.spec.workspace),
            access_tokens: members(&stores.access_tokens, workspace, |object| {
                &object.spec.workspace
            }),
            unreadable_data_sources: stores.data_sources.unreadable_in(&workspace.namespace),
        }
    }

    pub(crate) fn cluster(&self, name: &ObjectName) -> Option<Arc<ClickHouseCluster>> {
        self.read().clusters.get(name).cloned()
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<NamespaceMeta>> {
        let name = ObjectName::new("", name);
        self.read().namespaces.get(&name).cloned()
    }

    pub(crate) fn token_secret(&self, name: &ObjectName) -> Option<Arc<TokenSecret>> {
        self.read().token_secrets.get(name).cloned()
    }

    pub(crate) fn published_secret(&self, name: &ObjectName) -> Option<Arc<PublishedSecret>> {
        self.read().published_secrets.get(name).cloned()
    }

    /// Who had this value first, of the workspaces that other published Secrets are for.
    pub(crate) fn first_claim_of_others(
        &self,
        sha256: &str,
        secret: &ObjectName,
    ) -> Option<ValueClaim> {
        self.read().lookups.first_claim_of_others(sha256, secret)
    }

    /// The Secrets that publish a workspace of this name, or one that had it before, by their names.
    pub(crate) fn published_secrets(
        &self,
        workspace: &ObjectName,
    ) -> Vec<(ObjectName, Arc<PublishedSecret>)> {
        let stores = self.read();
        let secrets = stores.published_secrets.iter();
        secrets
            .filter(|(_, secret)| workspace_of(secret).as_ref() == Some(workspace))
            .map(|(name, secret)| (name.clone(), secret.clone()))
            .collect()
    }

    /// The drops that are still to be done for a workspace of this name, with their clusters.
    pub(crate) fn pending_drops(&self, workspace: &ObjectName) -> Vec<(ObjectName, PendingDrop)> {
        let stores = self.read();
        let workspace = workspace.to_string();
        let clusters = stores.clusters.iter();
        let all = clusters.flat_map(|(name, cluster)| {
            let status = cluster.status.iter();
            let pending = status.flat_map(|status| &status.pending_drops);
            pending.map(move |drop| (name, drop))
        });
        all.filter(|(_, drop)| drop.workspace == workspace)
            .map(|(name, drop)| (name.clone(), drop.clone()))
            .collect()
    }

    /// The workspaces placed on a cluster, and those that are gone and left drops to be done.
    pub(crate) fn workspaces_on(&self, cluster: &ObjectName) -> BTreeSet<ObjectName> {
        workspaces_on(&self.read(), cluster)
    }

    /// Reads the status of every cluster that has one.
    pub(crate) fn visit_clusters(
        &self,
        mut visit: impl FnMut(&ObjectName, &ClickHouseClusterStatus),
    ) {
        for (name, cluster) in self.read().clusters.iter() {
            if let Some(status) = &cluster.status {
                visit(name, status);
            }
        }
    }

    // A panic while the lock is held cannot leave half a change: nothing that is called can panic.
    fn read(&self) -> RwLockReadGuard<'_, Stores> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Stores> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The conditions in a status.
pub(crate) type Conditions<'a> = &'a [k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition];

fn members<K>(
    store: &Store<K>,
    workspace: &ObjectName,
    workspace_of: impl Fn(&K) -> &String,
) -> Vec<Arc<K>> {
    store
        .in_namespace(&workspace.namespace)
        .filter(|(_, object)| *workspace_of(object) == workspace.name)
        .map(|(_, object)| object.clone())
        .collect()
}

fn workspaces_on(stores: &Stores, cluster: &ObjectName) -> BTreeSet<ObjectName> {
    stores
        .workspaces
        .iter()
        .filter(|(_, workspace)| cluster_of(workspace) == *cluster)
        .map(|(name, _)| name.clone())
        .chain(pending_on(stores, cluster))
        .collect()
}

/// The workspaces of drops that are still to be done on a cluster.
fn pending_on(stores: &Stores, cluster: &ObjectName) -> Vec<ObjectName> {
    let cluster = stores.clusters.get(cluster);
    let status = cluster.and_then(|cluster| cluster.status.as_ref());
    let pending = status.into_iter().flat_map(|status| &status.pending_drops);
    pending
        .filter_map(|drop| ObjectName::parse(&drop.workspace))
        .collect()
}

/// The workspace that a Secret publishes.
fn workspace_of(secret: &PublishedSecret) -> Option<ObjectName> {
    let access = secret.access.as_ref()?;
    Some(ObjectName::new(&access.namespace, &access.workspace))
}

/// The cluster a workspace is placed on.
pub(crate) fn cluster_of(workspace: &Workspace) -> ObjectName {
    let reference = &workspace.spec.cluster_ref;
    let own = || workspace.metadata.namespace.clone().unwrap_or_default();
    ObjectName::new(
        reference.namespace.clone().unwrap_or_else(own),
        &reference.name,
    )
}

/// The Secret that holds a token's value.
pub(crate) fn secret_of(token: &AccessToken) -> ObjectName {
    let own = ObjectName::of(token);
    match &token.spec.secret_name {
        Some(secret) => ObjectName::new(own.namespace, secret),
        None => own,
    }
}

fn join(mut left: Affected, right: Affected) -> Affected {
    left.workspaces.extend(right.workspaces);
    left.clusters.extend(right.clusters);
    left
}

/// Tells the lookups of an object that took another's place.
fn look_up<K: Indexed>(stores: &mut Stores, name: &ObjectName, replaced: &Replaced<K>) {
    if let Some(previous) = &replaced.previous {
        previous.forget(name, &mut stores.lookups);
    }
    replaced.current.note(name, &mut stores.lookups);
}

impl Indexed for ClickHouseCluster {
    fn concerns(&self, name: &ObjectName, stores: &Stores) -> Affected {
        Affected {
            workspaces: workspaces_on(stores, name),
            clusters: BTreeSet::from([name.clone()]),
        }
    }
}

impl Indexed for DataSource {
    fn concerns(&self, name: &ObjectName, _: &Stores) -> Affected {
        Affected::workspace(ObjectName::new(&name.namespace, &self.spec.workspace))
    }
}

impl Indexed for Pipe {
    fn concerns(&self, name: &ObjectName, _: &Stores) -> Affected {
        Affected::workspace(ObjectName::new(&name.namespace, &self.spec.workspace))
    }
}

impl Indexed for AccessToken {
    fn concerns(&self, name: &ObjectName, _: &Stores) -> Affected {
        Affected::workspace(ObjectName::new(&name.namespace, &self.spec.workspace))
    }
}

impl Indexed for Workspace {
    fn concerns(&self, name: &ObjectName, _: &Stores) -> Affected {
        Affected::workspace(name.clone())
    }

    fn note(&self, name: &ObjectName, lookups: &mut Lookups) {
        lookups.note_workspace(self, name);
    }

    fn forget(&self, _: &ObjectName, lookups: &mut Lookups) {
        lookups.forget_workspace(self);
    }
}

impl Kept for NamespaceMeta {
    fn store(stores: &mut Stores) -> &mut Store<Self> {
        &mut stores.namespaces
    }
}

impl Indexed for NamespaceMeta {
    fn concerns(&self, name: &ObjectName, stores: &Stores) -> Affected {
        let workspaces = stores.workspaces.in_namespace(&name.name);
        Affected::workspaces(workspaces.map(|(workspace, _)| workspace.clone()))
    }
}

impl Stored for TokenSecret {
    fn resource_version(&self) -> Option<&str> {
        self.resource_version.as_deref()
    }

    fn differs(&self, other: &Self) -> bool {
        (&self.sha256, &self.owners) != (&other.sha256, &other.owners)
    }
}

impl Kept for TokenSecret {
    fn store(stores: &mut Stores) -> &mut Store<Self> {
        &mut stores.token_secrets
    }
}

impl Indexed for TokenSecret {
    fn concerns(&self, name: &ObjectName, stores: &Stores) -> Affected {
        let tokens = stores.access_tokens.in_namespace(&name.namespace);
        Affected::workspaces(
            tokens
                .filter(|(_, token)| secret_of(token) == *name)
                .map(|(_, token)| ObjectName::new(&name.namespace, &token.spec.workspace)),
        )
    }
}

impl Stored for PublishedSecret {
    fn resource_version(&self) -> Option<&str> {
        self.resource_version.as_deref()
    }

    fn differs(&self, other: &Self) -> bool {
        self.document != other.document
    }
}

impl Kept for PublishedSecret {
    fn store(stores: &mut Stores) -> &mut Store<Self> {
        &mut stores.published_secrets
    }
}

impl Indexed for PublishedSecret {
    /// The workspace it is for, and those that have one of its values, too.
    fn concerns(&self, name: &ObjectName, stores: &Stores) -> Affected {
        let lookups = &stores.lookups;
        let rivals = self.access.iter().flat_map(|access| {
            let values = access.claimed_values();
            values.flat_map(|(sha256, _)| lookups.claimants(sha256))
        });
        let secrets = rivals.chain([name]);
        let present = secrets.filter_map(|secret| lookups.workspace_of(secret));
        // One that is gone has left something to be looked after.
        Affected::workspaces(present.chain(workspace_of(self)))
    }

    fn note(&self, name: &ObjectName, lookups: &mut Lookups) {
        if let Some(access) = &self.access {
            lookups.note_values(access, name);
        }
    }

    fn forget(&self, name: &ObjectName, lookups: &mut Lookups) {
        if let Some(access) = &self.access {
            lookups.forget_values(access, name);
        }
    }
}

//! What the watches have seen, in memory, and which workspaces and clusters a change concerns.
//!
//! A plain struct behind a lock: watches feed it, reconciles read it, and the answers to our own
//! writes go in at once, so that the next pass does not work on what this one has replaced.

mod lookups;
#[cfg(test)]
mod tests;

use crate::names::ObjectName;
use crate::secrets::{PublishedSecret, TokenSecret};
use aviary_crds::clickhouse_cluster::PendingDrop;
use aviary_crds::published::ValueClaim;
use aviary_crds::{
    AccessToken, ClickHouseCluster, ClickHouseClusterStatus, DataSource, Pipe, Workspace,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use lookups::Lookups;
use std::collections::{BTreeMap, BTreeSet};
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

    fn workspaces(names: impl IntoIterator<Item = ObjectName>) -> Self {
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
pub(crate) struct Index(RwLock<Shelves>);

/// One shelf a kind.
#[derive(Default)]
pub(crate) struct Shelves {
    clusters: Shelf<ClickHouseCluster>,
    workspaces: Shelf<Workspace>,
    data_sources: Shelf<DataSource>,
    pipes: Shelf<Pipe>,
    access_tokens: Shelf<AccessToken>,
    token_secrets: Shelf<TokenSecret>,
    published_secrets: Shelf<PublishedSecret>,
    namespaces: Shelf<NamespaceMeta>,
    lookups: Lookups,
}

/// What there is to know of a namespace: its labels, by which clusters admit it.
pub(crate) type NamespaceMeta = PartialObjectMeta<Namespace>;

/// The objects of a kind.
pub(crate) struct Shelf<K> {
    objects: BTreeMap<ObjectName, Arc<K>>,
    /// The newest version that a watch has shown, of any object that came or went.
    seen: u128,
    /// Objects that do not fit the kind's type, with their uids. The last readable one, if any,
    /// stays in `objects`.
    unreadable: BTreeMap<ObjectName, String>,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            seen: 0,
            unreadable: BTreeMap::new(),
        }
    }
}

impl<K> Shelf<K> {
    fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = (&ObjectName, &Arc<K>)> {
        self.objects
            .range(ObjectName::new(namespace, "")..)
            .take_while(move |(name, _)| name.namespace == namespace)
    }

    fn unreadable_in(&self, namespace: &str) -> Vec<(String, String)> {
        let unreadable = self.unreadable.iter();
        unreadable
            .filter(|(name, _)| name.namespace == namespace)
            .map(|(name, uid)| (uid.clone(), name.name.clone()))
            .collect()
    }
}

/// A kind the index holds.
pub(crate) trait Indexed: Send + Sync + Sized + 'static {
    /// Its shelf.
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self>;
    /// The object's version in the API.
    fn resource_version(&self) -> Option<&str>;
    /// Whether the difference can change what ought to be done; our own status writes do not.
    fn differs(&self, other: &Self) -> bool;
    /// What must be looked at when this object comes, changes or goes.
    fn concerns(&self, name: &ObjectName, shelves: &Shelves) -> Affected;
    /// Notes what the object is found by besides its name.
    fn note(&self, _name: &ObjectName, _lookups: &mut Lookups) {}
    /// Takes back what was noted of it.
    fn forget(&self, _name: &ObjectName, _lookups: &mut Lookups) {}
}

/// Puts an object on its shelf, in the place of the one of its name.
fn put<K: Indexed>(shelves: &mut Shelves, name: &ObjectName, object: Arc<K>) -> Option<Arc<K>> {
    let previous = take::<K>(shelves, name);
    object.note(name, &mut shelves.lookups);
    K::shelf(shelves).objects.insert(name.clone(), object);
    previous
}

fn take<K: Indexed>(shelves: &mut Shelves, name: &ObjectName) -> Option<Arc<K>> {
    let object = K::shelf(shelves).objects.remove(name)?;
    object.forget(name, &mut shelves.lookups);
    Some(object)
}

impl Index {
    /// Takes in an object as a watch shows it.
    pub(crate) fn apply<K: Indexed>(&self, name: &ObjectName, object: K) -> Affected {
        let shelves = &mut *self.write();
        let shelf = K::shelf(shelves);
        shelf.seen = shelf.seen.max(number(object.resource_version()));
        let was_unreadable = shelf.unreadable.remove(name).is_some();
        let known = shelf.objects.get(name);
        if known.is_some_and(|known| newer(&**known, &object)) {
            return Affected::default();
        }
        let object = Arc::new(object);
        match put(shelves, name, object.clone()) {
            Some(previous) if !was_unreadable && !previous.differs(&object) => Affected::default(),
            Some(previous) => join(
                previous.concerns(name, shelves),
                object.concerns(name, shelves),
            ),
            None => object.concerns(name, shelves),
        }
    }

    /// Takes in the answer to a change of ours, unless the object went or was made anew meanwhile.
    pub(crate) fn refresh<K: Indexed + Resource>(&self, name: &ObjectName, object: K) {
        let shelves = &mut *self.write();
        let Some(known) = K::shelf(shelves).objects.get(name) else {
            return;
        };
        if known.meta().uid == object.meta().uid && !newer(&**known, &object) {
            put(shelves, name, Arc::new(object));
        }
    }

    /// Takes in what we have made, unless the watch is past that already and knows better.
    pub(crate) fn created<K: Indexed>(&self, name: &ObjectName, object: K) {
        let shelves = &mut *self.write();
        let shelf = K::shelf(shelves);
        let is_news = number(object.resource_version()) > shelf.seen;
        if is_news && !shelf.objects.contains_key(name) {
            put(shelves, name, Arc::new(object));
        }
    }

    /// Takes in that an object is gone, as its last version shows.
    pub(crate) fn remove<K: Indexed>(&self, name: &ObjectName, version: Option<&str>) -> Affected {
        let shelves = &mut *self.write();
        let shelf = K::shelf(shelves);
        shelf.seen = shelf.seen.max(number(version));
        shelf.unreadable.remove(name);
        let Some(previous) = take::<K>(shelves, name) else {
            return Affected::default();
        };
        previous.concerns(name, shelves)
    }

    /// Takes in that an object is there but does not fit its type: what was known of it stays.
    /// Tells whether that is new.
    pub(crate) fn mark_unreadable<K: Indexed>(&self, name: &ObjectName, uid: String) -> bool {
        let shelves = &mut *self.write();
        let unreadable = &mut K::shelf(shelves).unreadable;
        unreadable.insert(name.clone(), uid).is_none()
    }

    /// Takes in a complete list: whatever is not in it is gone.
    pub(crate) fn retain<K: Indexed>(&self, listed: &BTreeSet<ObjectName>) -> Affected {
        let gone: Vec<ObjectName> = {
            let shelves = &mut *self.write();
            let shelf = K::shelf(shelves);
            let known = shelf.objects.keys().chain(shelf.unreadable.keys());
            known
                .filter(|name| !listed.contains(*name))
                .cloned()
                .collect()
        };
        gone.iter()
            .map(|name| self.remove::<K>(name, None))
            .fold(Affected::default(), join)
    }

    /// The workspace of this name and all that names it, each kind in the order of its names.
    pub(crate) fn members(&self, workspace: &ObjectName) -> Members {
        let shelves = self.read();
        Members {
            workspace: shelves.workspaces.objects.get(workspace).cloned(),
            workspace_is_unreadable: shelves.workspaces.unreadable.contains_key(workspace),
            data_sources: members(&shelves.data_sources, workspace, |object| {
                &object.spec.workspace
            }),
            pipes: members(&shelves.pipes, workspace, |object| &object.spec.workspace),
            access_tokens: members(&shelves.access_tokens, workspace, |object| {
                &object.spec.workspace
            }),
            unreadable_data_sources: shelves.data_sources.unreadable_in(&workspace.namespace),
        }
    }

    pub(crate) fn cluster(&self, name: &ObjectName) -> Option<Arc<ClickHouseCluster>> {
        self.read().clusters.objects.get(name).cloned()
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<NamespaceMeta>> {
        let name = ObjectName::new("", name);
        self.read().namespaces.objects.get(&name).cloned()
    }

    pub(crate) fn token_secret(&self, name: &ObjectName) -> Option<Arc<TokenSecret>> {
        self.read().token_secrets.objects.get(name).cloned()
    }

    pub(crate) fn published_secret(&self, name: &ObjectName) -> Option<Arc<PublishedSecret>> {
        self.read().published_secrets.objects.get(name).cloned()
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
        let shelves = self.read();
        let secrets = shelves.published_secrets.objects.iter();
        secrets
            .filter(|(_, secret)| workspace_of(secret).as_ref() == Some(workspace))
            .map(|(name, secret)| (name.clone(), secret.clone()))
            .collect()
    }

    /// The drops that are still to be done for a workspace of this name, with their clusters.
    pub(crate) fn pending_drops(&self, workspace: &ObjectName) -> Vec<(ObjectName, PendingDrop)> {
        let shelves = self.read();
        let workspace = workspace.to_string();
        let clusters = shelves.clusters.objects.iter();
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

    /// Reads the conditions of every object: for the metric that counts objects by condition.
    pub(crate) fn visit_conditions(&self, mut visit: impl FnMut(&'static str, Conditions<'_>)) {
        let shelves = self.read();
        macro_rules! visit_all {
            ($($shelf:ident: $kind:literal),+) => {$(
                for object in shelves.$shelf.objects.values() {
                    visit($kind, object.status.as_ref().map_or(&[], |status| &status.conditions));
                }
            )+};
        }
        visit_all!(
            clusters: "ClickHouseCluster",
            workspaces: "Workspace",
            data_sources: "DataSource",
            pipes: "Pipe",
            access_tokens: "AccessToken"
        );
    }

    /// Reads the status of every cluster that has one.
    pub(crate) fn visit_clusters(
        &self,
        mut visit: impl FnMut(&ObjectName, &ClickHouseClusterStatus),
    ) {
        for (name, cluster) in &self.read().clusters.objects {
            if let Some(status) = &cluster.status {
                visit(name, status);
            }
        }
    }

    // A panic while the lock is held cannot leave half a change: nothing that is called can panic.
    fn read(&self) -> RwLockReadGuard<'_, Shelves> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shelves> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The conditions in a status.
pub(crate) type Conditions<'a> = &'a [k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition];

fn members<K>(
    shelf: &Shelf<K>,
    workspace: &ObjectName,
    workspace_of: impl Fn(&K) -> &String,
) -> Vec<Arc<K>> {
    shelf
        .in_namespace(&workspace.namespace)
        .filter(|(_, object)| *workspace_of(object) == workspace.name)
        .map(|(_, object)| object.clone())
        .collect()
}

fn workspaces_on(shelves: &Shelves, cluster: &ObjectName) -> BTreeSet<ObjectName> {
    shelves
        .workspaces
        .objects
        .iter()
        .filter(|(_, workspace)| cluster_of(workspace) == *cluster)
        .map(|(name, _)| name.clone())
        .chain(pending_on(shelves, cluster))
        .collect()
}

/// The workspaces of drops that are still to be done on a cluster.
fn pending_on(shelves: &Shelves, cluster: &ObjectName) -> Vec<ObjectName> {
    let cluster = shelves.clusters.objects.get(cluster);
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

/// Whether what is known is newer than what comes. What cannot be compared is taken as it comes.
fn newer<K: Indexed>(known: &K, coming: &K) -> bool {
    let coming = number(coming.resource_version());
    coming > 0 && number(known.resource_version()) > coming
}

/// A resource version as a number: versions of a kind only ever grow. Zero if it is none.
fn number(version: Option<&str>) -> u128 {
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Whether metadata or spec differ in what matters; every change of a spec moves the generation.
fn metadata_differs(left: &ObjectMeta, right: &ObjectMeta) -> bool {
    left.uid != right.uid
        || left.generation != right.generation
        || left.deletion_timestamp != right.deletion_timestamp
        || left.annotations != right.annotations
        || left.labels != right.labels
}

macro_rules! indexed {
    ($kind:ty, $shelf:ident, $concerns:expr) => {
        impl Indexed for $kind {
            fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
                &mut shelves.$shelf
            }
            fn resource_version(&self) -> Option<&str> {
                self.metadata.resource_version.as_deref()
            }
            fn differs(&self, other: &Self) -> bool {
                metadata_differs(self.meta(), other.meta())
            }
            fn concerns(&self, name: &ObjectName, shelves: &Shelves) -> Affected {
                let concerns: fn(&Self, &ObjectName, &Shelves) -> Affected = $concerns;
                concerns(self, name, shelves)
            }
        }
    };
}

indexed!(ClickHouseCluster, clusters, |_, name, shelves| Affected {
    workspaces: workspaces_on(shelves, name),
    clusters: BTreeSet::from([name.clone()]),
});
indexed!(DataSource, data_sources, |object, name, _| {
    Affected::workspace(ObjectName::new(&name.namespace, &object.spec.workspace))
});
indexed!(Pipe, pipes, |object, name, _| {
    Affected::workspace(ObjectName::new(&name.namespace, &object.spec.workspace))
});
indexed!(AccessToken, access_tokens, |object, name, _| {
    Affected::workspace(ObjectName::new(&name.namespace, &object.spec.workspace))
});

impl Indexed for Workspace {
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.workspaces
    }

    fn resource_version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }

    fn differs(&self, other: &Self) -> bool {
        metadata_differs(&self.metadata, &other.metadata)
    }

    fn concerns(&self, name: &ObjectName, _: &Shelves) -> Affected {
        Affected::workspace(name.clone())
    }

    fn note(&self, name: &ObjectName, lookups: &mut Lookups) {
        lookups.note_workspace(self, name);
    }

    fn forget(&self, _: &ObjectName, lookups: &mut Lookups) {
        lookups.forget_workspace(self);
    }
}

impl Indexed for NamespaceMeta {
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.namespaces
    }

    fn resource_version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }

    fn differs(&self, other: &Self) -> bool {
        self.metadata.labels != other.metadata.labels
    }

    fn concerns(&self, name: &ObjectName, shelves: &Shelves) -> Affected {
        let workspaces = shelves.workspaces.in_namespace(&name.name);
        Affected::workspaces(workspaces.map(|(workspace, _)| workspace.clone()))
    }
}

impl Indexed for TokenSecret {
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.token_secrets
    }

    fn resource_version(&self) -> Option<&str> {
        self.resource_version.as_deref()
    }

    fn differs(&self, other: &Self) -> bool {
        (&self.sha256, &self.owners) != (&other.sha256, &other.owners)
    }

    fn concerns(&self, name: &ObjectName, shelves: &Shelves) -> Affected {
        let tokens = shelves.access_tokens.in_namespace(&name.namespace);
        Affected::workspaces(
            tokens
                .filter(|(_, token)| secret_of(token) == *name)
                .map(|(_, token)| ObjectName::new(&name.namespace, &token.spec.workspace)),
        )
    }
}

impl Indexed for PublishedSecret {
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.published_secrets
    }

    fn resource_version(&self) -> Option<&str> {
        self.resource_version.as_deref()
    }

    fn differs(&self, other: &Self) -> bool {
        self.document != other.document
    }

    /// The workspace it is for, and those that have one of its values, too.
    fn concerns(&self, name: &ObjectName, shelves: &Shelves) -> Affected {
        let lookups = &shelves.lookups;
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

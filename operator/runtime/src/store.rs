//! The objects of a kind as watches have shown them and our own writes have changed them, by name.
//!
//! A plain struct that is told what comes and goes. Versions decide which of two is the newer one,
//! so that the answer to a write and the watch may come in any order.

use crate::ObjectName;
use kube::Resource;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a store holds.
pub trait Stored {
    /// The object's version in the API.
    fn resource_version(&self) -> Option<&str>;
    /// Whether the difference can change what ought to be done; our own status writes do not.
    fn differs(&self, other: &Self) -> bool;
}

/// Objects as the API has them: every change of a spec moves the generation.
impl<K: Resource> Stored for K {
    fn resource_version(&self) -> Option<&str> {
        self.meta().resource_version.as_deref()
    }

    fn differs(&self, other: &Self) -> bool {
        let (left, right) = (self.meta(), other.meta());
        left.uid != right.uid
            || left.generation != right.generation
            || left.deletion_timestamp != right.deletion_timestamp
            || left.annotations != right.annotations
            || left.labels != right.labels
    }
}

/// The objects of a kind.
pub struct Store<K> {
    objects: BTreeMap<ObjectName, Arc<K>>,
    /// The newest version that a watch has shown, of any object that came or went.
    seen: u128,
    /// Objects that do not fit the kind's type, with their uids. The last readable one, if any,
    /// stays in `objects`.
    unreadable: BTreeMap<ObjectName, String>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            seen: 0,
            unreadable: BTreeMap::new(),
        }
    }
}

/// What became of an object that was taken in.
pub struct Replaced<K> {
    /// The one of its name before, if there was one.
    pub previous: Option<Arc<K>>,
    /// The one that is there now.
    pub current: Arc<K>,
    /// Whether the difference can change what ought to be done.
    pub matters: bool,
}

impl<K> Store<K> {
    /// The object of this name.
    pub fn get(&self, name: &ObjectName) -> Option<&Arc<K>> {
        self.objects.get(name)
    }

    /// Every object, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectName, &Arc<K>)> {
        self.objects.iter()
    }

    /// The objects of a namespace, in the order of names.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = (&ObjectName, &Arc<K>)> {
        self.objects
            .range(ObjectName::new(namespace, "")..)
            .take_while(move |(name, _)| name.namespace == namespace)
    }

    /// Whether there is an object of this name that does not fit its type.
    pub fn is_unreadable(&self, name: &ObjectName) -> bool {
        self.unreadable.contains_key(name)
    }

    /// The objects of a namespace that do not fit their type, by uid and name.
    pub fn unreadable_in(&self, namespace: &str) -> Vec<(String, String)> {
        let unreadable = self.unreadable.iter();
        unreadable
            .filter(|(name, _)| name.namespace == namespace)
            .map(|(name, uid)| (uid.clone(), name.name.clone()))
            .collect()
    }

    /// Takes in that an object is there but does not fit its type: what was known of it stays.
    /// Tells whether that is new.
    pub fn mark_unreadable(&mut self, name: &ObjectName, uid: String) -> bool {
        self.unreadable.insert(name.clone(), uid).is_none()
    }

    /// The names of which a complete list has no object: whatever is not in it is gone.
    pub fn missing_in(&self, listed: &BTreeSet<ObjectName>) -> Vec<ObjectName> {
        let known = self.objects.keys().chain(self.unreadable.keys());
        known
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect()
    }

    /// Takes in that an object is gone, as its last version shows; gives the last readable one.
    pub fn remove(&mut self, name: &ObjectName, version: Option<&str>) -> Option<Arc<K>> {
        self.seen = self.seen.max(number(version));
        self.unreadable.remove(name);
        self.objects.remove(name)
    }
}

impl<K: Stored> Store<K> {
    /// Takes in an object as a watch shows it; nothing comes of it if a newer one is known.
    pub fn apply(&mut self, name: &ObjectName, object: K) -> Option<Replaced<K>> {
        self.seen = self.seen.max(number(object.resource_version()));
        let was_unreadable = self.unreadable.remove(name).is_some();
        let known = self.objects.get(name);
        if known.is_some_and(|known| newer(&**known, &object)) {
            return None;
        }
        let replaced = self.put(name, object);
        Some(Replaced {
            matters: replaced.matters || was_unreadable,
            ..replaced
        })
    }

    /// Takes in the answer to a change of ours, unless the object went or was made anew meanwhile:
    /// `is_same` tells whether what is known is the object that was changed.
    pub fn refresh(
        &mut self,
        name: &ObjectName,
        object: K,
        is_same: impl Fn(&K, &K) -> bool,
    ) -> Option<Replaced<K>> {
        let known = self.objects.get(name)?;
        let is_news = is_same(known, &object) && !newer(&**known, &object);
        is_news.then(|| self.put(name, object))
    }

    /// Takes in what we have made, unless the watch is past that already and knows better.
    pub fn created(&mut self, name: &ObjectName, object: K) -> Option<Replaced<K>> {
        let is_news = number(object.resource_version()) > self.seen;
        (is_news && !self.objects.contains_key(name)).then(|| self.put(name, object))
    }

    fn put(&mut self, name: &ObjectName, object: K) -> Replaced<K> {
        let current = Arc::new(object);
        let previous = self.objects.insert(name.clone(), current.clone());
        let same = previous.as_ref().is_some_and(|one| !one.differs(&current));
        Replaced {
            previous,
            current,
            matters: !same,
        }
    }
}

/// Whether what is known is newer than what comes. What cannot be compared is taken as it comes.
fn newer<K: Stored>(known: &K, coming: &K) -> bool {
    let coming = number(coming.resource_version());
    coming > 0 && number(known.resource_version()) > coming
}

/// A resource version as a number: versions of a kind only ever grow. Zero if it is none.
fn number(version: Option<&str>) -> u128 {
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

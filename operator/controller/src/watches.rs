//! The watches that feed the [`Index`], and who is asked to look at what they show.

use crate::events::Event;
use crate::index::{Affected, Index, Indexed, NamespaceMeta};
use crate::kinds::with_kinds;
use crate::secrets::{PublishedSecret, TokenSecret};
use aviary_crds::names::{LABEL_PUBLISHED_WORKSPACE, LABEL_ROLE, LABEL_TOKEN};
use aviary_runtime::ObjectName;
use aviary_runtime::dispatch::Requests;
use aviary_runtime::events::EventRecorder;
use aviary_runtime::watch::{Sink, Watches};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

/// Where what the watches see goes.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) index: Arc<Index>,
    pub(crate) events: EventRecorder,
    pub(crate) workspaces: Requests<ObjectName>,
    /// Workspaces again, for what is taken away whatever else they wait for.
    pub(crate) revocations: Requests<ObjectName>,
    pub(crate) clusters: Requests<ObjectName>,
}

/// Starts every watch; they run until the stop.
pub(crate) fn start(
    watches: &Watches,
    client: &Client,
    feed: &Feed,
    own_namespace: &str,
    watched_namespace: Option<&str>,
) {
    let start = Starter {
        watches,
        client,
        feed,
        watched_namespace,
    };
    macro_rules! watch_all {
        ($($store:ident: $kind:ty,)+) => {
            $(start.custom::<$kind>();)+
        };
    }
    with_kinds!(watch_all);
    start.namespaces();
    start.secrets::<TokenSecret>("token secrets", watched_namespace, LABEL_TOKEN);
    start.secrets::<PublishedSecret>(
        "published secrets",
        Some(own_namespace),
        LABEL_PUBLISHED_WORKSPACE,
    );
}

struct Starter<'a> {
    watches: &'a Watches,
    client: &'a Client,
    feed: &'a Feed,
    watched_namespace: Option<&'a str>,
}

impl Starter<'_> {
    /// Watches one of Aviary's kinds. An object that does not fit the kind's type does not end
    /// the watch of all others.
    fn custom<K>(&self)
    where
        K: Indexed + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned,
    {
        let api = self.scoped::<DeserializeGuard<K>>(self.watched_namespace);
        let sink = self.sink(
            |feed: &Feed, name: &ObjectName, guarded: DeserializeGuard<K>| match guarded.0 {
                Ok(object) => feed.index.apply(name, object),
                Err(invalid) => {
                    let uid = invalid.metadata.uid.clone().unwrap_or_default();
                    if feed.index.mark_unreadable::<K>(name, uid) {
                        let reference = reference::<K>(&invalid.metadata);
                        feed.events.publish(&reference, (&Event::Unreadable).into());
                    }
                    Affected::default()
                }
            },
            PhantomData::<K>,
        );
        self.watches
            .start(K::plural(&()), api, Config::default(), sink);
    }

    /// Watches the metadata of namespaces, or of the one. Clusters choose namespaces by labels;
    /// annotations, which change more often, concern nobody.
    fn namespaces(&self) {
        let api = Api::<NamespaceMeta>::all(self.client.clone());
        let config = match self.watched_namespace {
            Some(name) => Config::default().fields(&format!("metadata.name={name}")),
            None => Config::default(),
        };
        let sink = self.sink(
            |feed: &Feed, name: &ObjectName, mut namespace: NamespaceMeta| {
                namespace.metadata.annotations = None;
                feed.index.apply(name, namespace)
            },
            PhantomData::<NamespaceMeta>,
        );
        self.watches.start("namespaces", api, config, sink);
    }

    /// Watches Secrets with this role.
    fn secrets<K>(&self, what: &'static str, namespace: Option<&str>, role: &str)
    where
        K: Indexed + for<'a> From<&'a Secret>,
    {
        let api = self.scoped::<Secret>(namespace);
        let config = Config::default().labels(&format!("{LABEL_ROLE}={role}"));
        let sink = self.sink(
            |feed: &Feed, name: &ObjectName, secret: Secret| {
                feed.index.apply(name, K::from(&secret))
            },
            PhantomData::<K>,
        );
        self.watches.start(what, api, config, sink);
    }

    fn scoped<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn sink<K, Apply>(&self, apply: Apply, kind: PhantomData<K>) -> IndexSink<K, Apply> {
        IndexSink {
            feed: self.feed.clone(),
            apply,
            _kind: kind,
        }
    }
}

/// Takes one kind's objects into the index and asks for what they concern.
struct IndexSink<K, Apply> {
    feed: Feed,
    apply: Apply,
    _kind: PhantomData<K>,
}

impl<K, Object, Apply> Sink<Object> for IndexSink<K, Apply>
where
    K: Indexed,
    Apply: Fn(&Feed, &ObjectName, Object) -> Affected + Send + Sync + 'static,
{
    fn applied(&self, name: &ObjectName, object: Object) {
        self.feed.request((self.apply)(&self.feed, name, object));
    }

    fn deleted(&self, name: &ObjectName, version: Option<&str>) {
        self.feed
            .request(self.feed.index.remove::<K>(name, version));
    }

    fn listed(&self, names: &BTreeSet<ObjectName>) {
        self.feed.request(self.feed.index.retain::<K>(names));
    }
}

impl Feed {
    fn request(&self, affected: Affected) {
        let Affected {
            workspaces,
            clusters,
        } = affected;
        for name in workspaces {
            self.revocations.request(name.clone());
            self.workspaces.request(name);
        }
        for name in clusters {
            self.clusters.request(name);
        }
    }
}

/// A reference for events to an object of which only the metadata can be read.
fn reference<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        ..ObjectReference::default()
    }
}

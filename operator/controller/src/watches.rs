//! The watches that feed the [`Index`], and whether all of them have seen everything once.
//!
//! Nothing is decided before every kind has been listed: a table whose `DataSource` was not seen
//! yet would look as if nobody owned it.

use crate::dispatch::Requests;
use crate::happenings::{Happening, Telemetry};
use crate::index::{Affected, Index, Indexed, NamespaceMeta};
use crate::names::ObjectName;
use crate::secrets::{PublishedSecret, TokenSecret};
use crate::supervision::Supervisor;
use aviary_crds::names::{LABEL_PUBLISHED_WORKSPACE, LABEL_ROLE, LABEL_TOKEN};
use aviary_crds::{AccessToken, ClickHouseCluster, DataSource, Pipe, Workspace};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What watches need to pass on what they see.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) client: Client,
    pub(crate) index: Arc<Index>,
    pub(crate) telemetry: Telemetry,
    pub(crate) workspaces: Requests<ObjectName>,
    /// Workspaces again, for what is taken away whatever else they wait for.
    pub(crate) revocations: Requests<ObjectName>,
    pub(crate) clusters: Requests<ObjectName>,
    pub(crate) progress: Progress,
    pub(crate) supervisor: Supervisor,
    pub(crate) stop: CancellationToken,
}

/// Which watches have not seen everything yet, and why.
#[derive(Clone)]
pub(crate) struct Progress(Arc<watch::Sender<BTreeMap<&'static str, String>>>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }

    /// What is waited for: the plural of a kind, and why.
    pub(crate) fn pending(&self) -> BTreeMap<&'static str, String> {
        self.0.borrow().clone()
    }

    /// Waits until every watch that was begun has seen everything.
    pub(crate) async fn complete(&self) {
        let _ = self.0.subscribe().wait_for(BTreeMap::is_empty).await;
    }

    fn waits(&self, what: &'static str, why: String) {
        self.0.send_modify(|pending| {
            pending.insert(what, why);
        });
    }

    /// Records a failure of a watch that has not seen everything yet.
    fn fails(&self, what: &'static str, why: &str) {
        self.0
            .send_if_modified(|pending| match pending.get_mut(what) {
                Some(entry) => {
                    why.clone_into(entry);
                    true
                }
                None => false,
            });
    }

    fn synced(&self, what: &'static str) {
        self.0
            .send_if_modified(|pending| pending.remove(what).is_some());
    }
}

impl Watches {
    /// Starts every watch; they run until the stop.
    pub(crate) fn start(&self, own_namespace: &str, watched_namespace: Option<&str>) {
        self.custom::<ClickHouseCluster>("clickhouseclusters", watched_namespace);
        self.custom::<Workspace>("workspaces", watched_namespace);
        self.custom::<DataSource>("datasources", watched_namespace);
        self.custom::<Pipe>("pipes", watched_namespace);
        self.custom::<AccessToken>("accesstokens", watched_namespace);
        self.namespaces(watched_namespace);
        self.secrets::<TokenSecret>("token secrets", watched_namespace, LABEL_TOKEN);
        self.secrets::<PublishedSecret>(
            "published secrets",
            Some(own_namespace),
            LABEL_PUBLISHED_WORKSPACE,
        );
    }

    /// Watches one of Aviary's kinds. An object that does not fit the kind's type does not end
    /// the watch of all others.
    fn custom<K>(&self, what: &'static str, namespace: Option<&str>)
    where
        K: Indexed + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned,
    {
        let api = scoped::<DeserializeGuard<K>>(self.client.clone(), namespace);
        let watches = self.clone();
        let apply = move |name: &ObjectName, guarded: DeserializeGuard<K>| match guarded.0 {
            Ok(object) => watches.index.apply(name, object),
            Err(invalid) => {
                let uid = invalid.metadata.uid.clone().unwrap_or_default();
                if watches.index.mark_unreadable::<K>(name, uid) {
                    let reference = reference::<K>(&invalid.metadata);
                    watches.telemetry.emit(&reference, &Happening::Unreadable);
                }
                Affected::default()
            }
        };
        self.spawn::<K, _>(what, api, watcher::Config::default(), apply);
    }

    /// Watches the metadata of namespaces, or of the one.
    fn namespaces(&self, only: Option<&str>) {
        let api = Api::<NamespaceMeta>::all(self.client.clone());
        let config = watcher::Config::default();
        let config = match only {
            Some(name) => config.fields(&format!("metadata.name={name}")),
            None => config,
        };
        let index = self.index.clone();
        let apply = move |name: &ObjectName, namespace| index.apply(name, namespace);
        self.spawn::<NamespaceMeta, _>("namespaces", api, config, apply);
    }

    /// Watches Secrets with this role.
    fn secrets<K>(&self, what: &'static str, namespace: Option<&str>, role: &str)
    where
        K: Indexed + for<'a> From<&'a Secret>,
    {
        let api = scoped::<Secret>(self.client.clone(), namespace);
        let config = watcher::Config::default().labels(&format!("{LABEL_ROLE}={role}"));
        let index = self.index.clone();
        let apply = move |name: &ObjectName, secret: Secret| index.apply(name, K::from(&secret));
        self.spawn::<K, _>(what, api, config, apply);
    }

    fn spawn<K, Object>(
        &self,
        what: &'static str,
        api: Api<Object>,
        config: watcher::Config,
        apply: impl Fn(&ObjectName, Object) -> Affected + Send + Sync + 'static,
    ) where
        K: Indexed,
        Object: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        self.progress.waits(what, "not listed yet".to_owned());
        let watches = self.clone();
        tokio::spawn(async move {
            let stop = watches.stop.clone();
            let follow = || watches.follow::<K, _>(what, api.clone(), config.clone(), &apply);
            let followed = watches.supervisor.keep_running("watch", follow);
            stop.run_until_cancelled(followed).await
        });
    }

    async fn follow<K, Object>(
        &self,
        what: &'static str,
        api: Api<Object>,
        config: watcher::Config,
        apply: impl Fn(&ObjectName, Object) -> Affected,
    ) where
        K: Indexed,
        Object: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let mut events = pin!(watcher(api, config));
        let mut listed = BTreeSet::new();
        let mut pauses = Pauses::default();
        let mut told = None;
        while let Some(event) = events.next().await {
            if !matches!(event, Err(_) | Ok(Event::Init)) {
                (pauses, told) = (Pauses::default(), None);
            }
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    let name = ObjectName::of(&object);
                    self.request(apply(&name, slim(object)));
                    listed.insert(name);
                }
                Ok(Event::InitDone) => {
                    self.request(self.index.retain::<K>(&std::mem::take(&mut listed)));
                    self.progress.synced(what);
                }
                Ok(Event::Apply(object)) => {
                    let name = ObjectName::of(&object);
                    self.request(apply(&name, slim(object)));
                }
                Ok(Event::Delete(object)) => {
                    let version = object.meta().resource_version.as_deref();
                    self.request(self.index.remove::<K>(&ObjectName::of(&object), version));
                }
                Err(error) => {
                    let problem = explain(&error);
                    self.progress.fails(what, &problem);
                    if told.as_ref() != Some(&problem) {
                        tracing::warn!(what, problem, "cannot watch yet, trying again");
                        told = Some(problem);
                    }
                    tokio::time::sleep(pauses.next()).await;
                }
            }
        }
    }

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

fn scoped<K>(client: Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
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

/// Drops what nobody here reads and what would double the memory an object takes.
fn slim<K: Resource>(mut object: K) -> K {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    object
}

/// Pauses between attempts to watch: from a fifth of a second, doubling, to ten seconds. A watch
/// begins with an event of its own, before anything was asked, so only what was seen ends them.
#[derive(Default)]
struct Pauses(u32);

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(200 << self.0.min(6)).min(Duration::from_secs(10));
        self.0 += 1;
        pause.mul_f64(rand::random_range(0.8..1.2))
    }
}

/// A watch's error in words; a kind without a definition is by far the most likely at the start.
fn explain(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            "its custom resource definition is not installed".to_owned()
        }
        other => other.to_string(),
    }
}

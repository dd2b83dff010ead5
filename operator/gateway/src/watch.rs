//! Feeds the index from Kubernetes: what the operator has published, and the
//! Secrets that say who may do what. Specs are never looked at.

use crate::index::{Index, Kind, Object, ObjectKey, Published};
use aviary_crds::published::WorkspaceAccess;
use aviary_crds::{DataSource, Pipe, Workspace, names};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Feeds the index for as long as the process lives. `listed` is told when every
/// kind was listed once.
pub(crate) async fn feed(
    client: Client,
    namespace: &str,
    index: Arc<Index>,
    listed: impl FnOnce(),
) {
    let selector = format!("{}={}", names::LABEL_ROLE, names::LABEL_PUBLISHED_WORKSPACE);
    let secrets = Config::default().labels(&selector);
    let all = Config::default;
    let (workspaces, workspaces_listed) = Feed::new(Kind::Workspace, &index, published_workspace);
    let (data_sources, data_sources_listed) =
        Feed::new(Kind::DataSource, &index, published_data_source);
    let (pipes, pipes_listed) = Feed::new(Kind::Pipe, &index, published_pipe);
    let (access, access_listed) = Feed::new(Kind::Access, &index, published_access);
    let complete = async {
        let lists = futures::future::join4(
            workspaces_listed,
            data_sources_listed,
            pipes_listed,
            access_listed,
        );
        // A sender is dropped only when its feed ends, which it does not.
        let _ = lists.await;
        listed();
    };
    futures::join!(
        complete,
        workspaces.run(Api::all(client.clone()), all()),
        data_sources.run(Api::all(client.clone()), all()),
        pipes.run(Api::all(client.clone()), all()),
        access.run(Api::namespaced(client, namespace), secrets),
    );
}

/// What an object publishes; nothing when it does not, and the reason when it cannot be read.
type Read<K> = fn(&K) -> Result<Option<Published>, serde_json::Error>;

/// Feeds the objects of one kind.
struct Feed<K> {
    kind: Kind,
    index: Arc<Index>,
    read: Read<K>,
    listed: Option<oneshot::Sender<()>>,
    /// What a list has brought so far.
    found: Vec<Object>,
    unreadable: Vec<ObjectKey>,
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    fn new(kind: Kind, index: &Arc<Index>, read: Read<K>) -> (Self, oneshot::Receiver<()>) {
        let (sender, listed) = oneshot::channel();
        let feed = Self {
            kind,
            index: Arc::clone(index),
            read,
            listed: Some(sender),
            found: Vec::new(),
            unreadable: Vec::new(),
        };
        (feed, listed)
    }

    async fn run(mut self, api: Api<DeserializeGuard<K>>, config: Config) {
        let mut events = watcher(api, config).default_backoff().boxed();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.take(event),
                Ok(None) => return,
                Err(error) => tracing::warn!(kind = ?self.kind, %error, "watch is interrupted"),
            }
        }
    }

    fn take(&mut self, event: Event<DeserializeGuard<K>>) {
        match event {
            Event::Init => {
                self.found.clear();
                self.unreadable.clear();
            }
            Event::InitApply(object) => match self.read(&object) {
                Ok(Some(object)) => self.found.push(object),
                Ok(None) => {}
                Err(key) => self.unreadable.push(key),
            },
            Event::InitDone => {
                let found = std::mem::take(&mut self.found);
                self.index.replace(self.kind, found, &self.unreadable);
                if let Some(listed) = self.listed.take() {
                    // Nobody listens when the gateway is ending.
                    let _ = listed.send(());
                }
            }
            Event::Apply(object) => match self.read(&object) {
                Ok(Some(object)) => self.index.apply(object),
                Ok(None) => self.index.delete(&self.key(&object)),
                // What was served before stays.
                Err(_unreadable) => {}
            },
            Event::Delete(object) => self.index.delete(&self.key(&object)),
        }
    }

    fn read(&self, object: &DeserializeGuard<K>) -> Result<Option<Object>, ObjectKey> {
        let key = self.key(object);
        let readable = object.0.as_ref().map_err(|invalid| invalid.error.clone());
        let published =
            readable.and_then(|object| (self.read)(object).map_err(|error| error.to_string()));
        match published {
            Ok(published) => Ok(published.map(|published| Object {
                age: age(object),
                key,
                published,
            })),
            Err(error) => {
                // The error of a Secret could repeat some of it.
                let error = if self.kind == Kind::Access {
                    "it is not what the operator writes"
                } else {
                    &error
                };
                tracing::warn!(kind = ?self.kind, namespace = key.namespace, name = key.name, error, "object is not understood");
                Err(key)
            }
        }
    }

    fn key(&self, object: &DeserializeGuard<K>) -> ObjectKey {
        ObjectKey {
            kind: self.kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

fn age<K: Resource>(object: &DeserializeGuard<K>) -> (i64, String) {
    let created = object
        .meta()
        .creation_timestamp
        .as_ref()
        .map_or(0, |time| time.0.as_second());
    (created, object.uid().unwrap_or_default())
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "all kinds are read by one type of function"
)]
fn published_workspace(object: &Workspace) -> Result<Option<Published>, serde_json::Error> {
    let status = object.status.as_ref();
    Ok(status
        .and_then(|status| status.published.clone())
        .map(Published::Workspace))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "all kinds are read by one type of function"
)]
fn published_data_source(object: &DataSource) -> Result<Option<Published>, serde_json::Error> {
    let published = object
        .status
        .as_ref()
        .and_then(|status| status.published.clone());
    Ok(published.map(|published| Published::DataSource(object.spec.workspace.clone(), published)))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "all kinds are read by one type of function"
)]
fn published_pipe(object: &Pipe) -> Result<Option<Published>, serde_json::Error> {
    let published = object
        .status
        .as_ref()
        .and_then(|status| status.published.clone());
    Ok(published.map(|published| Published::Pipe(object.spec.workspace.clone(), published)))
}

fn published_access(object: &Secret) -> Result<Option<Published>, serde_json::Error> {
    let document = object
        .data
        .as_ref()
        .and_then(|data| data.get(names::PUBLISHED_SECRET_KEY));
    let Some(document) = document else {
        return Ok(None);
    };
    serde_json::from_slice::<WorkspaceAccess>(&document.0)
        .map(|access| Some(Published::Access(access)))
}

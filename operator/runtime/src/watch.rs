//! Watches: what they see goes to a sink each, and whether all of them have seen everything once.
//!
//! Nothing should be decided before every kind has been listed: what was not seen yet would look
//! as if it were not there.

use crate::ObjectName;
use crate::supervision::Supervisor;
use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Takes in what one watch sees.
pub trait Sink<K>: Send + Sync + 'static {
    /// An object came or changed.
    fn applied(&self, name: &ObjectName, object: K);
    /// An object went; its last version shows when.
    fn deleted(&self, name: &ObjectName, version: Option<&str>);
    /// These are all there are.
    fn listed(&self, names: &BTreeSet<ObjectName>);
}

/// Which watches have not seen everything yet, and why.
#[derive(Clone, Default)]
pub struct Progress(Arc<watch::Sender<BTreeMap<Cow<'static, str>, String>>>);

impl Progress {
    /// What is waited for: the plural of a kind, and why.
    pub fn pending(&self) -> BTreeMap<Cow<'static, str>, String> {
        self.0.borrow().clone()
    }

    /// Waits until every watch that was begun has seen everything.
    pub async fn complete(&self) {
        let _ = self.0.subscribe().wait_for(BTreeMap::is_empty).await;
    }

    fn waits(&self, what: Cow<'static, str>, why: String) {
        self.0.send_modify(|pending| {
            pending.insert(what, why);
        });
    }

    /// Records a failure of a watch that has not seen everything yet.
    fn fails(&self, what: &str, why: &str) {
        self.0
            .send_if_modified(|pending| match pending.get_mut(what) {
                Some(entry) => {
                    why.clone_into(entry);
                    true
                }
                None => false,
            });
    }

    fn synced(&self, what: &str) {
        self.0
            .send_if_modified(|pending| pending.remove(what).is_some());
    }
}

/// What every watch runs with.
#[derive(Clone)]
pub struct Watches {
    /// Where it is told what was listed.
    pub progress: Progress,
    /// Restarts a watch that panics.
    pub supervisor: Supervisor,
    /// Ends all watches.
    pub stop: CancellationToken,
}

impl Watches {
    /// Starts a watch of `what`, which runs until the stop.
    pub fn start<K>(
        &self,
        what: impl Into<Cow<'static, str>>,
        api: Api<K>,
        config: watcher::Config,
        sink: impl Sink<K>,
    ) where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let what = what.into();
        self.progress
            .waits(what.clone(), "not listed yet".to_owned());
        let watches = self.clone();
        tokio::spawn(async move {
            let follow = || follow(&what, api.clone(), config.clone(), &sink, &watches.progress);
            let followed = watches.supervisor.keep_running("watch", follow);
            watches.stop.run_until_cancelled(followed).await
        });
    }
}

async fn follow<K>(
    what: &str,
    api: Api<K>,
    config: watcher::Config,
    sink: &impl Sink<K>,
    progress: &Progress,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
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
                sink.applied(&name, slim(object));
                listed.insert(name);
            }
            Ok(Event::InitDone) => {
                sink.listed(&std::mem::take(&mut listed));
                progress.synced(what);
            }
            Ok(Event::Apply(object)) => {
                let name = ObjectName::of(&object);
                sink.applied(&name, slim(object));
            }
            Ok(Event::Delete(object)) => {
                let version = object.meta().resource_version.as_deref();
                sink.deleted(&ObjectName::of(&object), version);
            }
            Err(error) => {
                let problem = explain(&error);
                progress.fails(what, &problem);
                if told.as_ref() != Some(&problem) {
                    tracing::warn!(what, problem, "cannot watch yet, trying again");
                    told = Some(problem);
                }
                tokio::time::sleep(pauses.next()).await;
            }
        }
    }
}

/// Drops what nobody reads and what would double the memory an object takes.
fn slim<K: Resource>(mut object: K) -> K {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    object
}

/// Pauses between attempts to watch: from a fifth of a second, doubling, to ten seconds. A watch
/// begins with an event of its own, before anything was asked, so only what was seen ends them;
/// kube's own back-off ends with any event.
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

//! The end of objects whose data goes with them. Each is let go when its data is dropped, or is not
//! its own; and after a short while also when it cannot be dropped: then the consent is written down
//! in the status of the cluster, and carried out when that is possible.

use crate::events::Event;
use crate::index::cluster_of;
use crate::kubernetes::{Kubernetes, Reported};
use crate::workspace::finalizers::{is_held, let_go};
use crate::workspace::findings::Fault;
use crate::workspace::pending::{self, Changes};
use crate::workspace::replicas::OnReplica;
use aviary_crds::clickhouse_cluster::PendingDrop;
use aviary_crds::conditions::Reason;
use aviary_crds::names::{DATA_SOURCE_FINALIZER, WORKSPACE_FINALIZER, default_database};
use aviary_crds::{DataSource, Workspace};
use aviary_runtime::ObjectName;
use aviary_runtime::events::EventRecorder;
use aviary_runtime::kubernetes::KubernetesError;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use std::sync::Arc;

/// How long a deletion waits for ClickHouse to be there: long enough for one that is busy or
/// restarts, and short enough for a namespace to wait.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// What became of the data.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It is gone from every replica.
    Gone,
    /// It stays as it is, since nothing may be done about it.
    Left(String),
    /// It could not be dropped everywhere yet.
    NotYet(Fault),
}

/// Where the data is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) workspace: ObjectName,
    pub(crate) cluster: ObjectName,
    pub(crate) database: String,
}

impl Place {
    /// Where a workspace that is there has its data.
    pub(crate) fn of(workspace: &Workspace) -> Self {
        let name = ObjectName::of(workspace);
        let database = workspace.spec.database.clone();
        Self {
            cluster: cluster_of(workspace),
            database: database.unwrap_or_else(|| default_database(&name.namespace, &name.name)),
            workspace: name,
        }
    }
}

/// Who is to be let go.
#[derive(Clone, Copy, Default)]
pub(crate) struct Leaving<'a> {
    pub(crate) workspace: Option<&'a Arc<Workspace>>,
    pub(crate) data_sources: &'a [Arc<DataSource>],
}

/// What became of the data of one who consented.
pub(crate) fn fate(owner: &str, replicas: &[OnReplica]) -> Fate {
    for replica in replicas {
        let fault = match &replica.work {
            Ok(work) => {
                let failures = work.failures.iter();
                let mut his = failures.filter(|it| it.consented_by.as_deref() == Some(owner));
                his.next().map(|failed| &failed.fault)
            }
            Err(fault) => Some(fault),
        };
        if let Some(Fault { reason, message }) = fault {
            let message = format!("replica `{}`: {message}", replica.name);
            return Fate::NotYet(Fault::new(*reason, message));
        }
    }
    Fate::Gone
}

/// Lets go who has not to wait any longer, and brings those entries of the list of what is pending
/// up to date that this concerns. Tells whether something is still to be done.
pub(crate) async fn conclude(
    kubernetes: &Kubernetes,
    events: &EventRecorder,
    place: &Place,
    leaving: Leaving<'_>,
    concerns: impl Fn(&PendingDrop) -> bool,
    fate: impl Fn(&str) -> Fate,
) -> Result<bool, KubernetesError> {
    let cluster = kubernetes.index().cluster(&place.cluster);
    let mut known = pending::pending(cluster.as_deref(), &place.workspace);
    known.retain(concerns);
    let mut changes = Changes::default();
    let mut waits = false;
    let mut part = |uid: &str, metadata: &ObjectMeta, record: &dyn Fn(&str) -> PendingDrop| {
        known.retain(|one| one.owner_uid != uid);
        match fate(uid) {
            Fate::NotYet(fault) => {
                waits = true;
                let is_over = is_over(metadata, &fault, Timestamp::now());
                if is_over {
                    changes.written.push(record(&fault.message));
                }
                is_over
            }
            Fate::Gone | Fate::Left(_) => {
                changes.struck.insert(uid.to_owned());
                true
            }
        }
    };
    let database = place.database.as_str();
    let workspace = leaving.workspace;
    let workspace = workspace.filter(|it| is_leaving(&***it, WORKSPACE_FINALIZER));
    let workspace = workspace.filter(|it| {
        let record = |why: &str| pending::of_workspace(it, database, why);
        part(it.uid().unwrap_or_default().as_str(), &it.metadata, &record)
    });
    let sources = leaving.data_sources.iter();
    let leaving = sources.filter(|it| is_leaving(&***it, DATA_SOURCE_FINALIZER));
    let leaving: Vec<&Arc<DataSource>> = leaving
        .filter(|it| {
            let record = |why: &str| pending::of_data_source(it, database, why);
            part(it.uid().unwrap_or_default().as_str(), &it.metadata, &record)
        })
        .collect();
    for mut drop in known {
        match fate(&drop.owner_uid) {
            Fate::NotYet(fault) => {
                waits = true;
                drop.why = fault.message;
                changes.written.push(drop);
            }
            Fate::Gone | Fate::Left(_) => {
                changes.struck.insert(drop.owner_uid);
            }
        }
    }
    // What is not written down must not go yet.
    let lost = pending::amend(kubernetes, &place.cluster, changes).await?;
    tell_of_left(events, workspace, &leaving, &lost, &fate);
    let sources = leaving
        .iter()
        .map(|source| let_go(kubernetes, &***source, DATA_SOURCE_FINALIZER));
    let sources = join_all(sources).await;
    let mut let_go_all: Result<(), KubernetesError> = sources.into_iter().collect();
    if let Some(workspace) = workspace {
        let gone = let_go(kubernetes, &**workspace, WORKSPACE_FINALIZER).await;
        let_go_all = let_go_all.and(gone);
    }
    let_go_all.map(|()| waits)
}

fn is_leaving<K: Reported>(object: &K, finalizer: &str) -> bool {
    object.meta().deletion_timestamp.is_some() && is_held(object, finalizer)
}

/// Whether a deletion has waited long enough. What ClickHouse refuses does not get better by that.
fn is_over(metadata: &ObjectMeta, fault: &Fault, now: Timestamp) -> bool {
    let deleted = metadata.deletion_timestamp.as_ref();
    let waited = deleted.map(|deleted| now.duration_since(deleted.0));
    fault.reason == Reason::ClickHouseRefused || waited.is_none_or(|waited| waited > PATIENCE)
}

/// Tells of data that stays although its owner wanted it dropped, and that nobody will drop.
fn tell_of_left(
    events: &EventRecorder,
    workspace: Option<&Arc<Workspace>>,
    sources: &[&Arc<DataSource>],
    lost: &[PendingDrop],
    fate: &impl Fn(&str) -> Fate,
) {
    let why_left = |uid: &str| {
        let lost = lost.iter().find(|one| one.owner_uid == uid);
        match (fate(uid), lost) {
            (Fate::Left(why), _) => Some(why),
            (Fate::NotYet(fault), Some(_)) => Some(fault.message),
            (Fate::Gone | Fate::NotYet(_), _) => None,
        }
    };
    let tell = |reference, uid: Option<String>, what: &str| {
        if let Some(why) = why_left(&uid.unwrap_or_default()) {
            let what = format!("{what} left as it is, although it was to be dropped: {why}");
            events.publish(&reference, (&Event::Released { what }).into());
        }
    };
    if let Some(workspace) = workspace {
        let what = format!("the database `{}` is", Place::of(workspace).database);
        tell(workspace.object_ref(&()), workspace.uid(), &what);
    }
    for source in sources {
        tell(source.object_ref(&()), source.uid(), "the table is");
    }
}

//! The reconcile of a workspace and everything that names it: observe, plan, execute, report.

mod access;
mod agenda;
mod checks;
mod endpoints;
mod events;
mod farewell;
mod findings;
mod holding;
mod issuing;
mod orphans;
mod pending;
mod placement;
mod release;
mod replicas;
mod report;
#[cfg(test)]
mod tests;
mod token_faults;

pub(crate) use access::revoke;
pub(crate) use checks::Checker;
pub(crate) use issuing::Issuer;

use crate::cluster::{ConnectError, Connected};
use crate::context::Context;
use crate::index::Members;
use access::{admit, password_sha256};
use aviary_crds::clickhouse_cluster::PendingDrop;
use aviary_crds::conditions::{ConditionType, Finding, Reason, merge};
use aviary_crds::names::ANNOTATION_PAUSED;
use aviary_crds::published::WorkspaceAccess;
use aviary_crds::{Workspace, WorkspaceStatus};
use aviary_plan::catalog::Sha256;
use aviary_plan::{
    Consent, CredentialHashes, LastPublished, ObjectKey, Rejection, Scope, WorkspaceModel,
    WorkspaceObjects, model,
};
use aviary_runtime::ObjectName;
use aviary_runtime::kubernetes::KubernetesError;
use aviary_runtime::queue::Next;
use checks::Desk;
use endpoints::{Checks, Standing, stand};
use farewell::{Fate, Leaving, Place};
use findings::{Fault, InClickHouse, waits_for_a_person};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use placement::{Placement, place};
use replicas::{OnReplica, Wish, converge, in_clickhouse, left_over, refusals};
use report::{Report, report};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One pass over a workspace.
pub(crate) async fn reconcile(
    context: &Context,
    name: &ObjectName,
) -> Result<Next, KubernetesError> {
    // An object that takes no finalizer keeps its data, and nobody else from being looked at.
    let held = holding::hold(context, &context.index.members(name)).await;
    let next = look_at(context, name, context.index.members(name)).await?;
    held.map(|()| next)
}

async fn look_at(
    context: &Context,
    name: &ObjectName,
    members: Members,
) -> Result<Next, KubernetesError> {
    let Some(workspace) = members.workspace.clone() else {
        // It is there: what is live stays live.
        if members.workspace_is_unreadable {
            return Ok(Next::Forget);
        }
        let reported = orphans::report(context, name, &members).await;
        let next = release::release_gone(context, name, &members).await?;
        return reported.map(|()| next);
    };
    if workspace.metadata.deletion_timestamp.is_some() {
        // What it says now is not known where it cannot be read.
        if members.workspace_is_unreadable {
            return Ok(Next::Forget);
        }
        return release::release(context, &workspace, &members).await;
    }
    if is_paused(&workspace.metadata) {
        pause(context, &workspace, None).await?;
        let paused = Fault::new(Reason::Paused, "the workspace is paused");
        let fate = |_: &str| Fate::NotYet(paused.clone());
        let waits = part(context, &workspace, &members, fate).await?;
        return Ok(if waits {
            Next::Retry
        } else {
            Next::After(context.resync_interval)
        });
    }
    match pass(context, workspace, members).await? {
        Some(pass) => pass.conclude(context).await,
        None => Ok(Next::After(context.resync_interval)),
    }
}

/// Lets data sources of a workspace go that are being deleted. Tells whether one has to wait.
async fn part(
    context: &Context,
    workspace: &Workspace,
    members: &Members,
    fate: impl Fn(&str) -> Fate,
) -> Result<bool, KubernetesError> {
    let place = Place::of(workspace);
    let leaving = Leaving {
        data_sources: &members.data_sources,
        ..Leaving::default()
    };
    let concerns = |drop: &PendingDrop| drop.table.is_some();
    farewell::conclude(context, &place, leaving, concerns, fate).await
}

/// What a pass found out.
struct Pass {
    workspace: Arc<Workspace>,
    members: Members,
    model: WorkspaceModel,
    rejections: BTreeMap<ObjectKey, Fault>,
    tokens_are_given_out: bool,
    outcomes: Vec<OnReplica>,
    in_clickhouse: BTreeMap<ObjectKey, InClickHouse>,
    pipe_standings: BTreeMap<ObjectKey, Standing>,
}

/// The pass, or nothing if the cluster is paused or the workspace changed meanwhile.
async fn pass(
    context: &Context,
    workspace: Arc<Workspace>,
    members: Members,
) -> Result<Option<Pass>, KubernetesError> {
    let model = model_of(context, &workspace, &members);
    let mut pass = Pass {
        rejections: BTreeMap::new(),
        workspace,
        members,
        model,
        tokens_are_given_out: false,
        outcomes: Vec::new(),
        in_clickhouse: BTreeMap::new(),
        pipe_standings: BTreeMap::new(),
    };
    pass.reject(pass.model.rejections.clone());
    // Before anything that can fail: a token that was deleted must not open anything, wherever
    // the workspace is or is not.
    let tokens = &pass.members.access_tokens;
    let admitted = admit(context, &pass.workspace, &pass.model, tokens).await?;
    pass.tokens_are_given_out = true;
    pass.reject(admitted.rejections);
    let (cluster_name, cluster) = match place(context, &pass.workspace) {
        Placement::On(name, cluster) => (name, cluster),
        Placement::Refused { reason, message } => {
            pass.refuse(Fault::new(reason, message));
            return Ok(Some(pass));
        }
    };
    if is_paused(&cluster.metadata) {
        pause(context, &pass.workspace, Some(&cluster_name)).await?;
        let paused = Fault::new(Reason::Paused, "the cluster is paused");
        let fate = |_: &str| Fate::NotYet(paused.clone());
        part(context, &pass.workspace, &pass.members, fate).await?;
        return Ok(None);
    }
    let replicas = match context.fleet.connect(&cluster_name, &cluster).await {
        Ok(replicas) => replicas,
        Err(ConnectError::Kubernetes(error)) => return Err(error),
        Err(error) => {
            let reason = error.reason().unwrap_or(Reason::Unknown);
            let message = format!("ClickHouseCluster `{cluster_name}`: {error}");
            pass.refuse(Fault::new(reason, message));
            return Ok(Some(pass));
        }
    };
    // The turn is for work on ClickHouse: neither Secrets nor statuses are written in it.
    let name = ObjectName::of(&*pass.workspace);
    let work = async {
        // What was read before the wait may be old; the change has asked for the pass after this one.
        let is_current = same(&pass.members, &context.index.members(&name));
        if is_current {
            pass.execute(context, &cluster_name, &replicas, &admitted.access)
                .await;
        }
        is_current
    };
    if !context.fleet.in_turn(&cluster_name, work).await {
        return Ok(None);
    }
    pass.look_at_pipes(context, &cluster_name, &replicas, &admitted.access)
        .await;
    Ok(Some(pass))
}

/// Whether these are the same objects with the same specs.
fn same(before: &Members, now: &Members) -> bool {
    fn alike<K: Resource>(before: &[Arc<K>], now: &[Arc<K>]) -> bool {
        let facts = |one: &Arc<K>| {
            let meta = one.meta();
            (
                meta.uid.clone(),
                meta.generation,
                meta.deletion_timestamp.clone(),
                meta.annotations.clone(),
            )
        };
        before.iter().map(facts).eq(now.iter().map(facts))
    }
    alike(before.workspace.as_slice(), now.workspace.as_slice())
        && alike(&before.data_sources, &now.data_sources)
        && alike(&before.pipes, &now.pipes)
        && alike(&before.access_tokens, &now.access_tokens)
}

impl Pass {
    /// The workspace as a whole cannot be worked on.
    fn refuse(&mut self, fault: Fault) {
        self.rejections.insert(ObjectKey::Workspace, fault);
    }

    /// Objects of it cannot.
    fn reject(&mut self, rejections: Vec<Rejection>) {
        for one in rejections {
            let fault = Fault::new(one.reason, one.message);
            self.rejections.insert(one.object, fault);
        }
    }

    async fn execute(
        &mut self,
        context: &Context,
        cluster: &ObjectName,
        replicas: &[Connected],
        access: &WorkspaceAccess,
    ) {
        let hash = |user| Sha256::new(password_sha256(user));
        let (Some(reader_sha256), Some(writer_sha256)) =
            (hash(&access.reader), hash(&access.writer))
        else {
            return;
        };
        let mut circumstances = self.model.circumstances();
        circumstances.credentials_refused = self.desk(context).reader_is_refused();
        let name = ObjectName::of(&*self.workspace);
        let pending = pending::pending(context.index.cluster(cluster).as_deref(), &name);
        let recorded = pending.iter().map(Consent::recorded);
        circumstances.consents.extend(recorded);
        let wish = Wish {
            model: &self.model,
            credentials: &CredentialHashes {
                reader_sha256,
                writer_sha256,
            },
            circumstances,
            served_from: served_from(&self.workspace),
        };
        self.outcomes = converge(context, replicas, &wish).await;
        self.rejections.extend(refusals(&self.outcomes));
        if self.rejections.contains_key(&ObjectKey::Workspace) {
            return;
        }
        let sources = self.model.data_sources.iter();
        let objects = sources.map(|source| ObjectKey::DataSource(source.object.clone()));
        for object in objects.chain([ObjectKey::Workspace]) {
            let found = in_clickhouse(&object, &self.outcomes);
            self.in_clickhouse.insert(object, found);
        }
    }

    async fn look_at_pipes(
        &mut self,
        context: &Context,
        cluster: &ObjectName,
        replicas: &[Connected],
        access: &WorkspaceAccess,
    ) {
        if self.rejections.contains_key(&ObjectKey::Workspace) {
            return;
        }
        let checks = Checks {
            model: &self.model,
            pipes: &self.members.pipes,
            replicas,
            outcomes: &self.outcomes,
            reader: &access.reader,
            lacking: &self.lacking(),
            lanes: context.fleet.lanes(cluster),
        };
        self.pipe_standings = stand(&checks, &self.desk(context)).await;
    }

    fn desk(&self, context: &Context) -> Arc<Desk> {
        let name = ObjectName::of(&*self.workspace);
        context.checker.desk(&self.model.uid, &name)
    }

    /// Data sources, by name in SQL, of which no replica has anything.
    fn lacking(&self) -> BTreeMap<String, Fault> {
        let is_live = |name: &str| {
            let object = self
                .members
                .data_sources
                .iter()
                .find(|object| object.metadata.name.as_deref() == Some(name));
            let status = object.and_then(|object| object.status.as_ref());
            status.is_some_and(|status| status.published.is_some())
        };
        let mut lacking = BTreeMap::new();
        for source in &self.model.data_sources {
            let key = ObjectKey::DataSource(source.object.clone());
            let failed = self
                .in_clickhouse
                .get(&key)
                .filter(|found| !found.somewhere);
            let failure = failed
                .and_then(|found| found.failures.values().chain(found.absent.values()).next());
            let fault = self.rejections.get(&key).or(failure);
            if let Some(fault) = fault.filter(|_| !is_live(&source.object)) {
                lacking.insert(source.name.clone(), fault.clone());
            }
        }
        lacking
    }

    async fn conclude(self, context: &Context) -> Result<Next, KubernetesError> {
        self.log();
        let reference = self.workspace.object_ref(&());
        events::tell(context, &reference, &self.members, &self.outcomes);
        report(
            context,
            &Report {
                workspace: &self.workspace,
                data_sources: &existing(&self.members.data_sources, |one| &one.metadata),
                pipes: &existing(&self.members.pipes, |one| &one.metadata),
                access_tokens: &existing(&self.members.access_tokens, |one| &one.metadata),
                model: &self.model,
                rejections: &self.rejections,
                tokens_are_given_out: self.tokens_are_given_out,
                in_clickhouse: &self.in_clickhouse,
                outcomes: &self.outcomes,
                left_over: left_over(&self.outcomes),
                pipe_standings: &self.pipe_standings,
                replica_urls: served_urls(&self.workspace, &self.outcomes),
                now: Timestamp::now(),
            },
        )
        .await?;
        let fate = |owner: &str| self.fate(owner);
        let waits = part(context, &self.workspace, &self.members, fate).await?;
        let name = ObjectName::of(&*self.workspace);
        let namesakes = release::release_gone(context, &name, &self.members).await?;
        if let Some(reason) = self.trouble() {
            context.metrics.failed("Workspace", reason.as_str());
            return Ok(Next::Retry);
        }
        if waits {
            return Ok(Next::Retry);
        }
        Ok(match namesakes {
            Next::Forget => Next::After(context.resync_interval),
            next => next,
        })
    }

    /// What became of the data of a data source that is gone or goes.
    fn fate(&self, owner: &str) -> Fate {
        match self.rejections.get(&ObjectKey::Workspace) {
            Some(fault) if fault.reason == Reason::OwnedByAnother => {
                Fate::Left(fault.message.clone())
            }
            Some(fault) => Fate::NotYet(fault.clone()),
            None => farewell::fate(owner, &self.outcomes),
        }
    }

    /// What was done and what went wrong on each replica; a pass without either says nothing.
    fn log(&self) {
        let workspace = ObjectName::of(&*self.workspace);
        for OnReplica { name, work, .. } in &self.outcomes {
            match work {
                Ok(work) if !work.done.is_empty() || !work.failures.is_empty() => {
                    let (done, failed) = (work.done.len(), work.failures.len());
                    tracing::info!(%workspace, replica = name, done, failed, "converged");
                }
                Ok(_) => {}
                Err(fault) => {
                    let reason = fault.reason.as_str();
                    tracing::info!(%workspace, replica = name, reason, "could not converge yet");
                }
            }
        }
    }

    /// What another attempt may cure without anything having changed in Kubernetes.
    fn trouble(&self) -> Option<Reason> {
        let works = self.outcomes.iter().map(|outcome| &outcome.work);
        let in_work = works.filter_map(|work| match work {
            Ok(work) => work.failures.first().map(|failed| failed.fault.reason),
            Err(fault) => Some(fault.reason),
        });
        let in_pipes = self.pipe_standings.values().filter_map(|one| match one {
            Standing::Bad(fault) if !waits_for_a_person(fault.reason) => Some(fault.reason),
            Standing::Bad(_) | Standing::Checking | Standing::Good(_) => None,
        });
        // A Secret that could not be made yet; what a person must mend is not tried again for it.
        let in_tokens = self.rejections.iter().filter_map(|(key, fault)| {
            let is_token = matches!(key, ObjectKey::AccessToken(_));
            (is_token && fault.reason == Reason::DependencyNotReady).then_some(fault.reason)
        });
        let in_workspace = self
            .rejections
            .get(&ObjectKey::Workspace)
            .map(|fault| fault.reason);
        let retried = |reason: &Reason| *reason == Reason::CredentialsInvalid;
        in_work
            .chain(in_pipes)
            .chain(in_tokens)
            .chain(in_workspace.filter(retried))
            .next()
    }
}

fn model_of(context: &Context, workspace: &Arc<Workspace>, members: &Members) -> WorkspaceModel {
    let objects = WorkspaceObjects {
        workspace: workspace.clone(),
        data_sources: members.data_sources.clone(),
        pipes: members.pipes.clone(),
        access_tokens: members.access_tokens.clone(),
    };
    let mut model = model(&objects, &LastPublished::of(&objects));
    model.kubernetes.clone_from(&context.kubernetes_uid);
    model
        .existing_data_sources
        .extend(members.unreadable_data_sources.iter().cloned());
    model
}

/// Base URLs of the replicas that answer right: those that have everything, and those that went
/// away with everything. One that lacks a change comes back when it has caught up.
fn served_urls(workspace: &Workspace, outcomes: &[OnReplica]) -> Vec<String> {
    let served = served_from(workspace);
    let some_changed = outcomes.iter().any(|outcome| {
        outcome
            .work
            .as_ref()
            .is_ok_and(|work| !work.done.is_empty())
    });
    let is_right = |outcome: &&OnReplica| match &outcome.work {
        Ok(work) => work
            .failures
            .iter()
            .filter(|failed| failed.scope != Scope::Cleanup)
            .all(|failed| failed.fault.reason == Reason::ClickHouseRefused),
        Err(_) => served.contains(&outcome.url) && !some_changed,
    };
    let right = outcomes.iter().filter(is_right);
    right.map(|outcome| outcome.url.clone()).collect()
}

/// Base URLs of the replicas that gateways were told of.
fn served_from(workspace: &Workspace) -> &[String] {
    let status = workspace.status.as_ref();
    let published = status.and_then(|status| status.published.as_ref());
    published.map_or(&[], |published| &published.replica_urls)
}

/// Objects that are not going away; the API server would only forget what is written to others.
fn existing<K>(objects: &[Arc<K>], metadata: fn(&K) -> &ObjectMeta) -> Vec<Arc<K>> {
    let stays = objects
        .iter()
        .filter(|one| metadata(one).deletion_timestamp.is_none());
    stays.cloned().collect()
}

fn is_paused(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(ANNOTATION_PAUSED))
        .is_some_and(|paused| paused == "true")
}

/// Says that nothing is done, as the workspace itself or its cluster asks, and leaves everything
/// else as it was said last.
async fn pause(
    context: &Context,
    workspace: &Workspace,
    cluster: Option<&ObjectName>,
) -> Result<(), KubernetesError> {
    let on = cluster.map_or_else(String::new, |name| {
        format!(" on ClickHouseCluster `{name}`")
    });
    let message = format!(
        "the annotation {ANNOTATION_PAUSED} is set{on}: nothing is changed for this workspace"
    );
    let stalled = Finding::met(ConditionType::Stalled, Reason::Paused, message);
    let previous = workspace.status.clone().unwrap_or_default();
    let progress = [ConditionType::Reconciling, ConditionType::Stalled].map(ConditionType::as_str);
    let said = previous.conditions.iter();
    let mut conditions: Vec<_> = said
        .filter(|condition| !progress.contains(&condition.type_.as_str()))
        .cloned()
        .collect();
    conditions.extend(merge(
        &previous.conditions,
        &[stalled],
        workspace.metadata.generation,
        Timestamp::now(),
    ));
    let status = WorkspaceStatus {
        conditions,
        ..previous
    };
    context.kubernetes.patch_status(workspace, &status).await
}

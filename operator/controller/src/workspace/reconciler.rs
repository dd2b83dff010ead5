//! The driver: one round on a workspace, which chains the stages and decides when the next one is.

use crate::fleet::{ConnectError, Connected, Fleet};
use crate::index::{Index, Members};
use crate::kubernetes::Kubernetes;
use crate::reasons;
use crate::topology::Topology;
use crate::workspace::access::{self, Access, Admitted};
use crate::workspace::checks::{Checker, Desk};
use crate::workspace::deletions::{Fate, Leaving, Place};
use crate::workspace::ended_workspaces::{Retirement, release, release_gone};
use crate::workspace::execute::{Executed, Target, execute, served_urls};
use crate::workspace::findings::Fault;
use crate::workspace::issuing::Issuer;
use crate::workspace::observe::{Observed, existing, observe, same};
use crate::workspace::paused::{is_paused, pause};
use crate::workspace::pipe_states::{Asked, Checked, check};
use crate::workspace::placement::{Placement, place};
use crate::workspace::replicas::{Executor, left_over};
use crate::workspace::report::{Report, report};
use crate::workspace::settings::Settings;
use crate::workspace::{deletions, events, finalizers, orphans};
use aviary_crds::Workspace;
use aviary_crds::clickhouse_cluster::PendingDrop;
use aviary_crds::conditions::Reason;
use aviary_crds::published::WorkspaceAccess;
use aviary_runtime::ObjectName;
use aviary_runtime::dispatch::Requests;
use aviary_runtime::events::EventRecorder;
use aviary_runtime::kubernetes::KubernetesError;
use aviary_runtime::metrics::Metrics;
use aviary_runtime::queue::Next;
use jiff::Timestamp;
use kube::Resource;
use std::sync::Arc;

/// Reconciles workspaces.
pub(crate) struct Workspaces {
    kubernetes: Kubernetes,
    fleet: Arc<Fleet>,
    executor: Executor,
    checker: Arc<Checker>,
    access: Access,
    retirement: Retirement,
    events: EventRecorder,
    metrics: Arc<Metrics>,
    settings: Arc<Settings>,
}

impl Workspaces {
    /// `requests` is asked when there is news of a workspace that a round did not wait for.
    pub(crate) fn new(
        kubernetes: Kubernetes,
        fleet: Arc<Fleet>,
        executor: Executor,
        events: EventRecorder,
        metrics: Arc<Metrics>,
        requests: Requests<ObjectName>,
        settings: Settings,
    ) -> Self {
        let settings = Arc::new(settings);
        let interval = settings.resync_interval;
        let checker = Arc::new(Checker::new(requests.clone(), interval));
        Self {
            access: Access {
                kubernetes: kubernetes.clone(),
                issuer: Issuer::new(requests, interval),
                settings: settings.clone(),
            },
            retirement: Retirement {
                kubernetes: kubernetes.clone(),
                fleet: fleet.clone(),
                executor: executor.clone(),
                checker: checker.clone(),
                events: events.clone(),
                settings: settings.clone(),
            },
            kubernetes,
            fleet,
            executor,
            checker,
            events,
            metrics,
            settings,
        }
    }

    /// What the watches have seen.
    pub(crate) fn index(&self) -> &Index {
        self.kubernetes.index()
    }

    /// One round on a workspace.
    pub(crate) async fn reconcile(&self, name: &ObjectName) -> Result<Next, KubernetesError> {
        // An object that takes no finalizer keeps its data, and nobody else from being looked at.
        let held = finalizers::keep(&self.kubernetes, &self.index().members(name)).await;
        let next = self.look_at(name, self.index().members(name)).await?;
        held.map(|()| next)
    }

    /// Takes away what is no more, whatever else waits or is paused.
    pub(crate) async fn revoke(&self, name: &ObjectName) -> Result<Next, KubernetesError> {
        access::revoke(&self.access, name).await
    }

    async fn look_at(&self, name: &ObjectName, members: Members) -> Result<Next, KubernetesError> {
        let Some(workspace) = members.workspace.clone() else {
            // It is there: what is live stays live.
            if members.workspace_is_unreadable {
                return Ok(Next::Forget);
            }
            let reported = orphans::report(&self.kubernetes, name, &members).await;
            let next = release_gone(&self.retirement, name, &members).await?;
            return reported.map(|()| next);
        };
        if workspace.metadata.deletion_timestamp.is_some() {
            // What it says now is not known where it cannot be read.
            if members.workspace_is_unreadable {
                return Ok(Next::Forget);
            }
            return release(&self.retirement, &workspace, &members).await;
        }
        if is_paused(&workspace.metadata) {
            pause(&self.kubernetes, &workspace, None).await?;
            let paused = Fault::new(Reason::Paused, "the workspace is paused");
            let fate = |_: &str| Fate::NotYet(paused.clone());
            let waits = self.let_go(&workspace, &members, fate).await?;
            return Ok(if waits {
                Next::Retry
            } else {
                Next::After(self.settings.resync_interval)
            });
        }
        let observed = observe(&self.settings, workspace, members);
        match self.pass(observed).await? {
            Some(checked) => self.conclude(checked).await,
            None => Ok(Next::After(self.settings.resync_interval)),
        }
    }

    /// The stages up to what is known of pipes; nothing if the cluster is paused or the workspace
    /// changed meanwhile.
    async fn pass(&self, mut observed: Observed) -> Result<Option<Checked>, KubernetesError> {
        // Before anything that can fail: a token that was deleted must not open anything, wherever
        // the workspace is or is not.
        let admitted = access::admit(&self.access, &observed).await?;
        let Admitted { access, rejections } = admitted;
        observed.reject(rejections);
        let (name, cluster) = match place(self.index(), &observed.workspace) {
            Placement::On(name, cluster) => (name, cluster),
            Placement::Refused { reason, message } => {
                let executed = Executed::refused(observed, Fault::new(reason, message));
                return Ok(Some(Checked::nothing(executed)));
            }
        };
        if is_paused(&cluster.metadata) {
            pause(&self.kubernetes, &observed.workspace, Some(&name)).await?;
            let paused = Fault::new(Reason::Paused, "the cluster is paused");
            let fate = |_: &str| Fate::NotYet(paused.clone());
            self.let_go(&observed.workspace, &observed.members, fate)
                .await?;
            return Ok(None);
        }
        let replicas = match self.fleet.connect(&name, &Topology::of(&cluster)).await {
            Ok(replicas) => replicas,
            Err(ConnectError::Kubernetes(error)) => return Err(error),
            Err(error) => {
                let message = format!("ClickHouseCluster `{name}`: {error}");
                let fault = Fault::new(reasons::of_connection(&error), message);
                let executed = Executed::refused(observed, fault);
                return Ok(Some(Checked::nothing(executed)));
            }
        };
        let desk = self.desk(&observed);
        let executed = self
            .execute_in_turn(observed, &name, &replicas, &access, &desk)
            .await;
        let Some(executed) = executed else {
            return Ok(None);
        };
        let asked = Asked {
            replicas: &replicas,
            reader: &access.reader,
            lanes: self.fleet.lanes(&name),
        };
        Ok(Some(check(&asked, executed, &desk).await))
    }

    /// The turn is for work on ClickHouse: neither Secrets nor statuses are written in it.
    async fn execute_in_turn(
        &self,
        observed: Observed,
        cluster: &ObjectName,
        replicas: &[Connected],
        access: &WorkspaceAccess,
        desk: &Desk,
    ) -> Option<Executed> {
        let work = async {
            // What was read before the wait may be old; the change has asked for the pass after this one.
            if !same(&observed.members, &self.index().members(&observed.name())) {
                return None;
            }
            let cluster = self.index().cluster(cluster);
            let target = Target {
                executor: &self.executor,
                cluster: cluster.as_deref(),
                replicas,
                access,
                credentials_refused: desk.reader_is_refused(),
            };
            Some(execute(&target, observed).await)
        };
        self.fleet.in_turn(cluster, work).await
    }

    /// Reports what was found out, and looks after what goes.
    async fn conclude(&self, checked: Checked) -> Result<Next, KubernetesError> {
        checked.log();
        let Executed {
            observed,
            outcomes,
            in_clickhouse,
        } = &checked.executed;
        let (workspace, members) = (&observed.workspace, &observed.members);
        events::tell(&self.events, &workspace.object_ref(&()), members, outcomes);
        let findings = Report {
            workspace,
            data_sources: &existing(&members.data_sources, |one| &one.metadata),
            pipes: &existing(&members.pipes, |one| &one.metadata),
            access_tokens: &existing(&members.access_tokens, |one| &one.metadata),
            model: &observed.model,
            rejections: &observed.rejections,
            in_clickhouse,
            outcomes,
            left_over: left_over(outcomes),
            pipe_states: &checked.pipe_states,
            replica_urls: served_urls(workspace, outcomes),
            now: Timestamp::now(),
        };
        report(&self.kubernetes, &findings).await?;
        let fate = |owner: &str| checked.fate(owner);
        let waits = self.let_go(workspace, members, fate).await?;
        let namesakes = release_gone(&self.retirement, &observed.name(), members).await?;
        if let Some(reason) = checked.trouble() {
            self.metrics.failed("Workspace", reason.as_str());
            return Ok(Next::Retry);
        }
        if waits {
            return Ok(Next::Retry);
        }
        Ok(match namesakes {
            Next::Forget => Next::After(self.settings.resync_interval),
            next => next,
        })
    }

    /// Lets data sources of a workspace go that are being deleted. Tells whether one has to wait.
    async fn let_go(
        &self,
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
        let (kubernetes, events) = (&self.kubernetes, &self.events);
        deletions::conclude(kubernetes, events, &place, leaving, concerns, fate).await
    }

    fn desk(&self, observed: &Observed) -> Arc<Desk> {
        self.checker.desk(&observed.model.uid, &observed.name())
    }
}

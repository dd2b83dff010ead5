//! The second stage of a pass: every replica is made to agree with what was observed, and what could
//! not be done is known afterwards.

use crate::fleet::Connected;
use crate::workspace::access::password_sha256;
use crate::workspace::findings::{Fault, InClickHouse};
use crate::workspace::observe::Observed;
use crate::workspace::pending;
use crate::workspace::replicas::{
    DesiredState, Executor, OnReplica, converge, in_clickhouse, refusals,
};
use aviary_crds::conditions::Reason;
use aviary_crds::published::WorkspaceAccess;
use aviary_crds::{ClickHouseCluster, Workspace};
use aviary_plan::catalog::Sha256;
use aviary_plan::{Consent, CredentialHashes, ObjectKey, Scope};
use std::collections::BTreeMap;

/// What was done in ClickHouse, or why nothing was.
pub(crate) struct Executed {
    pub(crate) observed: Observed,
    /// What was found and done on each replica; none if ClickHouse was not asked.
    pub(crate) outcomes: Vec<OnReplica>,
    /// How data sources and the workspace stand in ClickHouse; empty if it was not asked.
    pub(crate) in_clickhouse: BTreeMap<ObjectKey, InClickHouse>,
}

impl Executed {
    /// Nothing could be done for the workspace as a whole.
    pub(crate) fn refused(mut observed: Observed, fault: Fault) -> Self {
        observed.refuse(fault);
        Self {
            observed,
            outcomes: Vec::new(),
            in_clickhouse: BTreeMap::new(),
        }
    }

    /// Data sources, by name in SQL, of which no replica has anything.
    pub(crate) fn lacking(&self) -> BTreeMap<String, Fault> {
        let is_live = |name: &str| {
            let object = self
                .observed
                .members
                .data_sources
                .iter()
                .find(|object| object.metadata.name.as_deref() == Some(name));
            let status = object.and_then(|object| object.status.as_ref());
            status.is_some_and(|status| status.published.is_some())
        };
        let mut lacking = BTreeMap::new();
        for source in &self.observed.model.data_sources {
            let key = ObjectKey::DataSource(source.object.clone());
            let failed = self
                .in_clickhouse
                .get(&key)
                .filter(|found| !found.somewhere);
            let failure = failed
                .and_then(|found| found.failures.values().chain(found.absent.values()).next());
            let fault = self.observed.rejections.get(&key).or(failure);
            if let Some(fault) = fault.filter(|_| !is_live(&source.object)) {
                lacking.insert(source.name.clone(), fault.clone());
            }
        }
        lacking
    }
}

/// Who is asked to execute, and with which logins of the workspace's own users.
pub(crate) struct Target<'a> {
    pub(crate) executor: &'a Executor,
    pub(crate) cluster: Option<&'a ClickHouseCluster>,
    pub(crate) replicas: &'a [Connected],
    pub(crate) access: &'a WorkspaceAccess,
    /// Whether ClickHouse refused the reader's password, although it should know it.
    pub(crate) credentials_refused: bool,
}

/// Makes every replica agree with what was observed.
pub(crate) async fn execute(target: &Target<'_>, observed: Observed) -> Executed {
    let mut executed = Executed {
        observed,
        outcomes: Vec::new(),
        in_clickhouse: BTreeMap::new(),
    };
    let hash = |user| Sha256::new(password_sha256(user));
    let access = target.access;
    let (Some(reader_sha256), Some(writer_sha256)) = (hash(&access.reader), hash(&access.writer))
    else {
        return executed;
    };
    let observed = &mut executed.observed;
    let mut circumstances = observed.model.circumstances();
    circumstances.credentials_refused = target.credentials_refused;
    let pending = pending::pending(target.cluster, &observed.name());
    let recorded = pending.iter().map(Consent::recorded);
    circumstances.consents.extend(recorded);
    let desired_state = DesiredState {
        model: &observed.model,
        credentials: &CredentialHashes {
            reader_sha256,
            writer_sha256,
        },
        circumstances,
        served_from: served_from(&observed.workspace),
    };
    let outcomes = converge(target.executor, target.replicas, &desired_state).await;
    observed.rejections.extend(refusals(&outcomes));
    if !observed.is_refused() {
        let sources = observed.model.data_sources.iter();
        let objects = sources.map(|source| ObjectKey::DataSource(source.object.clone()));
        executed.in_clickhouse = objects
            .chain([ObjectKey::Workspace])
            .map(|object| {
                let found = in_clickhouse(&object, &outcomes);
                (object, found)
            })
            .collect();
    }
    executed.outcomes = outcomes;
    executed
}

/// Base URLs of the replicas that answer right: those that have everything, and those that went
/// away with everything. One that lacks a change comes back when it has caught up.
pub(crate) fn served_urls(workspace: &Workspace, outcomes: &[OnReplica]) -> Vec<String> {
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
pub(crate) fn served_from(workspace: &Workspace) -> &[String] {
    let status = workspace.status.as_ref();
    let published = status.and_then(|status| status.published.as_ref());
    published.map_or(&[], |published| &published.replica_urls)
}

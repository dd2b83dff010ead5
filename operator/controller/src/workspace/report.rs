//! What a pass found out becomes statuses: one patch for each that changed, none for the others.

use crate::kubernetes::{Kubernetes, Reported};
use crate::workspace::findings::{
    Before, Fault, InClickHouse, accepted, applied, cleaned_up, sum_up, unmet, workspace_applied,
};
use crate::workspace::pipe_states::PipeState;
use crate::workspace::replicas::{OnReplica, quarantined};
use aviary_crds::conditions::{ConditionType, Finding, Reason, is_true, merge};
use aviary_crds::data_source::QuarantineStatus;
use aviary_crds::published::PublishedWorkspace;
use aviary_crds::{
    AccessToken, AccessTokenStatus, DataSource, DataSourceStatus, Pipe, PipeStatus, Workspace,
    WorkspaceStatus,
};
use aviary_plan::model::{ValidDataSource, ValidPipe, stays_in_reach};
use aviary_plan::{ObjectKey, WorkspaceModel};
use aviary_runtime::kubernetes::KubernetesError;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A number of rows is told anew when it has changed by one part in so many.
const STEP: u64 = 10;

/// The objects of a workspace with what was found out about them.
pub(crate) struct Report<'a> {
    pub(crate) workspace: &'a Arc<Workspace>,
    pub(crate) data_sources: &'a [Arc<DataSource>],
    pub(crate) pipes: &'a [Arc<Pipe>],
    pub(crate) access_tokens: &'a [Arc<AccessToken>],
    pub(crate) model: &'a WorkspaceModel,
    /// Faults of specs, by object.
    pub(crate) rejections: &'a BTreeMap<ObjectKey, Fault>,
    /// How data sources and the workspace stand in ClickHouse; empty if it was not asked.
    pub(crate) in_clickhouse: &'a BTreeMap<ObjectKey, InClickHouse>,
    /// What was found and done on each replica.
    pub(crate) outcomes: &'a [OnReplica],
    /// What could not be cleared away, by replica; nothing if ClickHouse was not asked.
    pub(crate) left_over: Option<BTreeMap<String, Fault>>,
    pub(crate) pipe_states: &'a BTreeMap<ObjectKey, PipeState>,
    /// Base URLs of the replicas that gateways may use.
    pub(crate) replica_urls: Vec<String>,
    pub(crate) now: Timestamp,
}

/// Writes what changed.
pub(crate) async fn report(
    kubernetes: &Kubernetes,
    report: &Report<'_>,
) -> Result<(), KubernetesError> {
    let data_sources: Vec<_> = report
        .data_sources
        .iter()
        .map(|object| (object, data_source_status(report, object)))
        .collect();
    let pipes: Vec<_> = report
        .pipes
        .iter()
        .map(|object| (object, pipe_status(report, object)))
        .collect();
    let tokens: Vec<_> = report
        .access_tokens
        .iter()
        .map(|object| (object, token_status(report, object)))
        .collect();
    let ready = data_sources
        .iter()
        .map(|(_, status)| &status.conditions)
        .chain(pipes.iter().map(|(_, status)| &status.conditions))
        .chain(tokens.iter().map(|(_, status)| &status.conditions))
        .map(|conditions| is_true(conditions, ConditionType::Ready));
    let workspace = workspace_status(report, ready);

    // Gateways need the workspace for everything else, so it goes first.
    let first = kubernetes
        .patch_status(&**report.workspace, &workspace)
        .await;
    let written = tokio::join!(
        write(kubernetes, &data_sources),
        write(kubernetes, &pipes),
        write(kubernetes, &tokens),
    );
    first.and(written.0).and(written.1).and(written.2)
}

/// Writes all, whatever becomes of each, and tells of the first failure.
async fn write<K>(
    kubernetes: &Kubernetes,
    statuses: &[(&Arc<K>, K::Status)],
) -> Result<(), KubernetesError>
where
    K: Reported,
{
    let patches = statuses
        .iter()
        .map(|(object, status)| kubernetes.patch_status(&***object, status));
    join_all(patches).await.into_iter().collect()
}

fn workspace_status(report: &Report<'_>, ready: impl Iterator<Item = bool>) -> WorkspaceStatus {
    let workspace = report.workspace;
    let previous = workspace.status.clone().unwrap_or_default();
    let (ready, all) = ready.fold((0, 0), |(ready, all), is_ready| {
        (ready + usize::from(is_ready), all + 1)
    });
    let database = report.model.database.as_str();
    let findings = common(
        report,
        &ObjectKey::Workspace,
        &workspace.metadata,
        &previous.conditions,
        previous.published.is_some(),
    );
    let mut findings = sum_up(findings, format!("database `{database}` is in place"));
    findings.extend(cleaned_up(&previous.conditions, report.left_over.as_ref()));
    let published = published_workspace(report).or_else(|| previous.published.clone());
    WorkspaceStatus {
        observed_generation: workspace.metadata.generation,
        conditions: conditions(report, &previous.conditions, &findings, &workspace.metadata),
        database: Some(database.to_owned()),
        ready_objects: Some(format!("{ready}/{all}")),
        published,
    }
}

/// What gateways serve; nothing new while the workspace is not there for them.
fn published_workspace(report: &Report<'_>) -> Option<PublishedWorkspace> {
    let rejected = report.rejections.contains_key(&ObjectKey::Workspace);
    if rejected || report.replica_urls.is_empty() {
        return None;
    }
    let limits = &report.workspace.spec.limits;
    let milliseconds = report.model.query_timeout.as_millis();
    Some(PublishedWorkspace {
        database: report.model.database.as_str().to_owned(),
        replica_urls: report.replica_urls.clone(),
        concurrent_queries: limits.concurrent_queries,
        query_timeout_milliseconds: u64::try_from(milliseconds).unwrap_or(u64::MAX),
        query_memory_bytes: report.model.query_memory_bytes,
        requests_per_second: limits.requests_per_second,
        body_size_bytes: limits.body_size.get(),
    })
}

fn data_source_status(report: &Report<'_>, object: &DataSource) -> DataSourceStatus {
    let previous = object.status.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    let key = ObjectKey::DataSource(name.clone());
    let valid = report
        .model
        .data_sources
        .iter()
        .find(|source| source.object == name);
    let findings = common(
        report,
        &key,
        &object.metadata,
        &previous.conditions,
        previous.published.is_some(),
    );
    let table =
        |source: &ValidDataSource| format!("{}.{}", report.model.database.as_str(), source.name);
    let ready = valid.map(|source| format!("table `{}` is live", table(source)));
    let findings = sum_up(findings, ready.unwrap_or_default());
    let is_there = report
        .in_clickhouse
        .get(&key)
        .is_some_and(|found| found.somewhere);
    let live = valid.filter(|_| is_there && !report.rejections.contains_key(&key));
    DataSourceStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions(report, &previous.conditions, &findings, &object.metadata),
        table: live.map(table).or(previous.table),
        quarantine: valid
            .and_then(|source| quarantined(&source.name, report.outcomes))
            .and_then(|rows| quarantine(previous.quarantine.as_ref(), rows, report.now))
            .or(previous.quarantine),
        published: live.map(ValidDataSource::published).or(previous.published),
    }
}

/// What is told of a quarantine: nothing before it has any rows, and of rows that keep coming
/// in steps rather than at every look.
fn quarantine(
    previous: Option<&QuarantineStatus>,
    rows: u64,
    now: Timestamp,
) -> Option<QuarantineStatus> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let Some(told) = previous else {
        let since = Some(Time(now));
        return (rows > 0).then_some(QuarantineStatus { rows, since });
    };
    let step = told.rows.unsigned_abs().div_ceil(STEP).max(1);
    let begins_or_ends = (rows > 0) != (told.rows > 0);
    if !begins_or_ends && rows.abs_diff(told.rows) < step {
        return Some(told.clone());
    }
    let since = told.since.clone().unwrap_or(Time(now));
    let since = (rows > 0).then_some(since);
    Some(QuarantineStatus { rows, since })
}

fn pipe_status(report: &Report<'_>, object: &Pipe) -> PipeStatus {
    let previous = object.status.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    let key = ObjectKey::Pipe(name.clone());
    let has_endpoint = object.spec.endpoint.is_some();
    let rejection = report.rejections.get(&key);
    let standing = report.pipe_states.get(&key);
    let valid = report.model.pipes.iter().find(|pipe| pipe.object == name);
    // What a tenant may not run does not stay live either, from before it was refused.
    let out_of_reach = rejection.is_some_and(|fault| fault.reason == Reason::OutOfReach);
    let last_good = previous
        .published
        .clone()
        .filter(|published| has_endpoint && (!out_of_reach || stays_in_reach(&published.template)));
    let findings = vec![
        accepted(rejection),
        published(
            report,
            rejection,
            standing,
            has_endpoint,
            last_good.is_some(),
        ),
    ];
    let good = match standing {
        Some(PipeState::Good(good)) if rejection.is_none() => Some(good.clone()),
        _ => None,
    };
    let published = good.filter(|_| has_endpoint).or(last_good);
    let endpoint = published
        .as_ref()
        .map(|published| format!("/v0/pipes/{}.json", published.name));
    let ready = match (&endpoint, valid) {
        (Some(endpoint), _) => format!("live at {endpoint}"),
        (None, Some(ValidPipe { name, .. })) => format!("other pipes can use `{name}`"),
        (None, None) => String::new(),
    };
    let findings = sum_up(findings, ready);
    PipeStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions(report, &previous.conditions, &findings, &object.metadata),
        endpoint,
        published,
    }
}

fn being_checked() -> Fault {
    let message = "ClickHouse is asked whether the SQL is right, which takes a while";
    Fault::new(Reason::InProgress, message)
}

/// Whether the live revision is this spec.
fn published(
    report: &Report<'_>,
    rejection: Option<&Fault>,
    standing: Option<&PipeState>,
    has_endpoint: bool,
    is_live: bool,
) -> Finding {
    let fault = match (rejection, standing) {
        (Some(fault), _) | (None, Some(PipeState::Bad(fault))) => fault,
        (None, Some(PipeState::Checking)) => &being_checked(),
        (None, Some(PipeState::Good(_))) => {
            let message = if has_endpoint {
                "this spec is live"
            } else {
                "other pipes can use it; it has no endpoint"
            };
            return Finding::met(ConditionType::Published, Reason::Succeeded, message);
        }
        (None, None) => return not_asked(report, ConditionType::Published),
    };
    if !is_live {
        return unmet(ConditionType::Published, fault);
    }
    let reason = if rejection.is_some() {
        Reason::LastGoodRevisionLive
    } else {
        fault.reason
    };
    let message = format!(
        "the last good revision stays live (LastGoodRevisionLive), not this spec: {}",
        fault.message
    );
    Finding::unmet(ConditionType::Published, reason, message)
}

fn token_status(report: &Report<'_>, object: &AccessToken) -> AccessTokenStatus {
    let previous = object.status.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    let key = ObjectKey::AccessToken(name.clone());
    let rejection = report.rejections.get(&key);
    let valid = report
        .model
        .access_tokens
        .iter()
        .find(|token| token.object == name);
    let mut findings = vec![match valid.map(|token| token.missing.as_slice()) {
        Some(missing @ [_, ..]) if rejection.is_none() => Finding::unmet(
            ConditionType::Accepted,
            Reason::ReferenceNotFound,
            format!(
                "scopes name what does not exist yet, and grant nothing there until it does: `{}`",
                missing.join("`, `")
            ),
        ),
        _ => accepted(rejection),
    }];
    findings.push(match rejection {
        Some(fault) => unmet(ConditionType::Applied, fault),
        None => Finding::met(
            ConditionType::Applied,
            Reason::Succeeded,
            "gateways know the token",
        ),
    });
    let secret_name = valid
        .filter(|_| rejection.is_none())
        .map(|token| token.secret_name.clone());
    let ready = secret_name
        .as_ref()
        .map(|secret| format!("the value is in Secret `{secret}`"));
    let findings = sum_up(findings, ready.unwrap_or_default());
    AccessTokenStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions(report, &previous.conditions, &findings, &object.metadata),
        secret_name: secret_name.or(previous.secret_name),
    }
}

/// `Accepted` and `Applied` of something that is in ClickHouse.
fn common(
    report: &Report<'_>,
    key: &ObjectKey,
    metadata: &ObjectMeta,
    previous: &[Condition],
    is_live: bool,
) -> Vec<Finding> {
    let before = Before {
        conditions: previous,
        generation: metadata.generation,
        is_live,
    };
    let rejection = report.rejections.get(key);
    let applied = match report.in_clickhouse.get(key) {
        Some(found) if *key == ObjectKey::Workspace => workspace_applied(before, rejection, found),
        Some(found) => applied(before, rejection, found),
        None if rejection.is_some() => applied(before, rejection, &InClickHouse::default()),
        None => not_asked(report, ConditionType::Applied),
    };
    vec![accepted(rejection), applied]
}

/// For what depends on the workspace while that has a fault of its own.
fn not_asked(report: &Report<'_>, condition: ConditionType) -> Finding {
    let why = report.rejections.get(&ObjectKey::Workspace);
    let why = why.map_or("it was not looked at yet", |fault| fault.message.as_str());
    Finding::unmet(
        condition,
        Reason::DependencyNotReady,
        format!("the workspace is not ready: {why}"),
    )
}

fn conditions(
    report: &Report<'_>,
    previous: &[Condition],
    findings: &[Finding],
    metadata: &ObjectMeta,
) -> Vec<Condition> {
    merge(previous, findings, metadata.generation, report.now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of numbers of rows, each seen a second after the one before.
    fn told(seen: &[u64]) -> Vec<Option<(i64, Option<i64>)>> {
        let mut last = None;
        let mut all = Vec::new();
        for (second, rows) in seen.iter().enumerate() {
            let now = Timestamp::from_second(second as i64).unwrap();
            let status = quarantine(last.as_ref(), *rows, now);
            let second = |since: &Time| since.0.as_second();
            let shown = |it: &QuarantineStatus| (it.rows, it.since.as_ref().map(second));
            all.push(status.as_ref().map(shown));
            last = status;
        }
        all
    }

    #[test]
    fn a_quarantine_is_told_of_in_steps() {
        assert_eq!(
            told(&[0, 0, 1, 2, 200, 219, 220, 190, 0, 5]),
            [
                None,
                None,
                Some((1, Some(2))),
                Some((2, Some(2))),
                Some((200, Some(2))),
                Some((200, Some(2))),
                Some((220, Some(2))),
                Some((190, Some(2))),
                Some((0, None)),
                Some((5, Some(9))),
            ]
        );
    }

    #[test]
    fn under_constant_load_the_steps_grow() {
        let mut last = None;
        let mut writes = 0;
        for look in 1..=100_000_u64 {
            let status = quarantine(last.as_ref(), look * 1000, Timestamp::UNIX_EPOCH);
            writes += u32::from(last != status);
            last = status;
        }
        assert!(writes < 120, "{writes}");
    }
}

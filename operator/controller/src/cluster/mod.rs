//! The reconcile of a `ClickHouseCluster`: probe, compare with what was known, report.

mod fleet;
mod probe;
mod settled;
mod status;

pub(crate) use fleet::{ConnectError, Connected, Fleet, FleetOptions};

use crate::context::Context;
use crate::happenings::Happening;
use crate::kubernetes::KubernetesError;
use crate::names::ObjectName;
use crate::queue::Next;
use aviary_clickhouse::ClickHouseError;
use aviary_crds::conditions::{ConditionType, Reason, find};
use aviary_crds::{ClickHouseCluster, ClickHouseClusterStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use probe::{Answer, ReplicaAnswer};
use std::time::Duration;

/// Probes are at least this far apart, whatever a spec that an earlier schema let in says.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// An error of a replica, for where its name stands beside it.
pub(crate) fn describe(replica: &str, error: &ClickHouseError) -> String {
    let text = error.to_string();
    let named = format!("replica {replica} ");
    text.strip_prefix(&named).unwrap_or(&text).to_owned()
}

/// One round on a cluster.
pub(crate) async fn reconcile(
    context: &Context,
    name: &ObjectName,
) -> Result<Next, KubernetesError> {
    let Some(cluster) = context.index.cluster(name) else {
        context.fleet.forget(name);
        return Ok(Next::Forget);
    };
    let previous = cluster.status.clone().unwrap_or_default();
    let status = observe(context, name, &cluster, &previous).await?;
    // What is told before it is written would be told again if the writing failed.
    context.kubernetes.patch_status(&*cluster, &status).await?;
    tell(context, &cluster, &previous, &status);
    let interval = cluster.spec.probe_interval.get();
    Ok(Next::After(interval.max(SHORTEST_INTERVAL)))
}

async fn observe(
    context: &Context,
    name: &ObjectName,
    cluster: &ClickHouseCluster,
    previous: &ClickHouseClusterStatus,
) -> Result<ClickHouseClusterStatus, KubernetesError> {
    let generation = cluster.metadata.generation;
    let replicas = match context.fleet.connect(name, cluster).await {
        Ok(replicas) => replicas,
        Err(ConnectError::Kubernetes(error)) => return Err(error),
        Err(error) => {
            let reason = error.reason().unwrap_or(Reason::Unknown);
            let message = error.to_string();
            return Ok(status::unusable_status(
                previous,
                reason,
                &message,
                generation,
                Timestamp::now(),
            ));
        }
    };
    let answers = probe::probe(&replicas).await;
    record(context, name, previous, &answers).await;
    Ok(status::cluster_status(
        previous,
        &cluster.spec,
        &answers,
        generation,
        Timestamp::now(),
    ))
}

/// Keeps what was found for metrics and workspaces, and has the workspaces looked at again that
/// wait for a replica which answers again.
async fn record(
    context: &Context,
    name: &ObjectName,
    previous: &ClickHouseClusterStatus,
    answers: &[ReplicaAnswer],
) {
    let refused = answers.iter().any(|answer| {
        matches!(&answer.answer, Answer::Failed { reason, .. } if *reason == Reason::CredentialsInvalid)
    });
    if refused {
        context.fleet.forget_credentials(name).await;
    }
    let heard = answers
        .iter()
        .map(|one| (one.name.clone(), one.answer.heard()));
    let back = context.fleet.record(name, heard.collect());
    let was_unusable = find(&previous.conditions, ConditionType::Ready)
        .is_some_and(|condition| condition.status == "False");
    let is_usable = answers
        .iter()
        .any(|answer| matches!(answer.answer, Answer::Healthy(_)));
    if !back.is_empty() || (was_unusable && is_usable) {
        for workspace in context.index.workspaces_on(name) {
            context.workspaces.request(workspace);
        }
    }
}

/// Tells of conditions that changed.
fn tell(
    context: &Context,
    cluster: &ClickHouseCluster,
    previous: &ClickHouseClusterStatus,
    status: &ClickHouseClusterStatus,
) {
    let reference = cluster.object_ref(&());
    for happening in changes(&previous.conditions, &status.conditions) {
        context.telemetry.emit(&reference, &happening);
    }
}

/// What changed for better or worse. A first look tells of what is bad only.
fn changes(previous: &[Condition], current: &[Condition]) -> Vec<Happening> {
    let watched = [
        ConditionType::Ready,
        ConditionType::ReplicasHealthy,
        ConditionType::DiskHeadroom,
    ];
    let changed = |kind: &ConditionType| {
        let now = find(current, *kind)?;
        let before = find(previous, *kind);
        if before
            .is_some_and(|before| (&before.status, &before.reason) == (&now.status, &now.reason))
        {
            return None;
        }
        let reason = Reason::ALL.iter().find(|one| one.as_str() == now.reason);
        let (reason, message) = (*reason?, now.message.clone());
        match (
            now.status.as_str(),
            before.map(|before| before.status.as_str()),
        ) {
            ("False", _) => Some(Happening::Worsened { reason, message }),
            ("True", Some("False")) => Some(Happening::Recovered { reason, message }),
            _ => None,
        }
    };
    watched.iter().filter_map(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aviary_crds::conditions::{Finding, merge};

    fn conditions(headroom: Finding) -> Vec<Condition> {
        let ready = Finding::met(ConditionType::Ready, Reason::Succeeded, "1/1");
        merge(&[], &[ready, headroom], Some(1), Timestamp::UNIX_EPOCH)
    }

    fn headroom(status: Option<bool>, reason: Reason) -> Vec<Condition> {
        conditions(Finding {
            condition: ConditionType::DiskHeadroom,
            status,
            reason,
            message: "m".to_owned(),
        })
    }

    #[test]
    fn only_changes_are_told() {
        let enough = headroom(Some(true), Reason::EnoughSpace);
        let low = headroom(Some(false), Reason::DiskLow);
        let critical = headroom(Some(false), Reason::DiskCritical);
        let unknown = headroom(None, Reason::Unknown);
        let worsened = |reason| {
            vec![Happening::Worsened {
                reason,
                message: "m".to_owned(),
            }]
        };
        assert_eq!(changes(&[], &enough), vec![]);
        assert_eq!(changes(&[], &low), worsened(Reason::DiskLow));
        assert_eq!(changes(&enough, &low), worsened(Reason::DiskLow));
        assert_eq!(changes(&low, &low), vec![]);
        assert_eq!(changes(&low, &critical), worsened(Reason::DiskCritical));
        assert_eq!(changes(&low, &unknown), vec![]);
        assert_eq!(
            changes(&critical, &enough),
            vec![Happening::Recovered {
                reason: Reason::EnoughSpace,
                message: "m".to_owned()
            }]
        );
    }
}

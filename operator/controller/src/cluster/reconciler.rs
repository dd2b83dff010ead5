//! The driver: one round on a cluster, from what its probes heard to its status and events.

use crate::cluster::status::{self, ReplicaAnswer};
use crate::events::Event;
use crate::fleet::{ConnectError, Fleet};
use crate::kubernetes::Kubernetes;
use crate::reasons;
use crate::topology::Topology;
use aviary_crds::conditions::{ConditionType, Reason, find};
use aviary_crds::{ClickHouseCluster, ClickHouseClusterStatus};
use aviary_runtime::ObjectName;
use aviary_runtime::events::EventRecorder;
use aviary_runtime::kubernetes::KubernetesError;
use aviary_runtime::queue::Next;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use std::sync::Arc;
use std::time::Duration;

/// The shortest pause between two looks at a cluster that nothing is heard of.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Reconciles clusters.
pub(crate) struct Clusters {
    pub(crate) kubernetes: Kubernetes,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) events: EventRecorder,
}

impl Clusters {
    /// One round on a cluster.
    pub(crate) async fn reconcile(&self, name: &ObjectName) -> Result<Next, KubernetesError> {
        reconcile(self, name).await
    }
}

async fn reconcile(clusters: &Clusters, name: &ObjectName) -> Result<Next, KubernetesError> {
    let Clusters {
        kubernetes,
        fleet,
        events,
    } = clusters;
    let Some(cluster) = kubernetes.index().cluster(name) else {
        fleet.forget(name);
        return Ok(Next::Forget);
    };
    let previous = cluster.status.clone().unwrap_or_default();
    if let Some(status) = observe(fleet, name, &cluster, &previous).await? {
        // What is told before it is written would be told again if the writing failed.
        kubernetes.patch_status(&*cluster, &status).await?;
        tell(events, &cluster, &previous, &status);
    }
    // Each probe asks for a reconcile; without connections there is none.
    Ok(Next::After(
        cluster.spec.probe_interval.get().max(SHORTEST_PAUSE),
    ))
}

/// What the probes heard makes of the status; nothing until each replica was heard of once.
async fn observe(
    fleet: &Fleet,
    name: &ObjectName,
    cluster: &ClickHouseCluster,
    previous: &ClickHouseClusterStatus,
) -> Result<Option<ClickHouseClusterStatus>, KubernetesError> {
    let generation = cluster.metadata.generation;
    let replicas = match fleet.connect(name, &Topology::of(cluster)).await {
        Ok(replicas) => replicas,
        Err(ConnectError::Kubernetes(error)) => return Err(error),
        Err(error) => {
            let reason = reasons::of_connection(&error);
            let message = error.to_string();
            return Ok(Some(status::unusable_status(
                previous,
                reason,
                &message,
                generation,
                Timestamp::now(),
            )));
        }
    };
    let answers = replicas.iter().map(|one| {
        let answer = one.pulse.last()?;
        let name = one.replica.name().to_owned();
        Some(ReplicaAnswer { name, answer })
    });
    let answers: Option<Vec<ReplicaAnswer>> = answers.collect();
    Ok(answers.map(|answers| {
        status::cluster_status(
            previous,
            &cluster.spec,
            &answers,
            generation,
            Timestamp::now(),
        )
    }))
}

/// Tells of conditions that changed.
fn tell(
    events: &EventRecorder,
    cluster: &ClickHouseCluster,
    previous: &ClickHouseClusterStatus,
    status: &ClickHouseClusterStatus,
) {
    let reference = cluster.object_ref(&());
    for event in changes(&previous.conditions, &status.conditions) {
        events.publish(&reference, (&event).into());
    }
}

/// What changed for better or worse. A first look tells of what is bad only.
fn changes(previous: &[Condition], current: &[Condition]) -> Vec<Event> {
    let watched = [
        ConditionType::Ready,
        ConditionType::ReplicasHealthy,
        ConditionType::DiskHeadroom,
        ConditionType::CleanedUp,
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
            ("False", _) => Some(Event::Worsened { reason, message }),
            ("True", Some("False")) => Some(Event::Recovered { reason, message }),
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
            vec![Event::Worsened {
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
            vec![Event::Recovered {
                reason: Reason::EnoughSpace,
                message: "m".to_owned()
            }]
        );
    }
}

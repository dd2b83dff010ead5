//! A workspace or a cluster that a person has paused: nothing is done, and that is said.

use crate::kubernetes::Kubernetes;
use aviary_crds::conditions::{ConditionType, Finding, Reason, merge};
use aviary_crds::names::ANNOTATION_PAUSED;
use aviary_crds::{Workspace, WorkspaceStatus};
use aviary_runtime::ObjectName;
use aviary_runtime::kubernetes::KubernetesError;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Whether a person asked for nothing to be done.
pub(crate) fn is_paused(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(ANNOTATION_PAUSED))
        .is_some_and(|paused| paused == "true")
}

/// Says that nothing is done, as the workspace itself or its cluster asks, and leaves everything
/// else as it was said last.
pub(crate) async fn pause(
    kubernetes: &Kubernetes,
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
    kubernetes.patch_status(workspace, &status).await
}

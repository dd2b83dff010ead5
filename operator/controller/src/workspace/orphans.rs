//! What names a workspace that is not there: reported on each object, and cured when it arrives.

use crate::index::Members;
use crate::kubernetes::Kubernetes;
use crate::workspace::findings::{Fault, accepted, sum_up, unmet};
use aviary_crds::conditions::{ConditionType, Reason, merge};
use aviary_crds::{AccessTokenStatus, DataSourceStatus, PipeStatus};
use aviary_runtime::ObjectName;
use aviary_runtime::kubernetes::KubernetesError;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

/// Reports that the workspace is missing.
pub(crate) async fn report(
    kubernetes: &Kubernetes,
    workspace: &ObjectName,
    members: &Members,
) -> Result<(), KubernetesError> {
    let fault = Fault::new(
        Reason::ReferenceNotFound,
        format!(
            "Workspace `{}`, named by spec.workspace, does not exist in namespace `{}`",
            workspace.name, workspace.namespace
        ),
    );
    let conditions = |second: ConditionType, metadata: &ObjectMeta, previous: &[Condition]| {
        let findings = vec![accepted(Some(&fault)), unmet(second, &fault)];
        let now = Timestamp::now();
        merge(previous, &sum_up(findings, ""), metadata.generation, now)
    };
    for object in &members.data_sources {
        let previous = object.status.clone().unwrap_or_default();
        let status = DataSourceStatus {
            observed_generation: object.metadata.generation,
            conditions: conditions(
                ConditionType::Applied,
                &object.metadata,
                &previous.conditions,
            ),
            ..DataSourceStatus::default()
        };
        kubernetes.patch_status(&**object, &status).await?;
    }
    for object in &members.pipes {
        let previous = object.status.clone().unwrap_or_default();
        let status = PipeStatus {
            observed_generation: object.metadata.generation,
            conditions: conditions(
                ConditionType::Published,
                &object.metadata,
                &previous.conditions,
            ),
            ..PipeStatus::default()
        };
        kubernetes.patch_status(&**object, &status).await?;
    }
    for object in &members.access_tokens {
        let previous = object.status.clone().unwrap_or_default();
        let status = AccessTokenStatus {
            observed_generation: object.metadata.generation,
            conditions: conditions(
                ConditionType::Applied,
                &object.metadata,
                &previous.conditions,
            ),
            secret_name: previous.secret_name,
        };
        kubernetes.patch_status(&**object, &status).await?;
    }
    Ok(())
}

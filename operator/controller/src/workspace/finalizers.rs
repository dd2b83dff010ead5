//! Finalizers, on just those objects whose data goes with them: they stay until their last word is
//! heard and carried out, or written down. An object that keeps its data is never held.

use crate::index::Members;
use crate::kubernetes::{Kubernetes, Reported};
use aviary_crds::DeletionPolicy;
use aviary_crds::names::{DATA_SOURCE_FINALIZER, WORKSPACE_FINALIZER};
use aviary_runtime::kubernetes::KubernetesError;
use futures::future::join_all;
use kube::ResourceExt;

/// Puts finalizers on and takes them off as the policies say, whatever becomes of each, and tells
/// of the first failure.
pub(crate) async fn keep(
    kubernetes: &Kubernetes,
    members: &Members,
) -> Result<(), KubernetesError> {
    let workspace = async {
        let Some(workspace) = &members.workspace else {
            return Ok(());
        };
        let policy = workspace.spec.deletion_policy;
        keep_one(kubernetes, &**workspace, WORKSPACE_FINALIZER, policy).await
    };
    let sources = members.data_sources.iter().map(|source| {
        let policy = source.spec.deletion_policy;
        keep_one(kubernetes, &**source, DATA_SOURCE_FINALIZER, policy)
    });
    let (workspace, sources) = tokio::join!(workspace, join_all(sources));
    sources.into_iter().fold(workspace, Result::and)
}

async fn keep_one<K: Reported>(
    kubernetes: &Kubernetes,
    object: &K,
    finalizer: &str,
    policy: DeletionPolicy,
) -> Result<(), KubernetesError> {
    // What is being deleted takes no finalizer any more.
    let lives = object.meta().deletion_timestamp.is_none();
    match (policy, is_held(object, finalizer)) {
        (DeletionPolicy::Delete, false) if lives => {
            let mut finalizers = object.finalizers().to_vec();
            finalizers.push(finalizer.to_owned());
            kubernetes.set_finalizers(object, finalizers).await
        }
        (DeletionPolicy::Retain, true) => let_go(kubernetes, object, finalizer).await,
        (DeletionPolicy::Delete | DeletionPolicy::Retain, _) => Ok(()),
    }
}

/// Takes the finalizer off.
pub(crate) async fn let_go<K: Reported>(
    kubernetes: &Kubernetes,
    object: &K,
    finalizer: &str,
) -> Result<(), KubernetesError> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|one| one != finalizer);
    kubernetes.set_finalizers(object, finalizers).await
}

/// Whether the object stays until the finalizer is taken off.
pub(crate) fn is_held<K: Reported>(object: &K, finalizer: &str) -> bool {
    object.finalizers().iter().any(|one| one == finalizer)
}

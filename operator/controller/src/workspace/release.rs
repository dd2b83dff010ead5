//! The end of a workspace: its database is dropped or released after its policy, and the finalizer
//! goes. What cannot be reached holds a deletion up for a while, and a namespace not at all.

use crate::cluster::ConnectError;
use crate::context::Context;
use crate::happenings::Happening;
use crate::index::cluster_of;
use crate::kubernetes::KubernetesError;
use crate::names::ObjectName;
use crate::queue::Next;
use crate::secrets::published_secret_name;
use crate::workspace::replicas::{OnReplica, on_each};
use crate::workspace::{events, is_paused, model_of};
use aviary_crds::Workspace;
use aviary_crds::names::{WORKSPACE_FINALIZER, default_database};
use aviary_plan::plan::retire;
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use std::sync::Arc;

/// How long a deletion waits for a cluster that cannot be reached.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// How long it waits where the whole namespace goes: long enough for a cluster that is merely busy.
const PATIENCE_OF_NAMESPACE: SignedDuration = SignedDuration::from_secs(30);

/// What became of the workspace in ClickHouse.
enum Farewell {
    /// All that was to be done is done.
    Complete,
    /// Nothing can or shall be done.
    LeftAsItIs(String),
    /// It may be possible later.
    NotYet(String),
}

/// Looks after the workspace's database, then lets the workspace go.
pub(crate) async fn release(
    context: &Context,
    workspace: &Arc<Workspace>,
) -> Result<Next, KubernetesError> {
    if !workspace
        .finalizers()
        .iter()
        .any(|one| one == WORKSPACE_FINALIZER)
    {
        return Ok(Next::Forget);
    }
    let left = match retire_everywhere(context, workspace).await? {
        Farewell::Complete => None,
        Farewell::LeftAsItIs(why) => Some(why),
        Farewell::NotYet(why) if must_go(context, workspace).await? => Some(why),
        Farewell::NotYet(why) => {
            tracing::warn!(workspace = %ObjectName::of(&**workspace), why, "cannot look after the database of a deleted workspace yet");
            return Ok(Next::Retry);
        }
    };
    if let Some(why) = left {
        let database = database(workspace);
        let what = format!("database `{database}` and its users were left as they are: {why}");
        context
            .telemetry
            .emit(&workspace.object_ref(&()), &Happening::Released { what });
    }
    context.checker.forget(&workspace.uid().unwrap_or_default());
    let published = published_secret_name(&context.namespace, workspace);
    context.kubernetes.delete_secret(&published).await?;
    let mut finalizers = workspace.finalizers().to_vec();
    finalizers.retain(|one| one != WORKSPACE_FINALIZER);
    context
        .kubernetes
        .set_finalizers(&**workspace, finalizers)
        .await?;
    Ok(Next::Forget)
}

async fn retire_everywhere(
    context: &Context,
    workspace: &Arc<Workspace>,
) -> Result<Farewell, KubernetesError> {
    if is_paused(&workspace.metadata) {
        return Ok(Farewell::LeftAsItIs("the workspace is paused".to_owned()));
    }
    let name = cluster_of(workspace);
    let Some(cluster) = context.index.cluster(&name) else {
        let why = format!("ClickHouseCluster `{name}` does not exist any more");
        return Ok(Farewell::LeftAsItIs(why));
    };
    if is_paused(&cluster.metadata) {
        let why = format!("ClickHouseCluster `{name}` is paused");
        return Ok(Farewell::LeftAsItIs(why));
    }
    let replicas = match context.fleet.connect(&name, &cluster).await {
        Ok(replicas) => replicas,
        Err(ConnectError::Kubernetes(error)) => return Err(error),
        Err(error) => return Ok(Farewell::NotYet(error.to_string())),
    };
    let _turn = context.fleet.turn(&name).await;
    let members = context.index.members(&ObjectName::of(&**workspace));
    let model = model_of(context, workspace, &members);
    let outcomes = on_each(context, &replicas, |connected| {
        let (database, uid) = (model.database.clone(), model.uid.clone());
        async move {
            let replica = connected.replica;
            let observed = replica.observe(&database).await?;
            Ok(retire(&observed.catalog, &uid).into())
        }
    })
    .await;
    events::tell(context, workspace, &members, &outcomes);
    let problems: Vec<String> = outcomes.iter().filter_map(problem).collect();
    if problems.is_empty() {
        return Ok(Farewell::Complete);
    }
    Ok(Farewell::NotYet(problems.join("; ")))
}

fn problem(outcome: &OnReplica) -> Option<String> {
    let fault = match &outcome.work {
        Ok(work) => &work.failures.first()?.fault,
        Err(fault) => fault,
    };
    Some(format!("replica `{}`: {}", outcome.name, fault.message))
}

/// Whether the workspace must go although its database could not be looked after.
async fn must_go(context: &Context, workspace: &Workspace) -> Result<bool, KubernetesError> {
    let Some(deleted) = &workspace.metadata.deletion_timestamp else {
        return Ok(false);
    };
    let waited = Timestamp::now().duration_since(deleted.0);
    if waited <= PATIENCE_OF_NAMESPACE || waited > PATIENCE {
        return Ok(waited > PATIENCE);
    }
    let namespace = workspace.namespace().unwrap_or_default();
    let namespace = context.kubernetes.get_namespace(&namespace).await?;
    Ok(namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
}

fn database(workspace: &Workspace) -> String {
    let default = || {
        default_database(
            &workspace.namespace().unwrap_or_default(),
            &workspace.name_any(),
        )
    };
    workspace.spec.database.clone().unwrap_or_else(default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeApi, Request, context, failure, object};
    use aviary_crds::ClickHouseCluster;
    use aviary_crds::names::ANNOTATION_PAUSED;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn deleted(seconds_ago: i64) -> Arc<Workspace> {
        let mut workspace: Workspace = object(
            "Workspace",
            "orders",
            json!({ "clusterRef": { "name": "shared" } }),
        );
        let meta = &mut workspace.metadata;
        meta.finalizers = Some(vec!["other/one".to_owned(), WORKSPACE_FINALIZER.to_owned()]);
        let then = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
        meta.deletion_timestamp = Some(Time(then));
        Arc::new(workspace)
    }

    fn cluster() -> ClickHouseCluster {
        let spec = json!({ "external": {
            "replicas": [{ "name": "a", "url": "http://127.0.0.1:1" }],
            "credentialsSecretRef": { "name": "admin" },
        }});
        object("ClickHouseCluster", "shared", spec)
    }

    fn summary(asked: &[Request]) -> Vec<String> {
        let finalizers = |request: &Request| request.body["metadata"]["finalizers"].clone();
        asked
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .chain(asked.last().map(|last| finalizers(last).to_string()))
            .collect()
    }

    /// A namespace that is going away, or not; no Secret; and every change is accepted.
    fn answer(request: &Request, namespace_goes: bool) -> (u16, Value) {
        let meta = json!({ "name": "shop", "deletionTimestamp": namespace_goes.then_some("2026-01-01T00:00:00Z") });
        match request.path.as_str() {
            "/api/v1/namespaces/shop" => (
                200,
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": meta }),
            ),
            path if path.contains("/secrets/") => failure(404, "NotFound", "no such Secret"),
            _ => (200, serde_json::to_value(&*deleted(0)).unwrap()),
        }
    }

    const SECRET: &str =
        "DELETE /api/v1/namespaces/aviary-system/secrets/aviary-workspace-uid-of-orders";
    const WORKSPACE: &str = "PATCH /apis/aviary.dev/v1alpha1/namespaces/shop/workspaces/orders";
    const CREDENTIALS: &str = "GET /api/v1/namespaces/shop/secrets/admin";
    const NAMESPACE: &str = "GET /api/v1/namespaces/shop";

    #[rstest]
    #[case::the_cluster_is_gone(false, 0, false, Next::Forget, &[SECRET, WORKSPACE, "[\"other/one\"]"])]
    #[case::the_namespace_goes(true, 40, true, Next::Forget, &[CREDENTIALS, NAMESPACE, SECRET, WORKSPACE, "[\"other/one\"]"])]
    #[case::the_namespace_went_just_now(true, 10, true, Next::Retry, &[CREDENTIALS, "null"])]
    #[case::it_may_work_later(true, 40, false, Next::Retry, &[CREDENTIALS, NAMESPACE, "null"])]
    #[case::it_took_too_long(true, 400, false, Next::Forget, &[CREDENTIALS, SECRET, WORKSPACE, "[\"other/one\"]"])]
    #[tokio::test]
    async fn a_workspace_whose_cluster_cannot_be_asked(
        #[case] cluster_exists: bool,
        #[case] seconds_ago: i64,
        #[case] namespace_goes: bool,
        #[case] expected: Next,
        #[case] requests: &[&str],
    ) {
        let api = FakeApi::default();
        let context = context(api.client(move |request| answer(request, namespace_goes)));
        if cluster_exists {
            let name = ObjectName::new("shop", "shared");
            context.index.apply(&name, cluster());
        }
        assert_eq!(
            release(&context, &deleted(seconds_ago)).await.unwrap(),
            expected
        );
        assert_eq!(summary(&api.asked()), requests);
    }

    #[tokio::test]
    async fn a_paused_cluster_is_asked_nothing() {
        let api = FakeApi::default();
        let context = context(api.client(|request| answer(request, false)));
        let mut paused = cluster();
        let annotation = (ANNOTATION_PAUSED.to_owned(), "true".to_owned());
        paused.metadata.annotations = Some([annotation].into());
        let name = ObjectName::new("shop", "shared");
        context.index.apply(&name, paused);
        let next = release(&context, &deleted(0)).await.unwrap();
        assert_eq!(next, Next::Forget);
        let requests = [SECRET, WORKSPACE, "[\"other/one\"]"];
        assert_eq!(summary(&api.asked()), requests);
    }

    #[tokio::test]
    async fn what_holds_no_finalizer_of_ours_is_left_alone() {
        let api = FakeApi::default();
        let context = context(api.client(|request| answer(request, false)));
        let mut workspace = (*deleted(0)).clone();
        workspace.metadata.finalizers = Some(vec!["other/one".to_owned()]);
        let next = release(&context, &Arc::new(workspace)).await.unwrap();
        assert_eq!((next, api.asked()), (Next::Forget, Vec::new()));
    }
}

//! The end of a workspace: its database is dropped or released as its last word was, and its users
//! go. One that keeps its data is not held for that, so the Secret that published it says what there
//! is to do; the Secret goes when it is done.

use crate::events::Event;
use crate::fleet::{ConnectError, Connected, Fleet};
use crate::index::{Index, Members};
use crate::kubernetes::Kubernetes;
use crate::reasons;
use crate::secrets::published_secret_name;
use crate::topology::Topology;
use crate::workspace::checks::Checker;
use crate::workspace::deletions::{Fate, Leaving, Place, conclude};
use crate::workspace::findings::Fault;
use crate::workspace::paused::is_paused;
use crate::workspace::replicas::{Executor, OnReplica, on_each};
use crate::workspace::settings::Settings;
use crate::workspace::{events, pending};
use aviary_crds::Workspace;
use aviary_crds::clickhouse_cluster::PendingDrop;
use aviary_crds::conditions::Reason;
use aviary_crds::names::published_secret;
use aviary_plan::catalog::identifier;
use aviary_plan::planner::{Retired, retire};
use aviary_plan::{Consent, Consents};
use aviary_runtime::ObjectName;
use aviary_runtime::events::EventRecorder;
use aviary_runtime::kubernetes::KubernetesError;
use aviary_runtime::queue::Next;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt};
use std::sync::Arc;

/// What looking after the end of a workspace takes.
pub(crate) struct Retirement {
    pub(crate) kubernetes: Kubernetes,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) executor: Executor,
    pub(crate) checker: Arc<Checker>,
    pub(crate) events: EventRecorder,
    pub(crate) settings: Arc<Settings>,
}

impl Retirement {
    fn index(&self) -> &Index {
        self.kubernetes.index()
    }
}

/// What a workspace that goes or is gone leaves behind.
struct EndedWorkspace {
    place: Place,
    uid: String,
    /// The Secret that published it.
    secret: ObjectName,
    /// The workspace, while it is still there.
    owner: Option<Arc<Workspace>>,
}

/// Looks after a workspace that is being deleted.
pub(crate) async fn release(
    retirement: &Retirement,
    workspace: &Arc<Workspace>,
    members: &Members,
) -> Result<Next, KubernetesError> {
    let ended = EndedWorkspace {
        place: Place::of(workspace),
        uid: workspace.uid().unwrap_or_default(),
        secret: published_secret_name(&retirement.settings.namespace, workspace),
        owner: Some(workspace.clone()),
    };
    let fate = settle(retirement, &ended).await?;
    conclude_sources(retirement, &ended.place, members, &fate).await?;
    Ok(match fate {
        Fate::NotYet(_) => Next::Retry,
        Fate::Gone | Fate::Left(_) => Next::Forget,
    })
}

/// What becomes of data sources is up to the workspace that their tables are in.
async fn conclude_sources(
    retirement: &Retirement,
    place: &Place,
    members: &Members,
    fate: &Fate,
) -> Result<(), KubernetesError> {
    let leaving = Leaving {
        data_sources: &members.data_sources,
        ..Leaving::default()
    };
    let concerns = |drop: &PendingDrop| drop.table.is_some();
    let Retirement {
        kubernetes, events, ..
    } = retirement;
    let concluded = conclude(kubernetes, events, place, leaving, concerns, |_| {
        fate.clone()
    });
    concluded.await.map(drop)
}

/// Looks after workspaces that had this name and are gone.
pub(crate) async fn release_gone(
    retirement: &Retirement,
    name: &ObjectName,
    members: &Members,
) -> Result<Next, KubernetesError> {
    let present = members.workspace.as_ref().and_then(|it| it.uid());
    // What nothing is known of is nowhere.
    let nowhere = Place {
        workspace: name.clone(),
        cluster: ObjectName::default(),
        database: String::new(),
    };
    let lost = Fate::Left(format!("Workspace `{name}` does not exist any more"));
    let mut worst = (nowhere, lost);
    let mut next = Next::Forget;
    for ended in ended_workspaces(retirement, name) {
        if Some(&ended.uid) == present.as_ref() {
            continue;
        }
        // The watch may be behind; whose users are dropped must be gone for certain.
        let uid = retirement.kubernetes.get_uid::<Workspace>(name).await?;
        if uid.as_ref() == Some(&ended.uid) {
            continue;
        }
        let fate = settle(retirement, &ended).await?;
        if matches!(fate, Fate::NotYet(_)) {
            next = Next::Retry;
        }
        if next == Next::Forget || matches!(fate, Fate::NotYet(_)) {
            worst = (ended.place, fate);
        }
    }
    if present.is_none() {
        let (place, fate) = worst;
        conclude_sources(retirement, &place, members, &fate).await?;
    }
    Ok(next)
}

/// What workspaces of this name have left, or have while they are there: by the Secrets that
/// published them, and by what is written down of them.
fn ended_workspaces(retirement: &Retirement, name: &ObjectName) -> Vec<EndedWorkspace> {
    let secrets = retirement.index().published_secrets(name).into_iter();
    let mut ended_workspaces: Vec<EndedWorkspace> = secrets
        .filter_map(|(secret, published)| {
            let known = published.access.as_ref()?.estate.clone()?;
            Some(EndedWorkspace {
                place: Place {
                    workspace: name.clone(),
                    cluster: ObjectName::new(known.cluster_namespace, known.cluster),
                    database: known.database,
                },
                uid: known.uid,
                secret,
                owner: None,
            })
        })
        .collect();
    for (cluster, drop) in retirement.index().pending_drops(name) {
        let is_known = ended_workspaces
            .iter()
            .any(|ended| ended.uid == drop.owner_uid);
        if drop.table.is_none() && !is_known {
            ended_workspaces.push(EndedWorkspace {
                place: Place {
                    workspace: name.clone(),
                    cluster,
                    database: drop.database,
                },
                secret: ObjectName::new(
                    &retirement.settings.namespace,
                    published_secret(&drop.owner_uid),
                ),
                uid: drop.owner_uid,
                owner: None,
            });
        }
    }
    ended_workspaces
}

async fn settle(retirement: &Retirement, ended: &EndedWorkspace) -> Result<Fate, KubernetesError> {
    let fate = retire_everywhere(retirement, ended).await?;
    let leaving = Leaving {
        workspace: ended.owner.as_ref(),
        ..Leaving::default()
    };
    let concerns = |drop: &PendingDrop| drop.owner_uid == ended.uid;
    let Retirement {
        kubernetes, events, ..
    } = retirement;
    conclude(kubernetes, events, &ended.place, leaving, concerns, |_| {
        fate.clone()
    })
    .await?;
    match &fate {
        Fate::NotYet(fault) => {
            let workspace = &ended.place.workspace;
            tracing::warn!(%workspace, why = fault.message, "cannot look after the database of a deleted workspace yet");
            return Ok(fate);
        }
        Fate::Left(why) => {
            let database = &ended.place.database;
            let what = format!("database `{database}` and its users were left as they are: {why}");
            let event = Event::Released { what };
            events.publish(&ended.reference(), (&event).into());
        }
        Fate::Gone => {}
    }
    retirement.checker.forget(&ended.uid);
    retirement.kubernetes.delete_secret(&ended.secret).await?;
    Ok(fate)
}

async fn retire_everywhere(
    retirement: &Retirement,
    ended: &EndedWorkspace,
) -> Result<Fate, KubernetesError> {
    let owner = ended.owner.as_deref();
    if owner.is_some_and(|owner| is_paused(&owner.metadata)) {
        return Ok(Fate::Left("the workspace is paused".to_owned()));
    }
    let name = &ended.place.cluster;
    let Some(cluster) = retirement.index().cluster(name) else {
        let why = format!("ClickHouseCluster `{name}` does not exist any more");
        return Ok(Fate::Left(why));
    };
    if is_paused(&cluster.metadata) {
        let why = format!("ClickHouseCluster `{name}` is paused");
        return Ok(Fate::NotYet(Fault::new(Reason::Paused, why)));
    }
    let replicas = match retirement
        .fleet
        .connect(name, &Topology::of(&cluster))
        .await
    {
        Ok(replicas) => replicas,
        Err(ConnectError::Kubernetes(error)) => return Err(error),
        Err(error) => {
            let reason = reasons::of_connection(&error);
            return Ok(Fate::NotYet(Fault::new(reason, error.to_string())));
        }
    };
    let work = retire_on_each(retirement, ended, &replicas);
    Ok(retirement.fleet.in_turn(name, work).await)
}

async fn retire_on_each(
    retirement: &Retirement,
    ended: &EndedWorkspace,
    replicas: &[Connected],
) -> Fate {
    // What counts is what is said now, and not what was said before the wait.
    let members = &retirement.index().members(&ended.place.workspace);
    let workspace = members.workspace.as_deref();
    let workspace = workspace.filter(|it| it.metadata.uid.as_ref() == Some(&ended.uid));
    let owner = workspace.filter(|_| ended.owner.is_some());
    let known = pending::pending(
        retirement.index().cluster(&ended.place.cluster).as_deref(),
        &ended.place.workspace,
    );
    let mut consents: Consents = pending::consents(&known, members);
    consents.extend(owner.and_then(Consent::of_workspace));
    let database = identifier(&ended.place.database);
    let outcomes = on_each(&retirement.executor, replicas, |connected| {
        let (database, consents) = (&database, &consents);
        async move {
            let observed = connected.replica.observe(database).await?;
            let workspace = Retired {
                uid: &ended.uid,
                kubernetes: &retirement.settings.kubernetes_uid,
                consents,
            };
            Ok(retire(&observed.catalog, workspace).into())
        }
    })
    .await;
    events::tell(&retirement.events, &ended.reference(), members, &outcomes);
    let problem = outcomes.iter().find_map(problem);
    problem.map_or(Fate::Gone, Fate::NotYet)
}

fn problem(outcome: &OnReplica) -> Option<Fault> {
    let Fault { reason, message } = match &outcome.work {
        Ok(work) => &work.failures.first()?.fault,
        Err(fault) => fault,
    };
    let message = format!("replica `{}`: {message}", outcome.name);
    Some(Fault::new(*reason, message))
}

impl EndedWorkspace {
    /// The workspace, for events, also when it is gone.
    fn reference(&self) -> ObjectReference {
        let ObjectName { namespace, name } = self.place.workspace.clone();
        ObjectReference {
            api_version: Some(Workspace::api_version(&()).into_owned()),
            kind: Some(Workspace::kind(&()).into_owned()),
            name: Some(name),
            namespace: Some(namespace),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::secrets::PublishedSecret;
    use crate::testing::{object, workspaces as make};
    use aviary_crds::names::{ANNOTATION_PAUSED, DATA_SOURCE_FINALIZER, WORKSPACE_FINALIZER};
    use aviary_crds::published::{ClickHouseUser, WorkspaceAccess, WorkspaceEstate};
    use aviary_crds::{ClickHouseCluster, DataSource, Workspace};
    use aviary_runtime::ObjectName;
    use aviary_runtime::queue::Next;
    use aviary_runtime::testing::{FakeApi, Request, failure};
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn going(metadata: &mut ObjectMeta, finalizer: &str, seconds_ago: i64) {
        metadata.finalizers = Some(vec!["other/one".to_owned(), finalizer.to_owned()]);
        let then = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
        metadata.deletion_timestamp = Some(Time(then));
    }

    fn workspace(policy: &str, seconds_ago: i64) -> Workspace {
        let spec = json!({ "clusterRef": { "name": "shared" }, "deletionPolicy": policy });
        let mut workspace: Workspace = object("Workspace", "orders", spec);
        going(&mut workspace.metadata, WORKSPACE_FINALIZER, seconds_ago);
        workspace
    }

    fn source(seconds_ago: i64) -> DataSource {
        let columns = json!([{ "name": "id", "type": "Int32" }]);
        let spec = json!({ "workspace": "orders", "columns": columns, "deletionPolicy": "Delete" });
        let mut source: DataSource = object("DataSource", "sales", spec);
        going(&mut source.metadata, DATA_SOURCE_FINALIZER, seconds_ago);
        source
    }

    fn cluster() -> ClickHouseCluster {
        let spec = json!({ "external": {
            "replicas": [{ "name": "a", "url": "http://127.0.0.1:1" }],
            "credentialsSecretRef": { "name": "admin" },
        }});
        object("ClickHouseCluster", "shared", spec)
    }

    /// The Secret that published the workspace and outlives it.
    fn published() -> PublishedSecret {
        let user = |name: &str| ClickHouseUser {
            name: name.to_owned(),
            password: "secret".to_owned().into(),
        };
        let access = WorkspaceAccess {
            namespace: "shop".to_owned(),
            workspace: "orders".to_owned(),
            reader: user("reader"),
            writer: user("writer"),
            tokens: Vec::new(),
            former_values: Vec::new(),
            estate: Some(WorkspaceEstate {
                uid: "uid-of-orders".to_owned(),
                cluster_namespace: "shop".to_owned(),
                cluster: "shared".to_owned(),
                database: "shop_orders".to_owned(),
            }),
        };
        PublishedSecret {
            resource_version: None,
            document: None,
            access: Some(access),
        }
    }

    /// Each request, with the finalizers or the owners of pending drops that it sets.
    fn told(asked: &[Request]) -> Vec<String> {
        let last = |path: &str| path.rsplit('/').take(2).collect::<Vec<_>>().join(" ");
        let told = asked.iter().map(|request| {
            let finalizers = &request.body["metadata"]["finalizers"];
            let pending = request.body["status"]["pendingDrops"].as_array();
            let pending = pending.into_iter().flatten();
            let owners: Vec<&str> = pending.filter_map(|it| it["owner"].as_str()).collect();
            let what = match finalizers {
                Value::Null => owners.join(" "),
                finalizers => finalizers.to_string(),
            };
            let line = format!("{} {} {what}", request.method, last(&request.path));
            line.trim_end().to_owned()
        });
        told.collect()
    }

    /// Every change is accepted, and there is no Secret with credentials.
    fn answer(request: &Request) -> (u16, Value) {
        match request.path.as_str() {
            path if path.contains("/secrets/") => failure(404, "NotFound", "no such Secret"),
            path if path.contains("/clickhouseclusters/") => (200, json!(cluster())),
            path if path.contains("/datasources/") => (200, json!(source(0))),
            _ if request.method == "GET" => failure(404, "NotFound", "no such Workspace"),
            _ => (200, json!(workspace("Retain", 0))),
        }
    }

    const SECRET: &str = "DELETE aviary-workspace-uid-of-orders secrets";
    const LET_GO: &str = "PATCH orders workspaces [\"other/one\"]";
    const CREDENTIALS: &str = "GET admin secrets";
    const WRITTEN: &str = "PATCH status shared shop/orders";
    const IS_IT_GONE: &str = "GET orders workspaces";

    fn name() -> ObjectName {
        ObjectName::new("shop", "orders")
    }

    fn cluster_name() -> ObjectName {
        ObjectName::new("shop", "shared")
    }

    #[rstest]
    #[case::it_keeps_its_data("Retain", true, 0, Next::Retry, &[LET_GO, CREDENTIALS])]
    #[case::the_cluster_is_gone("Delete", false, 0, Next::Forget, &[LET_GO, SECRET])]
    #[case::it_may_work_soon("Delete", true, 10, Next::Retry, &[CREDENTIALS])]
    #[case::it_took_too_long("Delete", true, 40, Next::Retry, &[CREDENTIALS, WRITTEN, LET_GO])]
    #[tokio::test]
    async fn a_workspace_whose_cluster_cannot_be_asked(
        #[case] policy: &str,
        #[case] cluster_exists: bool,
        #[case] seconds_ago: i64,
        #[case] expected: Next,
        #[case] requests: &[&str],
    ) {
        let api = FakeApi::default();
        let workspaces = make(api.client(answer));
        if cluster_exists {
            workspaces.index().apply(&cluster_name(), cluster());
        }
        workspaces
            .index()
            .apply(&name(), workspace(policy, seconds_ago));
        assert_eq!(workspaces.reconcile(&name()).await.unwrap(), expected);
        assert_eq!(told(&api.asked()), requests);
    }

    /// What is not written down would be forgotten.
    #[tokio::test]
    async fn a_workspace_stays_while_its_consent_cannot_be_written_down() {
        let api = FakeApi::default();
        let client = api.client(|request| match request.path.as_str() {
            path if path.contains("/clickhouseclusters/") => failure(409, "Conflict", "changed"),
            _ => answer(request),
        });
        let workspaces = make(client);
        workspaces.index().apply(&cluster_name(), cluster());
        workspaces.index().apply(&name(), workspace("Delete", 40));
        assert!(workspaces.reconcile(&name()).await.is_err());
        assert_eq!(told(&api.asked()), [CREDENTIALS, WRITTEN]);
        let version = &api.asked()[1].body["metadata"]["resourceVersion"];
        assert_eq!(version, "1");
    }

    #[tokio::test]
    async fn a_paused_cluster_is_asked_nothing_and_what_was_to_be_dropped_is_kept_in_mind() {
        let api = FakeApi::default();
        let workspaces = make(api.client(answer));
        let mut paused = cluster();
        let annotation = (ANNOTATION_PAUSED.to_owned(), "true".to_owned());
        paused.metadata.annotations = Some([annotation].into());
        workspaces.index().apply(&cluster_name(), paused);
        workspaces.index().apply(&name(), workspace("Delete", 40));
        let next = workspaces.reconcile(&name()).await.unwrap();
        assert_eq!(next, Next::Retry);
        assert_eq!(told(&api.asked()), [WRITTEN, LET_GO]);
    }

    /// Its finalizer was taken off by force, or it had none.
    #[tokio::test]
    async fn a_workspace_that_is_gone_is_looked_after_by_its_secret() {
        let api = FakeApi::default();
        let workspaces = make(api.client(answer));
        let secret = ObjectName::new("aviary-system", "aviary-workspace-uid-of-orders");
        let affected = workspaces.index().apply(&secret, published());
        assert!(affected.workspaces.contains(&name()));
        workspaces.index().apply(&cluster_name(), cluster());
        let next = workspaces.reconcile(&name()).await.unwrap();
        assert_eq!(next, Next::Retry);
        assert_eq!(told(&api.asked()), [IS_IT_GONE, CREDENTIALS]);
    }

    #[tokio::test]
    async fn a_workspace_that_only_the_watch_has_lost_is_left_alone() {
        let api = FakeApi::default();
        let client = api.client(|request| match request.method.as_str() {
            "GET" => (200, json!(workspace("Delete", 0))),
            _ => answer(request),
        });
        let workspaces = make(client);
        let secret = ObjectName::new("aviary-system", "aviary-workspace-uid-of-orders");
        workspaces.index().apply(&secret, published());
        workspaces.index().apply(&cluster_name(), cluster());
        let next = workspaces.reconcile(&name()).await.unwrap();
        assert_eq!(next, Next::Forget);
        assert_eq!(told(&api.asked()), [IS_IT_GONE]);
    }

    const SOURCE_GOES: &str = "PATCH sales datasources [\"other/one\"]";
    const SOURCE_WRITTEN: &str = "PATCH status shared shop/sales";

    /// With its workspace on the way out or gone already.
    #[rstest]
    #[case::nobody_knows_where_its_table_is(false, 0, &["PATCH status sales", SOURCE_GOES])]
    #[case::its_database_cannot_be_reached_yet(true, 10, &["PATCH status sales", IS_IT_GONE, CREDENTIALS])]
    #[case::its_database_cannot_be_reached(true, 40, &["PATCH status sales", IS_IT_GONE, CREDENTIALS, SOURCE_WRITTEN, SOURCE_GOES])]
    #[tokio::test]
    async fn a_data_source_outlives_its_workspace_for_a_short_while(
        #[case] published_by_a_secret: bool,
        #[case] seconds_ago: i64,
        #[case] requests: &[&str],
    ) {
        let api = FakeApi::default();
        let workspaces = make(api.client(answer));
        workspaces.index().apply(&cluster_name(), cluster());
        let sales = ObjectName::new("shop", "sales");
        workspaces.index().apply(&sales, source(seconds_ago));
        if published_by_a_secret {
            let secret = ObjectName::new("aviary-system", "aviary-workspace-uid-of-orders");
            workspaces.index().apply(&secret, published());
        }
        workspaces.reconcile(&name()).await.unwrap();
        assert_eq!(told(&api.asked()), requests);
    }

    #[rstest]
    #[case::lives_and_goes_with_its_data("Delete", false, Some("[\"aviary.dev/datasource\"]"))]
    #[case::keeps_its_data("Retain", true, Some("[]"))]
    #[case::is_held("Delete", true, None)]
    #[case::is_not_held("Retain", false, None)]
    #[tokio::test]
    async fn just_what_goes_with_its_data_is_held(
        #[case] policy: &str,
        #[case] is_held: bool,
        #[case] expected: Option<&str>,
    ) {
        let api = FakeApi::default();
        let workspaces = make(api.client(answer));
        let mut source = source(0);
        source.metadata.deletion_timestamp = None;
        source.metadata.finalizers = is_held.then(|| vec![DATA_SOURCE_FINALIZER.to_owned()]);
        source.spec.deletion_policy = serde_json::from_value(json!(policy)).unwrap();
        workspaces
            .index()
            .apply(&ObjectName::new("shop", "sales"), source);
        workspaces.reconcile(&name()).await.unwrap();
        let first = api
            .asked()
            .first()
            .map(|first| first.body["metadata"]["finalizers"].clone());
        let first = first.filter(|finalizers| !finalizers.is_null());
        assert_eq!(first.map(|it| it.to_string()).as_deref(), expected);
    }
}

//! Observe, plan and execute on every replica of a cluster, all at once and each on its own, so
//! that a replica which is away holds nobody up and catches up when it is back.

use crate::fleet::Connected;
use crate::reasons;
use crate::workspace::findings::{Fault, InClickHouse};
use aviary_clickhouse::{Bounds, ClickHouseError, Failure, Replica};
use aviary_crds::conditions::Reason;
use aviary_plan::planner::{Circumstances, Plan, Step};
use aviary_plan::{
    CredentialHashes, ObjectKey, Rejection, Scope, ServerFeatures, WorkspaceModel, desired, plan,
};
use aviary_runtime::lease::Mandate;
use futures::future::join_all;
use prometheus_client::metrics::counter::Counter;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a replica may take to tell what it has.
const OBSERVING: Duration = Duration::from_secs(15);
/// How long after the start of a pass a replica is still given steps to do.
const WORKING: Duration = Duration::from_mins(2);

/// Carries plans out.
#[derive(Clone)]
pub(crate) struct Executor {
    /// Asked before each step.
    pub(crate) mandate: Mandate,
    /// Counts steps that changed something in ClickHouse.
    pub(crate) changes: Counter,
}

/// What became of the workspace on one replica.
pub(crate) struct OnReplica {
    pub(crate) name: String,
    pub(crate) url: String,
    /// What was done, or why nothing could be.
    pub(crate) work: Result<Work, Fault>,
}

/// What was planned on a replica, and how it went.
pub(crate) struct Work {
    pub(crate) done: Vec<Step>,
    pub(crate) failures: Vec<Failed>,
    pub(crate) refusals: Vec<Rejection>,
    /// Rows that were in quarantine before, by data source.
    pub(crate) quarantined: BTreeMap<String, u64>,
}

/// What was seen on a replica, and is to be done there.
#[derive(Default)]
pub(crate) struct Look {
    pub(crate) plan: Plan,
    /// Rows in quarantine, by data source.
    pub(crate) quarantined: BTreeMap<String, u64>,
}

impl From<Plan> for Look {
    fn from(plan: Plan) -> Self {
        Self {
            plan,
            ..Self::default()
        }
    }
}

/// A step that was not done.
pub(crate) struct Failed {
    pub(crate) object: ObjectKey,
    pub(crate) scope: Scope,
    /// Uid of who consented, if it was to drop data.
    pub(crate) consented_by: Option<String>,
    pub(crate) fault: Fault,
}

/// What a replica ought to have, and what the planner must know besides.
pub(crate) struct DesiredState<'a> {
    pub(crate) model: &'a WorkspaceModel,
    pub(crate) credentials: &'a CredentialHashes,
    pub(crate) circumstances: Circumstances,
    /// Base URLs of the replicas that had the workspace before.
    pub(crate) served_from: &'a [String],
}

/// Makes every replica agree with the desired_state.
pub(crate) async fn converge(
    executor: &Executor,
    replicas: &[Connected],
    desired_state: &DesiredState<'_>,
) -> Vec<OnReplica> {
    on_each(
        executor,
        replicas,
        |Connected { replica, url, .. }| async move {
            let circumstances = Circumstances {
                had_database: desired_state.served_from.contains(&url),
                ..desired_state.circumstances.clone()
            };
            let observed = replica.observe(&desired_state.model.database).await?;
            if let Some(refusal) = apart(replicas.len(), replica.name(), &observed.server) {
                let refusals = vec![refusal];
                let plan = Plan {
                    refusals,
                    ..Plan::default()
                };
                return Ok(plan.into());
            }
            let desired = desired(
                desired_state.model,
                desired_state.credentials,
                &observed.server,
            );
            let desired = replica.canonicalise(desired, &observed.catalog).await?;
            Ok(Look {
                plan: plan(&desired, &observed.catalog, &circumstances),
                quarantined: observed.quarantined,
            })
        },
    )
    .await
}

/// Replicas that do not replicate would each keep the rows that happen to be sent to it.
fn apart(replicas: usize, name: &str, server: &ServerFeatures) -> Option<Rejection> {
    (replicas > 1 && !server.replication).then(|| Rejection {
        object: ObjectKey::Workspace,
        reason: Reason::DependencyNotReady,
        message: format!(
            "the cluster has {replicas} replicas, and `{name}` cannot replicate: it needs Keeper and the macros `shard` and `replica` in its configuration; or name one replica only"
        ),
    })
}

/// Plans on every replica with `make_plan`, and executes.
pub(crate) async fn on_each<MakePlan, Planning>(
    executor: &Executor,
    replicas: &[Connected],
    make_plan: MakePlan,
) -> Vec<OnReplica>
where
    MakePlan: Fn(Connected) -> Planning,
    Planning: Future<Output = Result<Look, ClickHouseError>>,
{
    let one_is_through = &CancellationToken::new();
    join_all(replicas.iter().map(|connected| async {
        // Nobody waits again for what is known to be silent; when it answers a probe, the
        // workspace is looked at at once.
        let work = if connected.pulse.is_down() {
            Err(Fault::new(
                Reason::ClickHouseUnreachable,
                "it did not answer its last probe",
            ))
        } else {
            let work = |given_up| {
                let connected = connected.until(given_up);
                let planning = make_plan(connected.clone());
                async move { run(executor, &connected.replica, planning).await }
            };
            not_for_the_silent(connected, one_is_through, work).await
        };
        if let Ok(work) = &work {
            one_is_through.cancel();
            let changes = work.done.len() as u64;
            executor.changes.inc_by(changes);
        }
        OnReplica {
            name: connected.replica.name().to_owned(),
            url: connected.url.clone(),
            work,
        }
    }))
    .await
}

/// Works on a replica until it is known to be silent, which is looked after once another is through:
/// from then on it would hold up what is done on the others, and the next in turn.
async fn not_for_the_silent<Working: Future>(
    connected: &Connected,
    one_is_through: &CancellationToken,
    work: impl FnOnce(CancellationToken) -> Working,
) -> Working::Output {
    let given_up = CancellationToken::new();
    let looking = async {
        one_is_through.cancelled().await;
        connected.until_silent().await;
    };
    let mut working = pin!(work(given_up.clone()));
    tokio::select! {
        worked = &mut working => return worked,
        () = looking => {}
        () = connected.pulse.until_down() => {}
    }
    given_up.cancel();
    // It ends now, and tells what was done.
    working.await
}

async fn run(
    executor: &Executor,
    replica: &Replica,
    planning: impl Future<Output = Result<Look, ClickHouseError>>,
) -> Result<Work, Fault> {
    let bounds = Bounds {
        end: Instant::now() + WORKING,
        may_change: &|| executor.mandate.holds(),
    };
    let planned = tokio::time::timeout(OBSERVING, planning).await;
    let Look { plan, quarantined } = match planned {
        Ok(look) => look.map_err(|error| fault(&error))?,
        Err(_) => {
            let why = format!(
                "it did not tell within {} s what it has",
                OBSERVING.as_secs()
            );
            return Err(Fault::new(Reason::ClickHouseUnreachable, why));
        }
    };
    let mut done = Vec::new();
    let mut failures = Vec::new();
    if !plan.is_empty() {
        for outcome in replica.execute(&plan, &bounds).await {
            let step = &plan.steps[outcome.step];
            match outcome.result {
                Ok(()) => done.push(step.clone()),
                Err(failure) => failures.push(Failed {
                    object: step.object.clone(),
                    scope: step.scope,
                    consented_by: step.consent().map(|it| it.owner().to_owned()),
                    fault: failed(&failure),
                }),
            }
        }
    }
    Ok(Work {
        done,
        failures,
        refusals: plan.refusals,
        quarantined,
    })
}

fn failed(failure: &Failure) -> Fault {
    match failure {
        Failure::ClickHouse(cause) => fault(cause),
        Failure::Skipped { cause } => {
            let Fault { reason, message } = fault(cause);
            Fault::new(reason, format!("an earlier step failed: {message}"))
        }
        Failure::NotBegun | Failure::Stopped => {
            Fault::new(Reason::ClickHouseBusy, failure.to_string())
        }
    }
}

fn fault(error: &ClickHouseError) -> Fault {
    Fault::new(
        reasons::of_category(error.category()),
        error.without_replica(),
    )
}

/// How an object stands on all replicas. Where a foundation fails, it fails for all that is in the
/// workspace; what is only cleared away concerns none of it.
pub(crate) fn in_clickhouse(object: &ObjectKey, replicas: &[OnReplica]) -> InClickHouse {
    let mut found = InClickHouse::default();
    for replica in replicas {
        let name = replica.name.clone();
        let work = match &replica.work {
            Ok(work) => work,
            Err(fault) => {
                found.absent.insert(name, fault.clone());
                continue;
            }
        };
        let failures = work.failures.iter();
        let mut concerning = failures.filter(|failed| match failed.scope {
            Scope::Foundation => true,
            Scope::Object => failed.object == *object,
            Scope::Cleanup => false,
        });
        match concerning.next() {
            Some(failed) => {
                found.failures.insert(name, failed.fault.clone());
            }
            None => found.somewhere = true,
        }
    }
    found
}

/// What could not be cleared away, by replica; nothing if no replica could be worked with.
pub(crate) fn left_over(replicas: &[OnReplica]) -> Option<BTreeMap<String, Fault>> {
    let worked = replicas.iter().filter_map(|replica| {
        let failures = &replica.work.as_ref().ok()?.failures;
        let first = failures.iter().find(|it| it.scope == Scope::Cleanup);
        Some((replica.name.clone(), first.map(|it| it.fault.clone())))
    });
    let worked: Vec<_> = worked.collect();
    (!worked.is_empty()).then(|| {
        let failed = worked.into_iter();
        failed
            .filter_map(|(name, fault)| Some((name, fault?)))
            .collect()
    })
}

/// Rows in the quarantine of a data source, on the replica that has most of them: the others have
/// not fetched all yet. Nothing if no replica could be asked.
pub(crate) fn quarantined(data_source: &str, replicas: &[OnReplica]) -> Option<u64> {
    let asked = replicas.iter().filter_map(|one| one.work.as_ref().ok());
    asked
        .filter_map(|work| work.quarantined.get(data_source).copied())
        .max()
}

/// What the planner refuses, the same on all replicas that were asked.
pub(crate) fn refusals(replicas: &[OnReplica]) -> BTreeMap<ObjectKey, Fault> {
    let works = replicas
        .iter()
        .filter_map(|replica| replica.work.as_ref().ok());
    works
        .flat_map(|work| &work.refusals)
        .map(|refusal| {
            let fault = Fault::new(refusal.reason, refusal.message.clone());
            (refusal.object.clone(), fault)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, silent_replica};
    use aviary_plan::catalog::identifier;
    use futures::FutureExt;
    use std::sync::Arc;

    fn worked(name: &str, failures: Vec<Failed>) -> OnReplica {
        OnReplica {
            name: name.to_owned(),
            url: format!("http://{name}"),
            work: Ok(Work {
                done: Vec::new(),
                failures,
                refusals: Vec::new(),
                quarantined: BTreeMap::new(),
            }),
        }
    }

    fn failure(object: ObjectKey, scope: Scope) -> Vec<Failed> {
        let fault = Fault::new(Reason::ClickHouseRefused, "no");
        vec![Failed {
            object,
            scope,
            consented_by: None,
            fault,
        }]
    }

    #[tokio::test]
    async fn a_replica_that_falls_silent_is_waited_for_once_and_not_long() {
        let ((_first, first), (_second, second)) = (silent_replica().await, silent_replica().await);
        let replicas = [first, second];
        let executor = testing::executor();
        let well = &replicas[0].pulse;
        let database = &identifier("shop");
        let pass = || {
            on_each(&executor, &replicas, |connected| async move {
                if Arc::ptr_eq(&connected.pulse, well) {
                    return Ok(Look::default());
                }
                connected.replica.observe(database).await?;
                Ok(Look::default())
            })
        };
        let begun = Instant::now();
        let outcomes = pass().await;
        assert!(begun.elapsed() < OBSERVING / 2, "{:?}", begun.elapsed());
        assert!(outcomes[0].work.is_ok());
        let faults = |outcomes: &[OnReplica]| outcomes[1].work.as_ref().err().cloned();
        let fault = faults(&outcomes).unwrap();
        assert_eq!(fault.reason, Reason::ClickHouseUnreachable);
        assert!(replicas[1].pulse.is_down() && !replicas[0].pulse.is_down());
        let again = pass().now_or_never().unwrap();
        assert!(again[0].work.is_ok() && faults(&again).is_some());
    }

    #[test]
    fn a_failure_reaches_as_far_as_its_scope() {
        let source = |name: &str| ObjectKey::DataSource(name.to_owned());
        let stands = |object: ObjectKey, scope| {
            let replicas = [worked("r", failure(object, scope))];
            let objects = [ObjectKey::Workspace, source("a"), source("b")];
            let stand = |object| in_clickhouse(&object, &replicas).somewhere;
            (
                objects.map(stand),
                left_over(&replicas).is_some_and(|it| !it.is_empty()),
            )
        };
        let foundation = stands(ObjectKey::Workspace, Scope::Foundation);
        assert_eq!(foundation, ([false, false, false], false));
        let right = stands(ObjectKey::Workspace, Scope::Object);
        assert_eq!(right, ([false, true, true], false));
        let table = stands(source("a"), Scope::Object);
        assert_eq!(table, ([true, false, true], false));
        let clean_up = stands(ObjectKey::Workspace, Scope::Cleanup);
        assert_eq!(clean_up, ([true, true, true], true));
    }

    #[test]
    fn nothing_is_said_of_what_is_left_over_where_nobody_looked() {
        let away = OnReplica {
            work: Err(Fault::new(Reason::ClickHouseUnreachable, "away")),
            ..worked("r", Vec::new())
        };
        assert_eq!(left_over(&[away]), None);
        assert_eq!(left_over(&[worked("r", Vec::new())]), Some(BTreeMap::new()));
    }

    #[test]
    fn several_replicas_must_replicate() {
        let server = |replication| ServerFeatures {
            replication,
            ..ServerFeatures::default()
        };
        let refused = |replicas, replication| apart(replicas, "a", &server(replication)).is_some();
        assert!(refused(2, false));
        assert!(!refused(1, false));
        assert!(!refused(2, true));
    }
}

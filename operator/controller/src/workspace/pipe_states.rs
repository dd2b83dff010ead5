//! The third stage of a pass, which pipes are published: what changed is checked by ClickHouse as the user that will run it,
//! and only what passes replaces the last good revision.

use crate::fleet::{Connected, Lanes};
use crate::workspace::agenda::Verdict;
use crate::workspace::checks::{Consult, Desk, Question, Situation};
use crate::workspace::execute::Executed;
use crate::workspace::findings::Fault;
use crate::workspace::replicas::OnReplica;
use aviary_clickhouse::{PipeCheck, ReaderCredentials};
use aviary_crds::Pipe;
use aviary_crds::conditions::Reason;
use aviary_crds::published::{ClickHouseUser, PublishedPipe, ResultColumn};
use aviary_plan::model::ValidPipe;
use aviary_plan::{ObjectKey, WorkspaceModel};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a pipe stands after the pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PipeState {
    /// This is what the spec asks for.
    Good(PublishedPipe),
    /// Something is in the way; the last good revision stays.
    Bad(Fault),
    /// ClickHouse has not said yet; the last good revision stays.
    Checking,
}

/// What was executed, and how every pipe stands.
pub(crate) struct Checked {
    pub(crate) executed: Executed,
    pub(crate) pipe_states: BTreeMap<ObjectKey, PipeState>,
}

impl Checked {
    /// Nobody can be asked about pipes.
    pub(crate) fn nothing(executed: Executed) -> Self {
        Self {
            executed,
            pipe_states: BTreeMap::new(),
        }
    }
}

/// Who is asked about pipes, and as whom.
pub(crate) struct Asked<'a> {
    pub(crate) replicas: &'a [Connected],
    pub(crate) reader: &'a ClickHouseUser,
    /// The places for checks on the cluster.
    pub(crate) lanes: Arc<Lanes>,
}

/// What checks need.
struct Checks<'a> {
    asked: &'a Asked<'a>,
    model: &'a WorkspaceModel,
    pipes: &'a [Arc<Pipe>],
    outcomes: &'a [OnReplica],
    /// Data sources, by name in SQL, that no replica has.
    lacking: &'a BTreeMap<String, Fault>,
}

/// Looks at every valid pipe of the workspace. What cannot be said at once is found out beside
/// this pass, and another one is asked for when it is known.
pub(crate) async fn check(asked: &Asked<'_>, executed: Executed, desk: &Arc<Desk>) -> Checked {
    if executed.observed.is_refused() {
        return Checked::nothing(executed);
    }
    let checks = Checks {
        asked,
        model: &executed.observed.model,
        pipes: &executed.observed.members.pipes,
        outcomes: &executed.outcomes,
        lacking: &executed.lacking(),
    };
    let pipe_states = check_all(&checks, desk).await;
    Checked {
        executed,
        pipe_states,
    }
}

async fn check_all(checks: &Checks<'_>, desk: &Arc<Desk>) -> BTreeMap<ObjectKey, PipeState> {
    let reached = || {
        checks
            .outcomes
            .iter()
            .filter(|outcome| outcome.work.is_ok())
    };
    let situation = Situation {
        pipes: checks.model.pipes.iter().map(|pipe| &*pipe.uid).collect(),
        reachable: reached().map(|outcome| outcome.name.clone()).collect(),
        has_changed: reached().any(|outcome| {
            let work = outcome.work.as_ref();
            work.is_ok_and(|work| !work.done.is_empty())
        }),
    };
    let look = |consult: Consult<'_>| {
        let pipes = checks.model.pipes.iter();
        pipes
            .map(|pipe| {
                let key = ObjectKey::Pipe(pipe.object.clone());
                (key, check_one(checks, pipe, consult))
            })
            .collect()
    };
    desk.attend(situation, look).await
}

fn check_one(checks: &Checks<'_>, pipe: &ValidPipe, consult: Consult<'_>) -> PipeState {
    let object = checks
        .pipes
        .iter()
        .find(|object| object.metadata.uid.as_deref() == Some(&pipe.uid));
    let generation = object.and_then(|object| object.metadata.generation);
    // A pipe without an endpoint has nothing in its status to go by.
    let known = last_good(object.map(|object| &**object)).filter(|_| pipe.has_endpoint);
    if let Some(known) = known.filter(|known| known.revision == pipe.revision) {
        return PipeState::Good(published(pipe, generation, known.columns));
    }
    let lacking = pipe
        .data_sources
        .iter()
        .find_map(|name| checks.lacking.get_key_value(name));
    if let Some((name, fault)) = lacking {
        let message = format!("data source `{name}` is not ready: {}", fault.message);
        return PipeState::Bad(Fault::new(Reason::DependencyNotReady, message));
    }
    match consult(&pipe.uid, &pipe.revision, &|| question(checks, pipe)) {
        Some(Verdict::Good(columns)) => PipeState::Good(published(pipe, generation, columns)),
        Some(Verdict::Bad { fault, unknown, .. }) => {
            let explained = object.zip(unknown).and_then(|(object, unknown)| {
                let message = checks.model.explain_unknown(object, &unknown)?;
                Some(Fault::new(fault.reason, message))
            });
            PipeState::Bad(explained.unwrap_or(fault))
        }
        None => PipeState::Checking,
    }
}

fn last_good(object: Option<&Pipe>) -> Option<PublishedPipe> {
    object?.status.as_ref()?.published.clone()
}

/// What to ask, and those who can be asked.
fn question(checks: &Checks<'_>, pipe: &ValidPipe) -> Question {
    let reached = checks.asked.replicas.iter().zip(checks.outcomes);
    let reached = reached.filter(|(_, outcome)| outcome.work.is_ok());
    Question {
        check: PipeCheck {
            database: checks.model.database.clone(),
            reader: ReaderCredentials {
                user: checks.asked.reader.name.clone(),
                password: checks.asked.reader.password.clone(),
            },
            renderings: pipe.renderings(),
        },
        replicas: reached.map(|(one, _)| one.clone()).collect(),
        lanes: checks.asked.lanes.clone(),
    }
}

fn published(
    pipe: &ValidPipe,
    generation: Option<i64>,
    columns: Vec<ResultColumn>,
) -> PublishedPipe {
    PublishedPipe {
        name: pipe.name.clone(),
        revision: pipe.revision.clone(),
        generation: generation.unwrap_or_default(),
        template: pipe.template.clone(),
        description: pipe.description.clone(),
        columns,
    }
}

//! Which pipes are published: what changed is checked by ClickHouse as the user that will run it,
//! and only what passes replaces the last good revision.

use crate::cluster::Connected;
use crate::workspace::findings::Fault;
use crate::workspace::replicas::OnReplica;
use aviary_clickhouse::{PipeError, ReaderCredentials};
use aviary_crds::Pipe;
use aviary_crds::conditions::Reason;
use aviary_crds::published::{ClickHouseUser, PublishedPipe, ResultColumn};
use aviary_plan::model::ValidPipe;
use aviary_plan::{ObjectKey, WorkspaceModel};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a pipe stands after the pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This is what the spec asks for.
    Good(PublishedPipe),
    /// Something is in the way; the last good revision stays.
    Bad { fault: Fault, reader_refused: bool },
}

impl Standing {
    fn bad(fault: Fault) -> Self {
        Self::Bad {
            fault,
            reader_refused: false,
        }
    }
}

/// What is known of a workspace from one pass to the next, and lost with the process.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<String, Remembered>>);

#[derive(Default)]
pub(crate) struct Remembered {
    /// Pipes without an endpoint that were found good, by uid, so that they are not asked about
    /// again. Those with one are remembered in their status.
    good_pipes: HashMap<String, PublishedPipe>,
    /// ClickHouse refused the reader's password, although it should know it.
    pub(crate) credentials_refused: bool,
}

impl Memory {
    /// What is remembered of a workspace, to be put back by the one pass that works on it.
    pub(crate) fn take(&self, workspace_uid: &str) -> Remembered {
        self.lock().remove(workspace_uid).unwrap_or_default()
    }

    pub(crate) fn put(&self, workspace_uid: &str, remembered: Remembered) {
        if remembered.credentials_refused || !remembered.good_pipes.is_empty() {
            self.lock().insert(workspace_uid.to_owned(), remembered);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What checks need.
pub(crate) struct Checks<'a> {
    pub(crate) model: &'a WorkspaceModel,
    pub(crate) pipes: &'a [Arc<Pipe>],
    pub(crate) replicas: &'a [Connected],
    pub(crate) outcomes: &'a [OnReplica],
    pub(crate) reader: &'a ClickHouseUser,
    /// Data sources, by name in SQL, that no replica has.
    pub(crate) lacking: &'a BTreeMap<String, Fault>,
}

/// Looks at every valid pipe of the workspace.
pub(crate) async fn stand(
    checks: &Checks<'_>,
    mut known: Remembered,
) -> (BTreeMap<ObjectKey, Standing>, Remembered) {
    let mut standings = BTreeMap::new();
    let mut remembered = Remembered::default();
    for pipe in &checks.model.pipes {
        let standing = stand_one(checks, pipe, known.good_pipes.remove(&pipe.uid)).await;
        match &standing {
            Standing::Good(good) if !pipe.has_endpoint => {
                remembered.good_pipes.insert(pipe.uid.clone(), good.clone());
            }
            Standing::Good(_) => {}
            Standing::Bad { reader_refused, .. } => {
                remembered.credentials_refused |= reader_refused;
            }
        }
        standings.insert(ObjectKey::Pipe(pipe.object.clone()), standing);
    }
    (standings, remembered)
}

async fn stand_one(
    checks: &Checks<'_>,
    pipe: &ValidPipe,
    remembered: Option<PublishedPipe>,
) -> Standing {
    let object = checks
        .pipes
        .iter()
        .find(|object| object.metadata.uid.as_deref() == Some(&pipe.uid));
    let generation = object.and_then(|object| object.metadata.generation);
    let known = if pipe.has_endpoint {
        last_good(object.map(|object| &**object))
    } else {
        remembered
    };
    if let Some(known) = known.filter(|known| known.revision == pipe.revision) {
        return Standing::Good(published(pipe, generation, known.columns));
    }
    let lacking = pipe
        .data_sources
        .iter()
        .find_map(|name| checks.lacking.get_key_value(name));
    if let Some((name, fault)) = lacking {
        let message = format!("data source `{name}` is not ready: {}", fault.message);
        return Standing::bad(Fault::new(Reason::DependencyNotReady, message));
    }
    match check(checks, pipe).await {
        Ok(columns) => Standing::Good(published(pipe, generation, columns)),
        Err(bad) => bad,
    }
}

fn last_good(object: Option<&Pipe>) -> Option<PublishedPipe> {
    object?.status.as_ref()?.published.clone()
}

/// Asks the first replica that can be asked.
async fn check(checks: &Checks<'_>, pipe: &ValidPipe) -> Result<Vec<ResultColumn>, Standing> {
    let reader = ReaderCredentials {
        user: checks.reader.name.clone(),
        password: checks.reader.password.clone(),
    };
    let mut last = Standing::bad(Fault::new(
        Reason::ClickHouseUnreachable,
        "no replica can be asked whether the SQL is right",
    ));
    let renderings = pipe.renderings();
    let reached = checks.replicas.iter().zip(checks.outcomes);
    for (Connected { replica, .. }, _) in reached.filter(|(_, outcome)| outcome.work.is_ok()) {
        let database = &checks.model.database;
        match replica.check_pipe(database, &reader, &renderings).await {
            Ok(columns) => return Ok(columns.into_iter().map(result_column).collect()),
            Err(error @ PipeError::NotAsked(_)) => last = bad(&error),
            Err(error) => return Err(bad(&error)),
        }
    }
    Err(last)
}

fn bad(error: &PipeError) -> Standing {
    let (reason, reader_refused) = match error {
        PipeError::Refused(_) => (Reason::ClickHouseRefused, false),
        // The next pass sets the reader's password again.
        PipeError::ReaderRefused(_) => (Reason::DependencyNotReady, true),
        PipeError::NotAsked(error) => (error.reason(), false),
        PipeError::NothingToCheck => (Reason::Invalid, false),
    };
    Standing::Bad {
        fault: Fault::new(reason, error.to_string()),
        reader_refused,
    }
}

fn result_column(column: aviary_clickhouse::ResultColumn) -> ResultColumn {
    ResultColumn {
        name: column.name,
        column_type: column.column_type,
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

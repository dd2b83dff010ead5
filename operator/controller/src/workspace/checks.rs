//! Asks ClickHouse about pipes, beside the passes: a pass waits a moment for what is quick, and
//! is asked for again when the rest is known. Nobody's change waits for a check of another.

use crate::fleet::{Connected, Lanes};
use crate::reasons;
use crate::workspace::agenda::{Agenda, Lane, Ticket, Verdict};
use crate::workspace::findings::Fault;
use aviary_clickhouse::{PipeCheck, PipeError};
use aviary_crds::conditions::Reason;
use aviary_crds::published::ResultColumn;
use aviary_runtime::ObjectName;
use aviary_runtime::dispatch::Requests;
use futures::FutureExt;
use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a pass waits for checks that it wished for.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a first try may take.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// How long a check may take at all.
const LONGEST: Duration = Duration::from_mins(2);

/// What there is to ask about a pipe, and whom.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) check: PipeCheck,
    /// The first that answers will do.
    pub(crate) replicas: Vec<Connected>,
    pub(crate) lanes: Arc<Lanes>,
}

/// What is known of every workspace's pipes, by the workspace's uid, and lost with the process.
pub(crate) struct Checker {
    workspaces: Requests<ObjectName>,
    longest_pause: Duration,
    desks: Mutex<HashMap<String, Arc<Desk>>>,
}

impl Checker {
    /// `workspaces` is asked when there is news of one; what is bad is looked at again after
    /// three quarters of the interval, which the passes on the timer are never closer than.
    pub(crate) fn new(workspaces: Requests<ObjectName>, resync_interval: Duration) -> Self {
        Self {
            workspaces,
            longest_pause: resync_interval.mul_f64(0.75),
            desks: Mutex::default(),
        }
    }

    /// The checks of a workspace.
    pub(crate) fn desk(&self, uid: &str, workspace: &ObjectName) -> Arc<Desk> {
        let new = || {
            Arc::new(Desk {
                workspace: workspace.clone(),
                workspaces: self.workspaces.clone(),
                state: Mutex::new(DeskState {
                    agenda: Agenda::new(self.longest_pause),
                    reachable: BTreeSet::new(),
                    is_attended: false,
                }),
                news: Notify::new(),
            })
        };
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.entry(uid.to_owned()).or_insert_with(new).clone()
    }

    /// The workspace is gone.
    pub(crate) fn forget(&self, uid: &str) {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.remove(uid);
    }
}

/// The checks of one workspace.
pub(crate) struct Desk {
    workspace: ObjectName,
    workspaces: Requests<ObjectName>,
    state: Mutex<DeskState>,
    /// Woken when a check is over.
    news: Notify,
}

pub(crate) struct DeskState {
    agenda: Agenda<Question>,
    /// The replicas that could be asked when a pass last looked.
    reachable: BTreeSet<String>,
    /// Whether a pass is here and will see for itself what comes.
    is_attended: bool,
}

/// Tells what is known of a revision of the pipe with this uid, or has it found out.
pub(crate) type Consult<'a> =
    &'a mut dyn FnMut(&str, &str, &dyn Fn() -> Question) -> Option<Verdict>;

/// What a pass found, on which answers depend.
pub(crate) struct Situation<'a> {
    pub(crate) pipes: BTreeSet<&'a str>,
    pub(crate) reachable: BTreeSet<String>,
    /// Whether the pass changed something in ClickHouse.
    pub(crate) has_changed: bool,
}

impl Desk {
    /// Whether ClickHouse refused the reader's password, although it should know it.
    pub(crate) fn reader_is_refused(&self) -> bool {
        self.lock().agenda.reader_is_refused(Instant::now())
    }

    /// Looks at every pipe with `look`, waits a moment for what that wishes for, and looks again.
    pub(crate) async fn attend<Looked>(
        self: &Arc<Self>,
        situation: Situation<'_>,
        look: impl Fn(Consult<'_>) -> Looked,
    ) -> Looked {
        let before = {
            let state = &mut *self.lock();
            if situation.has_changed || state.reachable != situation.reachable {
                state.agenda.reconsider(Instant::now());
            }
            state.reachable = situation.reachable;
            state.agenda.retain(&situation.pipes);
            state.is_attended = true;
            let wishes = state.agenda.wishes();
            let looked = state.look(&look);
            if !state.agenda.is_open_since(wishes) {
                state.is_attended = false;
                return looked;
            }
            wishes
        };
        self.start();
        let _ = tokio::time::timeout(PATIENCE, self.answers_since(before)).await;
        let state = &mut *self.lock();
        state.is_attended = false;
        state.look(&look)
    }

    /// Waits until all is answered that was wished for after so many wishes.
    async fn answers_since(&self, wishes: u64) {
        loop {
            let mut news = pin!(self.news.notified());
            news.as_mut().enable();
            if !self.lock().agenda.is_open_since(wishes) {
                return;
            }
            news.await;
        }
    }

    /// Starts what there is a place for.
    fn start(self: &Arc<Self>) {
        while let Some((ticket, question)) = {
            let mut state = self.lock();
            state.agenda.start()
        } {
            tokio::spawn(self.clone().check(ticket, question));
        }
    }

    async fn check(self: Arc<Self>, mut ticket: Ticket, question: Question) {
        let checked = self.run(&mut ticket, &question);
        let checked = AssertUnwindSafe(checked).catch_unwind().await;
        let is_over = {
            let state = &mut *self.lock();
            match checked.unwrap_or_else(|_| Some(broken_off())) {
                Some(verdict) => {
                    state.agenda.finish(&ticket, verdict, Instant::now());
                    if !state.is_attended {
                        self.workspaces.request(self.workspace.clone());
                    }
                    true
                }
                None => {
                    state.agenda.put_back(&ticket, question);
                    false
                }
            }
        };
        if is_over {
            self.news.notify_waiters();
        }
        self.start();
    }

    /// The verdict, or nothing if the check must be made again in the other lane.
    async fn run(self: &Arc<Self>, ticket: &mut Ticket, question: &Question) -> Option<Verdict> {
        let lanes = &question.lanes;
        let mut asking = pin!(question.ask());
        if ticket.lane == Lane::First {
            // Semaphores are never closed; were they, a check would only lack its bound.
            let place = lanes.first.acquire().await.ok();
            if let Ok(verdict) = tokio::time::timeout(FIRST_TRY, &mut asking).await {
                return Some(verdict);
            }
            drop(place);
            let _place = lanes.long.try_acquire().ok()?;
            if !self.lock().agenda.overruns(ticket) {
                return None;
            }
            self.start();
            return Some(in_time(asking).await);
        }
        let _place = lanes.long.acquire().await.ok();
        Some(in_time(asking).await)
    }

    fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeskState {
    fn look<Looked>(&mut self, look: &impl Fn(Consult<'_>) -> Looked) -> Looked {
        let now = Instant::now();
        look(&mut |uid, revision, question| self.agenda.consult(uid, revision, now, question))
    }
}

async fn in_time(asking: impl Future<Output = Verdict>) -> Verdict {
    let asked = tokio::time::timeout(LONGEST, asking).await;
    asked.unwrap_or_else(|_| {
        let seconds = LONGEST.as_secs();
        bad(
            Reason::ClickHouseBusy,
            format!("ClickHouse could not check the SQL within {seconds} s: look for a subquery that takes long"),
        )
    })
}

impl Question {
    /// Asks one replica after another, until one answers.
    async fn ask(&self) -> Verdict {
        let mut last = bad(
            Reason::ClickHouseUnreachable,
            "no replica can be asked whether the SQL is right",
        );
        for (index, connected) in self.replicas.iter().enumerate() {
            let is_last = index + 1 == self.replicas.len();
            let asked = connected.replica.check_pipe(&self.check);
            let answer = tokio::select! {
                answer = asked => answer,
                // It fell silent after the pass had worked with it, and another can be asked.
                () = connected.until_silent(), if !is_last => continue,
            };
            match answer {
                Ok(columns) => {
                    return Verdict::Good(columns.into_iter().map(result_column).collect());
                }
                Err(error @ (PipeError::NotAsked(_) | PipeError::Slow { .. })) => {
                    last = refused(&error);
                }
                Err(error) => return refused(&error),
            }
        }
        last
    }
}

fn refused(error: &PipeError) -> Verdict {
    let (reason, reader_refused) = match error {
        PipeError::Refused(_) => (Reason::ClickHouseRefused, false),
        // The next pass sets the reader's password again.
        PipeError::ReaderRefused(_) => (Reason::DependencyNotReady, true),
        PipeError::Slow { .. } => (Reason::ClickHouseBusy, false),
        PipeError::NotAsked(error) => (reasons::of_category(error.category()), false),
        PipeError::NothingToCheck => (Reason::Invalid, false),
    };
    let unknown = match error {
        PipeError::Refused(refusal) => refusal.unknown(),
        _ => None,
    };
    Verdict::Bad {
        fault: Fault::new(reason, error.to_string()),
        reader_refused,
        unknown,
    }
}

fn bad(reason: Reason, message: impl Into<String>) -> Verdict {
    Verdict::Bad {
        fault: Fault::new(reason, message),
        reader_refused: false,
        unknown: None,
    }
}

/// For a check that panicked.
fn broken_off() -> Verdict {
    bad(
        Reason::Unknown,
        "the check ended by itself, which is a fault of the operator; its log says more",
    )
}

fn result_column(column: aviary_clickhouse::ResultColumn) -> ResultColumn {
    ResultColumn {
        name: column.name,
        column_type: column.column_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, silent_replica};
    use aviary_clickhouse::ReaderCredentials;
    use aviary_plan::{LastPublished, WorkspaceObjects};
    use serde_json::json;
    use tokio::sync::Semaphore;

    fn question(replicas: Vec<Connected>) -> Question {
        let nodes = json!([{ "name": "n", "sql": "SELECT 1" }]);
        let spec = json!({ "workspace": "orders", "nodes": nodes, "endpoint": { "node": "n" } });
        let objects = WorkspaceObjects {
            workspace: Arc::new(object(
                "Workspace",
                "orders",
                json!({ "clusterRef": { "name": "shared" } }),
            )),
            data_sources: Vec::new(),
            pipes: vec![Arc::new(object("Pipe", "p", spec))],
            access_tokens: Vec::new(),
        };
        let model = aviary_plan::model(&objects, &LastPublished::default());
        Question {
            check: PipeCheck {
                database: model.database.clone(),
                reader: ReaderCredentials {
                    user: "reader".to_owned(),
                    password: String::new().into(),
                },
                renderings: model.pipes[0].renderings(),
            },
            replicas,
            lanes: Arc::new(Lanes {
                first: Semaphore::new(16),
                long: Semaphore::new(8),
            }),
        }
    }

    #[tokio::test]
    async fn a_pass_does_not_wait_for_checks_that_hang() {
        let (_listener, replica) = silent_replica().await;
        let question = question(vec![replica]);
        let checker = Checker::new(Requests::channel().0, Duration::from_mins(5));
        let desk = checker.desk("uid", &ObjectName::new("shop", "orders"));
        let uids: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let situation = || Situation {
            pipes: uids.iter().map(String::as_str).collect(),
            reachable: BTreeSet::from(["a".to_owned()]),
            has_changed: false,
        };
        let look = |consult: Consult<'_>| -> usize {
            let known = uids
                .iter()
                .filter_map(|uid| consult(uid, "1", &|| question.clone()));
            known.count()
        };
        let begun = Instant::now();
        assert_eq!(desk.attend(situation(), look).await, 0);
        let first = begun.elapsed();
        assert!(first < PATIENCE * 4, "{first:?}");
        // Nothing new is wished for: the next pass does not wait at all.
        let begun = Instant::now();
        assert_eq!(desk.attend(situation(), look).await, 0);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_check_goes_on_to_the_next_replica_where_one_has_fallen_silent() {
        let ((_first, first), (_second, second)) = (silent_replica().await, silent_replica().await);
        let question = question(vec![first.clone(), second.clone()]);
        let given_up = async {
            tokio::select! {
                verdict = question.ask() => panic!("{verdict:?}"),
                () = first.pulse.until_down() => {}
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(15), given_up);
        in_time.await.unwrap();
        assert!(!second.pulse.is_down());
    }
}

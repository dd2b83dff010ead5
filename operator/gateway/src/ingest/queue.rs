//! Group commit: blocks that wait while ClickHouse is busy with others go
//! together in the next INSERT.
//!
//! An idle queue sends at once, so a single event waits for nothing; a busy one
//! makes few large INSERTs out of many small requests, which is what ClickHouse
//! wants. Nobody is answered before the INSERT that holds their rows is.

use super::block::Block;
use super::deduplication_token::DeduplicationToken;
use super::poison::isolate;
use super::store::{LandingWrite, Store, StoreError};
use crate::memory::Reservation;
use crate::upstream::{Blame, Replica};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// INSERTs at once for one data source. The second is for full blocks only: while
/// ClickHouse works on one, the other travels.
const MOST_FLUSHES: usize = 2;
/// Imports in one INSERT, which is also how many are asked about in one query.
const MOST_IMPORTS: usize = 1000;

/// What a block that is stored adds to what is known of its import.
#[derive(Clone)]
pub(super) enum Stored {
    /// None of its rows is in quarantine.
    Whole,
    /// So many rows of the import, from this block and those before it, are in
    /// quarantine at this replica.
    Quarantined(u64, Arc<Replica>),
    /// Some may be, and how many could not be told.
    Uncounted,
}

type Outcome = Result<Stored, StoreError>;

/// The blocks of one data source that wait to be stored.
pub(super) struct Queue {
    store: Arc<Store>,
    full: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    flushes: usize,
}

struct Waiting {
    block: Block,
    /// The name it is written under, if it may come again; then it goes alone.
    token: Option<DeduplicationToken>,
    member: Member,
}

/// Somebody who waits for an INSERT.
struct Member {
    import_id: String,
    done: oneshot::Sender<Outcome>,
    /// The memory of the block, given back when it is stored.
    _memory: Reservation,
}

/// Blocks that go together.
struct Group {
    block: Block,
    token: DeduplicationToken,
    /// In the order of their rows.
    members: Vec<Member>,
}

/// What was found out of the imports that went through the landing.
#[derive(Default)]
struct QuarantineCounts(HashMap<String, Stored>);

impl QuarantineCounts {
    /// Adds what the quarantine has of some imports by now; all of it, so the last count counts.
    fn add(&mut self, landed: &LandingWrite, counts: Option<&HashMap<String, u64>>) {
        for import_id in &landed.imports {
            let stored = match (counts, &landed.replica) {
                (Some(counts), Some(replica)) => {
                    let count = counts.get(import_id).copied().unwrap_or(0);
                    Stored::Quarantined(count, Arc::clone(replica))
                }
                _ => Stored::Uncounted,
            };
            self.0.insert(import_id.clone(), stored);
        }
    }

    fn of(&self, import_id: &str) -> Stored {
        self.0.get(import_id).cloned().unwrap_or(Stored::Whole)
    }
}

impl Queue {
    pub(super) fn new(store: Arc<Store>, full: usize) -> Arc<Self> {
        Arc::new(Self {
            store,
            full,
            state: Mutex::default(),
        })
    }

    /// Queues a block; the receiver learns what became of it.
    pub(super) fn submit(
        self: &Arc<Self>,
        block: Block,
        token: Option<DeduplicationToken>,
        memory: Reservation,
    ) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        let import_id = block.imports().next().unwrap_or_default().to_owned();
        let goes_alone = token.is_some();
        let mut state = self.state();
        state.waiting_bytes += block.size();
        state.waiting.push(Waiting {
            block,
            token,
            member: Member {
                import_id,
                done,
                _memory: memory,
            },
        });
        let room = match state.flushes {
            0 => true,
            1..MOST_FLUSHES => goes_alone || state.waiting_bytes >= self.full,
            _ => false,
        };
        if room {
            state.flushes += 1;
            Flush::start(self, &Handle::current());
        }
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores blocks in one INSERT, and tells those who wait. If ClickHouse blames a row, the imports
    /// are halved until the others are stored without it.
    async fn store_group(&self, group: Group) {
        let mut groups = vec![group];
        while let Some(mut group) = groups.pop() {
            let outcome = self.store.insert(&mut group.block, &group.token).await;
            let outcome = match outcome {
                Err(error) if error.is_for_a_row() && group.members.len() > 1 => {
                    let (first, second) = group.halves();
                    groups.extend([second, first]);
                    continue;
                }
                Err(StoreError::Refused(exception)) if exception.blame() == Blame::Row => {
                    isolate(&self.store, group.block.take(), &group.token, exception).await
                }
                landed => landed.map(Vec::from_iter),
            };
            group.tell(self.find(outcome).await);
        }
    }

    /// What became of rows of which some went to the landing.
    async fn find(
        &self,
        outcome: Result<Vec<LandingWrite>, StoreError>,
    ) -> Result<QuarantineCounts, StoreError> {
        let landed = outcome.inspect_err(|error| {
            tracing::warn!(table = self.store.table(), %error, "rows are not stored");
        })?;
        let mut found = QuarantineCounts::default();
        for landed in landed {
            let counts = self.store.quarantined(&landed).await;
            if counts.is_none() {
                tracing::warn!(
                    table = self.store.table(),
                    "rows are stored, and their quarantine cannot be counted"
                );
            }
            found.add(&landed, counts.as_ref());
        }
        Ok(found)
    }

    /// The blocks of the next INSERT; nothing when none wait.
    fn next_group(&self, state: &mut State) -> Option<Group> {
        let mut size = 0;
        let together = state
            .waiting
            .iter()
            .take(MOST_IMPORTS)
            .take_while(|waiting| {
                let room = waiting.token.is_none() && size < self.full;
                size += waiting.block.size();
                room
            });
        // One that goes alone does not go with others.
        let count = together.count().max(1).min(state.waiting.len());
        let mut taken = state.waiting.drain(..count);
        let Waiting {
            block,
            token,
            member,
        } = taken.next()?;
        let mut group = Group {
            block,
            token: token.unwrap_or_else(DeduplicationToken::random),
            members: vec![member],
        };
        let mut size = group.block.size();
        for Waiting { block, member, .. } in taken {
            size += block.size();
            group.block.append(block);
            group.members.push(member);
        }
        state.waiting_bytes -= size;
        Some(group)
    }
}

impl Group {
    /// The first half of those who wait with their rows, and the second.
    fn halves(mut self) -> (Self, Self) {
        let second = self.members.split_off(self.members.len() / 2);
        let rows = self.members.iter();
        let rows = rows
            .map(|member| self.block.rows_of(&member.import_id))
            .sum();
        let (before, after) = self.block.split_at(rows);
        let group = |block, members| Self {
            block,
            token: DeduplicationToken::random(),
            members,
        };
        (group(before, self.members), group(after, second))
    }

    fn tell(self, outcome: Result<QuarantineCounts, StoreError>) {
        for member in self.members {
            let own = outcome
                .as_ref()
                .map_err(StoreError::clone)
                .map(|found| found.of(&member.import_id));
            // A client that left does not want to know.
            let _ = member.done.send(own);
        }
    }
}

/// Stores what waits until nothing does. Whatever becomes of its task, it does not count among the
/// flushes any longer than it is there, or the queue would wait for it for ever.
struct Flush(Option<Arc<Queue>>);

impl Flush {
    fn start(queue: &Arc<Queue>, runtime: &Handle) {
        runtime.spawn(Self(Some(Arc::clone(queue))).run());
    }

    async fn run(mut self) {
        while let Some((queue, group)) = self.next_group() {
            queue.store_group(group).await;
        }
    }

    /// The blocks to store next. To find none and to end is one, or a block that comes between
    /// would wait for nobody.
    fn next_group(&mut self) -> Option<(Arc<Queue>, Group)> {
        let queue = self.0.take()?;
        let mut state = queue.state();
        let Some(group) = queue.next_group(&mut state) else {
            state.flushes -= 1;
            return None;
        };
        drop(state);
        self.0 = Some(Arc::clone(&queue));
        Some((queue, group))
    }
}

/// Only a task that ends before its work does gets here with its queue: it panicked, or its thread
/// ends. In the first case another takes its place; in the second, the next block starts one.
impl Drop for Flush {
    fn drop(&mut self) {
        let Some(queue) = self.0.take() else {
            return;
        };
        let mut state = queue.state();
        let goes_on = std::thread::panicking() && !state.waiting.is_empty();
        if !goes_on {
            state.flushes -= 1;
            return;
        }
        drop(state);
        Self::start(&queue, &Handle::current());
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::testing::layout;
    use super::super::store::Destination;
    use super::*;
    use crate::memory::{Budget, STEP};
    use crate::upstream::{Authorization, Replicas};
    use aviary_crds::data_source::CsvDialect;
    use aviary_crds::published::PublishedDataSource;
    use prometheus_client::metrics::gauge::Gauge;
    use std::time::Duration;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn block() -> Block {
        let mut block = Block::new(layout(0), "import");
        block.end_row(b"");
        block
    }

    fn memory() -> Reservation {
        let budget = Budget::new(STEP * 2, Gauge::default());
        budget.share().try_reserve(0).unwrap()
    }

    #[test]
    fn a_flush_whose_thread_ends_keeps_nobody_waiting() {
        let destination = Destination {
            database: "shop".to_owned(),
            published: PublishedDataSource {
                name: "sales".to_owned(),
                columns: Vec::new(),
                csv: CsvDialect::default(),
            },
            replicas: Arc::new(Replicas::new(Vec::new())),
            writer: Authorization::basic("writer", &"".into()),
        };
        let store = Arc::new(Store::new(
            &destination,
            Duration::from_secs(1),
            Duration::from_secs(1),
        ));
        let queue = Queue::new(store, 1);
        let ending = runtime();
        let first = {
            let _on_it = ending.enter();
            queue.submit(block(), None, memory())
        };
        drop(ending);
        let outcomes = runtime().block_on(async {
            let second = queue.submit(block(), None, memory());
            (first.await, second.await)
        });
        for outcome in [outcomes.0, outcomes.1] {
            assert!(matches!(outcome, Ok(Err(StoreError::Away))));
        }
        assert_eq!(queue.state().flushes, 0);
    }
}

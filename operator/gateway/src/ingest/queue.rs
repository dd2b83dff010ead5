//! Group commit: blocks that wait while ClickHouse is busy with others go
//! together in the next INSERT.
//!
//! An idle queue sends at once, so a single event waits for nothing; a busy one
//! makes few large INSERTs out of many small requests, which is what ClickHouse
//! wants. Nobody is answered before the INSERT that holds their rows is.

use super::block::Block;
use super::store::{Store, StoreError};
use crate::memory::Held;
use crate::upstream::Replica;
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
    /// The memory of the block, given back when it is stored.
    memory: Held,
    done: oneshot::Sender<Outcome>,
}

/// What was found out of the imports that went through the landing.
#[derive(Default)]
struct Found(HashMap<String, Stored>);

impl Found {
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
        memory: Held,
    ) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        let mut state = self.state();
        state.waiting_bytes += block.size();
        state.waiting.push(Waiting {
            block,
            memory,
            done,
        });
        let room = match state.flushes {
            0 => true,
            1..MOST_FLUSHES => state.waiting_bytes >= self.full,
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

    /// Stores blocks in one INSERT, and tells those who wait.
    async fn store_group(&self, group: Vec<Waiting>) {
        let mut senders = Vec::with_capacity(group.len());
        let mut blocks = group.into_iter().map(|waiting| {
            let import_id = waiting
                .block
                .imports()
                .next()
                .unwrap_or_default()
                .to_owned();
            senders.push((import_id, waiting.done, waiting.memory));
            waiting.block
        });
        let Some(mut block) = blocks.next() else {
            return;
        };
        blocks.for_each(|more| block.append(more));
        let outcome = self.store(block).await;
        for (import_id, done, _memory) in senders {
            let own = outcome
                .as_ref()
                .map_err(StoreError::clone)
                .map(|found| found.of(&import_id));
            // A client that left does not want to know.
            let _ = done.send(own);
        }
    }

    async fn store(&self, block: Block) -> Result<Found, StoreError> {
        let landed = self.store.insert(block).await.inspect_err(|error| {
            tracing::warn!(table = self.store.table(), %error, "rows are not stored");
        })?;
        let Some(landed) = landed else {
            return Ok(Found::default());
        };
        let counts = self.store.quarantined(&landed).await;
        if counts.is_none() {
            tracing::warn!(
                table = self.store.table(),
                "rows are stored, and their quarantine cannot be counted"
            );
        }
        let imports = landed.imports.into_iter().map(|import_id| {
            let stored = counts.as_ref().map_or(Stored::Uncounted, |counts| {
                let count = counts.get(&import_id).copied().unwrap_or(0);
                Stored::Quarantined(count, Arc::clone(&landed.replica))
            });
            (import_id, stored)
        });
        Ok(Found(imports.collect()))
    }

    /// The blocks of the next INSERT; nothing when none wait.
    fn next_group(&self, state: &mut State) -> Option<Vec<Waiting>> {
        if state.waiting.is_empty() {
            return None;
        }
        let mut size = 0;
        let count = state
            .waiting
            .iter()
            .take(MOST_IMPORTS)
            .take_while(|waiting| {
                let room = size < self.full;
                size += waiting.block.size();
                room
            })
            .count();
        let group: Vec<Waiting> = state.waiting.drain(..count).collect();
        let taken: usize = group.iter().map(|waiting| waiting.block.size()).sum();
        state.waiting_bytes -= taken;
        Some(group)
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
    fn next_group(&mut self) -> Option<(Arc<Queue>, Vec<Waiting>)> {
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
    use super::super::IntakeParts;
    use super::super::block::testing::layout;
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

    fn memory() -> Held {
        let budget = Budget::new(STEP * 2, Gauge::default());
        budget.share().try_reserve(0).unwrap()
    }

    #[test]
    fn a_flush_whose_thread_ends_keeps_nobody_waiting() {
        let parts = IntakeParts {
            database: "shop".to_owned(),
            published: PublishedDataSource {
                name: "sales".to_owned(),
                columns: Vec::new(),
                csv: CsvDialect::default(),
            },
            replicas: Arc::new(Replicas::new(Vec::new())),
            writer: Authorization::basic("writer", &"".into()),
        };
        let store = Arc::new(Store::new(&parts, Duration::from_secs(1)));
        let queue = Queue::new(store, 1);
        let ending = runtime();
        let first = {
            let _on_it = ending.enter();
            queue.submit(block(), memory())
        };
        drop(ending);
        let outcomes = runtime().block_on(async {
            let second = queue.submit(block(), memory());
            (first.await, second.await)
        });
        for outcome in [outcomes.0, outcomes.1] {
            assert!(matches!(outcome, Ok(Err(StoreError::Away))));
        }
        assert_eq!(queue.state().flushes, 0);
    }
}

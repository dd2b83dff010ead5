//! What is counted of the requests with one set of labels. Each worker has its own numbers, so that
//! requests on different cores do not fetch memory from each other; they are added up when somebody
//! asks.

use crate::workers::PerWorker;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the histogram's buckets, in seconds. What takes longer has one, too.
pub(super) const BOUNDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// The statuses that most answers have.
const USUAL: [u16; 2] = [200, 202];

/// The requests with one set of labels.
pub(super) struct Series {
    workers: PerWorker<OfWorker>,
    /// How many had another status, which is rare: of all workers.
    others: Mutex<BTreeMap<u16, u64>>,
    rows: [AtomicU64; ROW_OUTCOMES.len()],
}

#[derive(Default)]
struct OfWorker {
    usual: [AtomicU64; USUAL.len()],
    /// How many took how long.
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// What became of rows that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowCounts {
    /// In the table.
    pub(crate) stored: u64,
    /// In quarantine.
    pub(crate) quarantined: u64,
    /// Neither, for sure.
    pub(crate) failed: u64,
    /// Sent, and ClickHouse did not say what became of them.
    pub(crate) unconfirmed: u64,
}

/// The names of these outcomes, in their order.
pub(super) const ROW_OUTCOMES: [&str; 4] = ["stored", "quarantined", "failed", "unconfirmed"];

/// How long requests took.
pub(super) struct Durations {
    /// How many took no longer than a bound, and longer than the one before it.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) count: u64,
    pub(super) seconds: f64,
}

impl Series {
    pub(super) fn new() -> Self {
        Self {
            workers: PerWorker::new(OfWorker::default),
            others: Mutex::default(),
            rows: Default::default(),
        }
    }

    /// Counts a request that has ended.
    pub(super) fn count(&self, status: u16, duration: Duration, rows: Option<RowCounts>) {
        let worker = self.workers.own();
        worker.observe(duration);
        match USUAL.iter().position(|usual| *usual == status) {
            Some(usual) => {
                worker.usual[usual].fetch_add(1, Ordering::Relaxed);
            }
            None => *self.others().entry(status).or_default() += 1,
        }
        if let Some(rows) = rows {
            let counts = [rows.stored, rows.quarantined, rows.failed, rows.unconfirmed];
            for (total, count) in self.rows.iter().zip(counts) {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// How many requests had which status; 200 is always among them.
    pub(super) fn answered(&self) -> Vec<(u16, u64)> {
        let usual = USUAL.iter().enumerate().map(|(usual, status)| {
            let count = self.sum(|worker| &worker.usual[usual]);
            (*status, count)
        });
        let mut answered: Vec<_> = usual
            .filter(|(status, count)| *status == 200 || *count > 0)
            .collect();
        answered.extend(
            self.others()
                .iter()
                .map(|(status, count)| (*status, *count)),
        );
        answered
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<u16, u64>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn durations(&self) -> Durations {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]).enumerate();
        let buckets: Vec<(f64, u64)> = bounds
            .map(|(bucket, bound)| (bound, self.sum(|worker| &worker.durations[bucket])))
            .collect();
        let nanoseconds = self.sum(|worker| &worker.nanoseconds);
        Durations {
            count: buckets.iter().map(|(_, count)| count).sum(),
            seconds: Duration::from_nanos(nanoseconds).as_secs_f64(),
            buckets,
        }
    }

    /// What became of rows, in the order of [`ROW_OUTCOMES`].
    pub(super) fn rows(&self) -> [u64; ROW_OUTCOMES.len()] {
        self.rows
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }

    fn sum(&self, of: impl Fn(&OfWorker) -> &AtomicU64) -> u64 {
        let workers = self.workers.iter();
        workers
            .map(|worker| of(worker).load(Ordering::Relaxed))
            .sum()
    }
}

impl OfWorker {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

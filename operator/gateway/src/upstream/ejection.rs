//! When a replica is not asked for a while, because it failed at what others may do.
//!
//! A replica that is read-only, full or short of memory answers quickly, and would be asked again and
//! again; one that closes connections or lets queries run over their limits is no better. After a few
//! failures in a row it is passed over for some seconds, and for longer every time it comes back no
//! better. It is still asked if all others are away or out as well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which a replica is out.
const FAILURES: u32 = 3;
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// How a replica did of late.
#[derive(Default)]
pub(super) struct Ejection {
    /// Whether there is anything to remember. Most replicas always do well, and this is all they
    /// are asked.
    failing: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    in_a_row: u32,
    out_until: Option<Instant>,
    /// How long it was out the last time.
    length: Duration,
}

impl Ejection {
    /// Notes a failure; until when the replica is out, if it was not before.
    pub(super) fn failed(&self, now: Instant) -> Option<Instant> {
        let mut record = self.record();
        self.failing.store(true, Ordering::Relaxed);
        record.in_a_row += 1;
        let is_out = record.out_until.is_some_and(|until| now < until);
        // One that comes back from being out has one try.
        let tries = if record.length.is_zero() { FAILURES } else { 1 };
        if is_out || record.in_a_row < tries {
            return None;
        }
        record.length = (record.length * 2).clamp(FIRST, LONGEST);
        record.out_until = Some(now + record.length);
        record.out_until
    }

    /// Notes a request that went well; whether the replica was out before.
    pub(super) fn did_well(&self) -> bool {
        if !self.failing.load(Ordering::Relaxed) {
            return false;
        }
        self.failing.store(false, Ordering::Relaxed);
        let record = std::mem::take(&mut *self.record());
        record.out_until.is_some()
    }

    /// Whether others should be asked first.
    pub(super) fn is_out(&self, now: Instant) -> bool {
        self.failing.load(Ordering::Relaxed)
            && self.record().out_until.is_some_and(|until| now < until)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_fails_is_out_for_longer_and_longer() {
        let ejection = Ejection::default();
        let mut now = Instant::now();
        assert_eq!([ejection.failed(now), ejection.failed(now)], [None, None]);
        assert!(!ejection.is_out(now));
        assert!(ejection.failed(now).is_some());
        for seconds in [5, 10, 20, 40, 60, 60] {
            assert!(ejection.is_out(now + Duration::from_millis(seconds * 1000 - 1)));
            now += Duration::from_secs(seconds);
            assert!(!ejection.is_out(now), "{seconds}");
            assert!(ejection.failed(now).is_some());
        }
        assert!(ejection.did_well());
        assert!(!ejection.is_out(now));
        assert_eq!(ejection.failed(now), None);
    }

    #[test]
    fn failures_apart_from_each_other_are_nothing() {
        let ejection = Ejection::default();
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!([ejection.failed(now), ejection.failed(now)], [None, None]);
            assert!(!ejection.did_well());
        }
    }
}

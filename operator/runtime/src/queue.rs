//! When each key is worked on: changes are gathered for a moment, a key runs
//! once at a time, failures wait longer and longer, and everything comes back.
//!
//! The queue is a plain struct that is told the time; [`crate::dispatch::dispatch`] drives it.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// What becomes of a key after its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// All is well: look again after this time.
    After(Duration),
    /// It failed: try again, each time later.
    Retry,
    /// There is nothing left to look after.
    Forget,
}

/// Timing of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long changes are gathered after the last of them.
    pub debounce: Duration,
    /// The pause after the first failure; it doubles with each further one.
    pub first_retry: Duration,
    /// The longest pause after failures.
    pub longest_retry: Duration,
}

/// A stream of changes that never pauses may put work off this many times the debounce.
const LONGEST_GATHERING: u32 = 5;

/// Keys and when they are due.
pub struct Queue<K> {
    timing: Timing,
    entries: HashMap<K, Entry>,
    waiting: BTreeSet<(Instant, K)>,
}

#[derive(Debug)]
struct Entry {
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Due at an instant; `changed` is when the first change since the last run came.
    Waiting {
        due: Instant,
        changed: Option<Instant>,
    },
    /// Being worked on; `changed` likewise, for the run after this one.
    Running { changed: Option<Instant> },
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// An empty queue.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            entries: HashMap::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// Something changed for this key.
    pub fn request(&mut self, key: K, now: Instant) {
        let gathered = now + self.timing.debounce;
        let Some(entry) = self.entries.get_mut(&key) else {
            self.wait(key, gathered, Some(now), 0);
            return;
        };
        match &mut entry.state {
            State::Running { changed } => {
                changed.get_or_insert(now);
            }
            State::Waiting { due, changed } => {
                let first = *changed.get_or_insert(now);
                let latest = first + self.timing.debounce * LONGEST_GATHERING;
                let (before, failures) = (*due, entry.failures);
                let after = if first == now {
                    before.min(gathered)
                } else {
                    gathered.min(latest)
                };
                self.waiting.remove(&(before, key.clone()));
                self.wait(key, after, Some(first), failures);
            }
        }
    }

    /// When [`Self::start`] has something next.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Takes the key that has been due longest; it runs until [`Self::finish`].
    pub fn start(&mut self, now: Instant) -> Option<K> {
        if self.next_due()? > now {
            return None;
        }
        let (_, key) = self.waiting.pop_first()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Running { changed: None };
        }
        Some(key)
    }

    /// The work on this key is over. `jitter` is from 0 to 1 and spreads what would come at once.
    pub fn finish(&mut self, key: K, next: Next, now: Instant, jitter: f64) {
        let Some(entry) = self.entries.remove(&key) else {
            return;
        };
        let changed = match entry.state {
            State::Running { changed } => changed,
            State::Waiting { .. } => None,
        };
        let (pause, failures) = match next {
            Next::After(pause) => (Some(spread(pause, jitter)), 0),
            Next::Retry => (
                Some(spread(self.retry_pause(entry.failures), jitter)),
                entry.failures.saturating_add(1),
            ),
            Next::Forget => (None, 0),
        };
        let gathered = changed.map(|_| now + self.timing.debounce);
        let due = match (gathered, pause) {
            // A change is not made to wait for the pause. The failures are kept: if it fails
            // again, the pause after that is the longer one.
            (Some(gathered), _) => gathered,
            (None, Some(pause)) => now + pause,
            (None, None) => return,
        };
        self.wait(key, due, changed, failures);
    }

    fn wait(&mut self, key: K, due: Instant, changed: Option<Instant>, failures: u32) {
        self.waiting.insert((due, key.clone()));
        self.entries.insert(
            key,
            Entry {
                state: State::Waiting { due, changed },
                failures,
            },
        );
    }

    fn retry_pause(&self, failures: u32) -> Duration {
        self.timing
            .first_retry
            .saturating_mul(2_u32.saturating_pow(failures.min(31)))
            .min(self.timing.longest_retry)
    }
}

/// From 80 % to 120 % of a pause.
fn spread(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    fn queue() -> Queue<&'static str> {
        Queue::new(Timing {
            debounce: Duration::from_millis(100),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_mins(1),
        })
    }

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn changes_are_gathered() {
        let (mut queue, start) = (queue(), Instant::now());
        queue.request("a", start);
        queue.request("a", start + milliseconds(50));
        assert_eq!(queue.start(start + milliseconds(149)), None);
        assert_eq!(queue.start(start + milliseconds(150)), Some("a"));
        assert_eq!(queue.start(start + milliseconds(150)), None);
    }

    #[test]
    fn changes_without_pause_do_not_put_work_off_for_ever() {
        let (mut queue, start) = (queue(), Instant::now());
        for step in 0..100 {
            queue.request("a", start + milliseconds(step * 20));
        }
        assert_eq!(queue.next_due(), Some(start + milliseconds(500)));
    }

    #[test]
    fn a_key_runs_once_at_a_time_and_sees_what_changed_meanwhile() {
        let (mut queue, start) = (queue(), Instant::now());
        queue.request("a", start);
        let running = start + milliseconds(100);
        assert_eq!(queue.start(running), Some("a"));
        queue.request("a", running + milliseconds(1));
        assert_eq!(queue.start(running + milliseconds(1000)), None);
        let finished = running + milliseconds(2000);
        queue.finish("a", Next::After(milliseconds(300_000)), finished, MIDDLE);
        assert_eq!(queue.start(finished + milliseconds(100)), Some("a"));
    }

    #[test]
    fn a_change_is_not_made_to_wait_for_the_next_look() {
        let (mut queue, start) = (queue(), Instant::now());
        queue.request("a", start);
        queue.start(start + milliseconds(100));
        queue.finish("a", Next::After(milliseconds(300_000)), start, MIDDLE);
        assert_eq!(queue.next_due(), Some(start + milliseconds(300_000)));
        queue.request("a", start + milliseconds(5000));
        assert_eq!(queue.next_due(), Some(start + milliseconds(5100)));
    }

    #[test]
    fn failures_wait_longer_each_time_until_one_run_is_clean() {
        let (mut queue, now) = (queue(), Instant::now());
        let mut pauses = Vec::new();
        for next in [Next::Retry, Next::Retry, Next::Retry] {
            queue.request("a", now);
            queue.start(now + milliseconds(1000));
            queue.finish("a", next, now, MIDDLE);
            pauses.push(queue.next_due().unwrap() - now);
        }
        assert_eq!(pauses, [1000, 2000, 4000].map(milliseconds));
        for _ in 0..40 {
            queue.request("a", now);
            queue.start(now + milliseconds(1000));
            queue.finish("a", Next::Retry, now, MIDDLE);
        }
        assert_eq!(queue.next_due(), Some(now + milliseconds(60_000)));
        queue.request("a", now);
        queue.start(now + milliseconds(1000));
        queue.finish("a", Next::After(milliseconds(10)), now, MIDDLE);
        queue.request("a", now);
        queue.start(now + milliseconds(1000));
        queue.finish("a", Next::Retry, now, MIDDLE);
        assert_eq!(queue.next_due(), Some(now + milliseconds(1000)));
    }

    #[test]
    fn jitter_spreads_by_a_fifth() {
        for (jitter, expected) in [(0.0, 800), (0.5, 1000), (1.0, 1200)] {
            assert_eq!(spread(milliseconds(1000), jitter), milliseconds(expected));
        }
    }

    #[test]
    fn what_is_forgotten_goes_unless_it_changed_meanwhile() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.request("a", now);
        queue.start(now + milliseconds(100));
        queue.finish("a", Next::Forget, now, MIDDLE);
        assert_eq!((queue.entries.len(), queue.next_due()), (0, None));

        queue.request("a", now);
        queue.start(now + milliseconds(100));
        queue.request("a", now);
        queue.finish("a", Next::Forget, now, MIDDLE);
        assert_eq!(queue.next_due(), Some(now + milliseconds(100)));
    }

    #[test]
    fn keys_do_not_hold_each_other_up() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.request("a", now);
        queue.request("b", now);
        let due = now + milliseconds(100);
        assert_eq!(queue.start(due), Some("a"));
        assert_eq!(queue.start(due), Some("b"));
    }
}

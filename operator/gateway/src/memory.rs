//! Memory that requests hold beyond the few kilobytes of their connection: a budget for
//! each use of it, and in each budget a share for every workspace.
//!
//! A workspace may hold as much as it leaves free. Alone it gets half of a budget; two get
//! a third each; and whoever holds nothing finds room at once, however much the others
//! want. Those who want more than their share wait for what they hold themselves.

use crate::error::ApiError;
use crate::error_code::ErrorCode;
use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Memory is counted in steps of this many bytes, so that growing seldom takes a lock.
pub(crate) const STEP: usize = 64 * 1024;
/// How long a request waits for its first memory: as long as a block takes to be stored, so that a
/// burst is not refused, and no longer, so that who is over hears of it at once.
const ADMISSION: Duration = Duration::from_secs(1);
/// How long a body that is being taken in waits for more, which slows its client down, before it is
/// refused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Memory for one use, of the whole gateway.
pub(crate) struct Budget {
    bytes: usize,
    state: Mutex<State>,
    /// What is held, for the metrics.
    gauge: Gauge,
}

#[derive(Default)]
struct State {
    held: usize,
    /// By the number of their share; a share without any is not there.
    waiting: BTreeMap<u64, VecDeque<Waiter>>,
}

struct Waiter {
    share: Arc<Share>,
    bytes: usize,
    granted: oneshot::Sender<Reservation>,
}

/// What a workspace may hold of a budget.
pub(crate) struct Share {
    budget: Arc<Budget>,
    number: u64,
    /// Changed under the budget's lock.
    held: AtomicUsize,
}

/// Counted memory. Dropping it gives it back.
pub(crate) struct Reservation {
    share: Arc<Share>,
    bytes: usize,
    /// Whether there were ever any: who has not begun is refused sooner than who would have to stop.
    begun: bool,
}

/// The share is in use.
#[derive(Debug, thiserror::Error)]
#[error("the workspace's share of the gateway's memory is in use")]
pub(crate) struct InUse;

impl From<InUse> for ApiError {
    fn from(in_use: InUse) -> Self {
        Self::new(
            ErrorCode::MemoryInUse,
            format!("{in_use}: try again, with fewer requests at once"),
        )
        .retry_after(Duration::from_secs(2))
    }
}

impl Budget {
    /// A budget of so many bytes; `gauge` shows how many are held.
    pub(crate) fn new(bytes: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            state: Mutex::default(),
            gauge,
        })
    }

    /// A share of it for one more workspace.
    pub(crate) fn share(self: &Arc<Self>) -> Arc<Share> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Share {
            budget: Arc::clone(self),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            held: AtomicUsize::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a share may hold so much more.
    fn has_room(&self, state: &State, share: &Share, more: usize) -> bool {
        let all = state.held.saturating_add(more);
        let own = share.held.load(Ordering::Relaxed).saturating_add(more);
        all <= self.bytes && own <= (self.bytes - all).max(STEP)
    }

    fn count(&self, state: &mut State, share: &Share, more: usize) {
        state.held += more;
        share.held.fetch_add(more, Ordering::Relaxed);
        self.gauge.set(state.held as i64);
    }

    fn give_back(&self, share: &Share, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state();
        state.held -= bytes;
        share.held.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.set(state.held as i64);
        self.serve_waiting(state);
    }

    fn enqueue(&self, waiter: Waiter, queue: fn(&mut VecDeque<Waiter>, Waiter)) {
        let mut state = self.state();
        queue(
            state.waiting.entry(waiter.share.number).or_default(),
            waiter,
        );
        // There may be room since it was looked for.
        self.serve_waiting(state);
    }

    /// Gives those who wait what there is room for, in each share in the order they came.
    fn serve_waiting(&self, mut state: MutexGuard<'_, State>) {
        let mut unwanted = Vec::new();
        let mut waiting = std::mem::take(&mut state.waiting);
        waiting.retain(|_, waiters| {
            while let Some(first) = waiters.front() {
                let gone = first.granted.is_closed();
                if !gone && !self.has_room(&state, &first.share, first.bytes) {
                    break;
                }
                let Some(first) = waiters.pop_front().filter(|_| !gone) else {
                    continue;
                };
                self.count(&mut state, &first.share, first.bytes);
                let held = first.share.held(first.bytes);
                // Who left in this very moment gives it back, which takes the lock.
                unwanted.extend(first.granted.send(held).err());
            }
            !waiters.is_empty()
        });
        state.waiting = waiting;
        drop(state);
        drop(unwanted);
    }
}

impl Share {
    /// The most that it can ever be.
    pub(crate) fn largest(&self) -> usize {
        (self.budget.bytes / 2).max(STEP)
    }

    /// Holds so many bytes, if there is room for them now.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, InUse> {
        let bytes = bytes.next_multiple_of(STEP);
        let mut state = self.budget.state();
        let first = !state.waiting.contains_key(&self.number);
        if !first || !self.budget.has_room(&state, self, bytes) {
            return Err(InUse);
        }
        self.budget.count(&mut state, self, bytes);
        Ok(self.held(bytes))
    }

    /// Holds the first bytes of a request, or as many as it can ever be, if there is room for them
    /// now or in a moment.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, InUse> {
        self.reserve_within(ADMISSION, bytes).await
    }

    /// The same with another patience.
    pub(crate) async fn reserve_within(
        self: &Arc<Self>,
        patience: Duration,
        bytes: usize,
    ) -> Result<Reservation, InUse> {
        let bytes = bytes.min(self.largest()).next_multiple_of(STEP);
        match self.try_reserve(bytes) {
            Ok(held) => Ok(held),
            Err(InUse) => self.wait(patience, bytes, VecDeque::push_back).await,
        }
    }

    /// Waits for more. Who holds some already is in the way of the others, and goes first.
    async fn reserve_more(self: &Arc<Self>, bytes: usize) -> Result<Reservation, InUse> {
        match self.try_reserve(bytes) {
            Ok(held) => Ok(held),
            Err(InUse) => self.wait(PATIENCE, bytes, VecDeque::push_front).await,
        }
    }

    async fn wait(
        self: &Arc<Self>,
        patience: Duration,
        bytes: usize,
        queue: fn(&mut VecDeque<Waiter>, Waiter),
    ) -> Result<Reservation, InUse> {
        let (granted, receiver) = oneshot::channel();
        let waiter = Waiter {
            share: Arc::clone(self),
            bytes: bytes.next_multiple_of(STEP),
            granted,
        };
        self.budget.enqueue(waiter, queue);
        let _leaving = Leaving(&self.budget);
        match timeout(patience, receiver).await {
            Ok(Ok(held)) => Ok(held),
            Ok(Err(_)) | Err(_) => Err(InUse),
        }
    }

    fn held(self: &Arc<Self>, bytes: usize) -> Reservation {
        Reservation {
            share: Arc::clone(self),
            bytes,
            begun: bytes > 0,
        }
    }
}

/// When somebody stops waiting, those behind may have room.
struct Leaving<'b>(&'b Budget);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.serve_waiting(self.0.state());
    }
}

impl Reservation {
    /// Counts so many bytes from now on, whether or not there is room for them; says whether there is.
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        let bytes = bytes.next_multiple_of(STEP);
        let Some(more) = bytes.checked_sub(self.bytes) else {
            let fewer = self.bytes - bytes;
            self.bytes = bytes;
            self.share.budget.give_back(&self.share, fewer);
            return true;
        };
        if more == 0 {
            return true;
        }
        let budget = &self.share.budget;
        let mut state = budget.state();
        let fits = budget.has_room(&state, &self.share, more);
        budget.count(&mut state, &self.share, more);
        self.bytes = bytes;
        self.begun = true;
        fits
    }

    /// Counts at least so many bytes from now on, if there is room for them.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), InUse> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            self.merge(self.share.try_reserve(more)?);
        }
        Ok(())
    }

    /// The same, as soon as there is room for them; the first ones, if that is in a moment.
    pub(crate) async fn grow_in_time(&mut self, bytes: usize) -> Result<(), InUse> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let share = Arc::clone(&self.share);
            self.merge(if self.begun {
                share.reserve_more(more).await?
            } else {
                share.reserve_within(ADMISSION, more).await?
            });
        }
        Ok(())
    }

    /// Waits until the share is no larger than it may be.
    pub(crate) async fn room(&self) -> Result<(), InUse> {
        self.share.reserve_more(0).await.map(drop)
    }

    /// Gives all but so many bytes away.
    pub(crate) fn split_off(&mut self, kept: usize) -> Self {
        let kept = kept.next_multiple_of(STEP).min(self.bytes);
        let rest = self.bytes - kept;
        self.bytes = kept;
        self.share.held(rest)
    }

    /// Counts these bytes for as long as anybody has them.
    pub(crate) fn attach(mut self, bytes: Bytes) -> Bytes {
        self.cover(bytes.len());
        Bytes::from_owner(Attached { bytes, _held: self })
    }

    fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.begun |= self.bytes > 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.share.budget.give_back(&self.share, self.bytes);
    }
}

/// Bytes and what is counted for them.
struct Attached {
    bytes: Bytes,
    _held: Reservation,
}

impl AsRef<[u8]> for Attached {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOON: Duration = Duration::from_millis(20);

    fn budget(steps: usize) -> (Arc<Budget>, Gauge) {
        let gauge = Gauge::default();
        (Budget::new(steps * STEP, gauge.clone()), gauge)
    }

    /// Takes step by step what the share allows.
    fn fill(share: &Arc<Share>) -> Vec<Reservation> {
        std::iter::from_fn(|| share.try_reserve(STEP).ok()).collect()
    }

    #[test]
    fn a_workspace_leaves_others_as_much_as_it_holds() {
        let (budget, gauge) = budget(96);
        let (greedy, other, third) = (budget.share(), budget.share(), budget.share());
        let held = fill(&greedy);
        assert_eq!(held.len(), 48);
        assert_eq!(fill(&other).len(), 24, "half of what is left");
        drop(held);
        assert_eq!(gauge.get(), 0);
        let (first, second) = (fill(&greedy), fill(&other));
        // However many come, each finds something at once.
        assert!(third.try_reserve(STEP).is_ok());
        drop((first, second));
        assert_eq!(gauge.get(), 0);
    }

    #[tokio::test]
    async fn memory_is_waited_for_and_not_for_ever() {
        let (budget, gauge) = budget(8);
        let share = budget.share();
        let held = share.reserve(4 * STEP).await.unwrap();
        assert!(share.reserve_within(SOON, 1).await.is_err());
        let waiting = tokio::spawn({
            let share = Arc::clone(&share);
            async move { share.reserve(2 * STEP).await.unwrap() }
        });
        while budget.state().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        // Who comes later does not overtake, and another workspace does not wait.
        assert!(share.try_reserve(0).is_err());
        assert!(budget.share().try_reserve(STEP).is_ok());
        drop(held);
        drop(waiting.await.unwrap());
        // What is larger than a share can be gets all that it can be.
        let all = share.reserve_within(SOON, usize::MAX).await.unwrap();
        assert_eq!(all.bytes, share.largest());
        drop(all);
        assert_eq!(gauge.get(), 0);
    }

    #[tokio::test]
    async fn who_begins_over_the_share_hears_so_at_once_and_others_wait_for_nobody() {
        let (budget, _) = budget(8);
        let (share, other) = (budget.share(), budget.share());
        let mut held = share.reserve(4 * STEP).await.unwrap();
        let begun = tokio::time::Instant::now();
        let going_on = held.grow_in_time(5 * STEP);
        let mut going_on = std::pin::pin!(going_on);
        assert!(futures::poll!(going_on.as_mut()).is_pending());
        assert!(other.try_reserve(STEP).is_ok());
        let mut nothing = share.held(0);
        let (new, growing) = tokio::join!(share.reserve(STEP), nothing.grow_in_time(STEP));
        assert!(new.is_err() && growing.is_err());
        let waited = begun.elapsed();
        assert!(waited >= ADMISSION && waited < PATIENCE / 2, "{waited:?}");
        // Who is at it goes on waiting.
        assert!(futures::poll!(going_on.as_mut()).is_pending());
    }

    #[tokio::test]
    async fn who_stops_waiting_holds_nobody_up() {
        let (budget, _) = budget(8);
        let share = budget.share();
        let held = share.reserve(3 * STEP).await.unwrap();
        let large = tokio::spawn({
            let share = Arc::clone(&share);
            async move { share.reserve(4 * STEP).await.map(drop) }
        });
        while budget.state().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        let small = share.reserve(STEP);
        let mut small = std::pin::pin!(small);
        assert!(futures::poll!(small.as_mut()).is_pending());
        large.abort();
        assert!(small.await.is_ok());
        drop(held);
    }

    #[tokio::test]
    async fn what_is_there_is_counted_even_beyond_the_share() {
        let (budget, gauge) = budget(8);
        let share = budget.share();
        let mut held = share.reserve(0).await.unwrap();
        assert!(held.cover(4 * STEP));
        assert!(!held.cover(6 * STEP));
        assert_eq!(gauge.get() as usize, 6 * STEP);
        assert!(held.grow(7 * STEP).is_err());
        let block = held.split_off(STEP);
        let waiting = held.room();
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(block);
        assert!(waiting.await.is_ok());
        assert_eq!(gauge.get() as usize, STEP);
    }

    #[test]
    fn bytes_are_counted_until_the_last_of_them_goes() {
        let (budget, gauge) = budget(8);
        let held = budget.share().try_reserve(4 * STEP).unwrap();
        let bytes = held.attach(Bytes::from(vec![0; STEP + 1]));
        let part = bytes.slice(..1);
        drop(bytes);
        assert_eq!(gauge.get() as usize, 2 * STEP);
        drop(part);
        assert_eq!(gauge.get(), 0);
    }

    proptest! {
        #[test]
        fn what_is_given_back_is_what_was_taken(steps in proptest::collection::vec((0..3_usize, 0..40_usize, 0..4), 1..60)) {
            let (budget, gauge) = budget(64);
            let shares = [budget.share(), budget.share(), budget.share()];
            let mut held: Vec<Reservation> = Vec::new();
            for (share, size, action) in steps {
                match action {
                    0 => held.extend(shares[share].try_reserve(size * STEP / 3).ok()),
                    1 => if let Some(held) = held.last_mut() { let _ = held.grow(size * STEP); },
                    2 => if let Some(last) = held.last_mut() { let rest = last.split_off(size * STEP / 2); held.push(rest); },
                    _ => drop(held.pop()),
                }
                let sum: usize = held.iter().map(|held| held.bytes).sum();
                prop_assert_eq!(gauge.get() as usize, sum);
                prop_assert!(sum <= 64 * STEP);
                let other = budget.share();
                prop_assert!(sum > 60 * STEP || other.try_reserve(STEP).is_ok());
            }
            drop(held);
            prop_assert_eq!(gauge.get(), 0);
        }
    }
}

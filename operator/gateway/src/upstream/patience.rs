//! How long an answer is waited for: until a deadline, and no longer than its replica is there.
//!
//! A replica that freezes closes nothing: its machine goes on taking bytes, and none come back. So
//! while something is awaited, the replica's health is looked at now and then as well.

use super::error::UpstreamError;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How often the replica's health is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often a replica was found dead. What was sent to it before that is not waited for any more,
/// even if something answers at its address again.
#[derive(Default)]
pub(super) struct Losses(AtomicU32);

impl Losses {
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The patience with one answer, from the first byte of its request to its own last.
pub(super) struct Patience {
    /// Setting one to a later time costs less than making one.
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
    losses: u32,
}

impl Patience {
    /// Patience that waits for nothing yet.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(tokio::time::sleep_until(now)),
            deadline: now,
            losses: 0,
        }
    }

    /// Begins to wait.
    pub(super) fn start(&mut self, now: Instant, patience: Duration, losses: &Losses) {
        self.deadline = now + patience;
        self.losses = losses.count();
        self.look_again(now);
    }

    /// Ready when there is no point in waiting any longer. Asked only while the answer has nothing
    /// to give: what is there is taken, however late.
    pub(super) fn poll_end(
        &mut self,
        context: &mut Context<'_>,
        losses: &Losses,
    ) -> Poll<UpstreamError> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            let now = Instant::now();
            if losses.count() != self.losses {
                return Poll::Ready(UpstreamError::Lost);
            }
            if now >= self.deadline {
                return Poll::Ready(UpstreamError::Timeout);
            }
            self.look_again(now);
        }
    }

    fn look_again(&mut self, now: Instant) {
        self.timer.as_mut().reset(self.deadline.min(now + LOOK));
    }
}

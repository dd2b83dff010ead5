//! How long hyper waits for the head of a request. hyper knows one time, from the end of one answer
//! to the end of the next head; a client may be idle for long, and may not send a head for as long,
//! a byte at a time. So this timer ends the wait sooner once something has come.
//!
//! hyper makes a timer for each head and drops it when the head is there; this one lends the same out
//! for every request of a connection, since setting a timer to a later time costs less than making one.

use hyper::rt::{Sleep, Timer};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

type TokioSleep = Pin<Box<tokio::time::Sleep>>;

/// The timer of one connection. Clones are the same one.
#[derive(Clone)]
pub(crate) struct HeadTimer(Arc<Shared>);

struct Shared {
    /// How long a head may take from its first byte.
    patience: Duration,
    spare: Mutex<Option<TokioSleep>>,
    /// Whether something came since the timer was lent out.
    has_received: AtomicBool,
}

impl HeadTimer {
    /// For heads that may take so long from their first byte.
    pub(crate) fn new(patience: Duration) -> Self {
        Self(Arc::new(Shared {
            patience,
            spare: Mutex::default(),
            has_received: AtomicBool::new(false),
        }))
    }

    /// Something came. If hyper waits for a head, it is a part of that.
    pub(crate) fn received(&self) {
        self.0.has_received.store(true, Ordering::Relaxed);
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let deadline = deadline.into();
        self.0.has_received.store(false, Ordering::Relaxed);
        let spare = lock(&self.0.spare).take();
        let sleep = match spare {
            Some(mut sleep) => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            None => Box::pin(tokio::time::sleep_until(deadline)),
        };
        Box::pin(Lent {
            sleep: Some(sleep),
            owner: Arc::clone(&self.0),
            has_begun: false,
        })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// What hyper holds; it goes back to the connection when it is dropped.
struct Lent {
    /// `None` only while it is dropped.
    sleep: Option<TokioSleep>,
    owner: Arc<Shared>,
    /// Whether the head has begun to come, as far as was seen.
    has_begun: bool,
}

impl Sleep for Lent {}

impl Future for Lent {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(sleep) = &mut this.sleep else {
            return Poll::Ready(());
        };
        if !this.has_begun && this.owner.has_received.load(Ordering::Relaxed) {
            this.has_begun = true;
            let end = tokio::time::Instant::now() + this.owner.patience;
            if end < sleep.deadline() {
                sleep.as_mut().reset(end);
            }
        }
        sleep.as_mut().poll(context)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *lock(&self.owner.spare) = self.sleep.take();
    }
}

fn lock(spare: &Mutex<Option<TokioSleep>>) -> MutexGuard<'_, Option<TokioSleep>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_wait_has_its_own_end() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(3600));
        let timer = HeadTimer::new(long);
        let start = timer.now();
        timer.sleep(short).await;
        assert!(timer.now() - start >= short);
        // The next one ends sooner than the one that was given up would have.
        drop(timer.sleep(long));
        timer.sleep(short).await;
        assert!(timer.now() - start >= 2 * short);
        // Two at once are two.
        let (unending, ending) = (timer.sleep(long), timer.sleep(short));
        ending.await;
        assert!(timer.now() - start >= 3 * short);
        assert!(futures::poll!(unending).is_pending());
    }

    #[tokio::test]
    async fn a_head_that_has_begun_ends_sooner_however_often_something_comes() {
        let (patience, long) = (Duration::from_millis(50), Duration::from_secs(3600));
        let timer = HeadTimer::new(patience);
        let mut head = timer.sleep(long);
        assert!(futures::poll!(&mut head).is_pending());
        let start = timer.now();
        timer.received();
        while futures::poll!(&mut head).is_pending() {
            timer.received();
            tokio::time::sleep(patience / 5).await;
        }
        let took = timer.now() - start;
        assert!(took >= patience && took < long / 60, "{took:?}");
        // What came for one head is not held against the next.
        drop(head);
        let mut next = timer.sleep(long);
        tokio::time::sleep(2 * patience).await;
        assert!(futures::poll!(&mut next).is_pending());
    }
}

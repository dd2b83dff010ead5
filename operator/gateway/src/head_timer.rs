//! How long hyper waits for the head of a request. hyper makes a timer for each head and
//! drops it when the head is there; this one lends the same timer out for every request of
//! a connection, since setting a timer to a later time costs less than making one.

use hyper::rt::{Sleep, Timer};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

type TokioSleep = Pin<Box<tokio::time::Sleep>>;

/// The timer of one connection.
#[derive(Default)]
pub(crate) struct HeadTimer {
    spare: Arc<Mutex<Option<TokioSleep>>>,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let deadline = deadline.into();
        let spare = lock(&self.spare).take();
        let sleep = match spare {
            Some(mut sleep) => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            None => Box::pin(tokio::time::sleep_until(deadline)),
        };
        Box::pin(Lent {
            sleep: Some(sleep),
            owner: Arc::clone(&self.spare),
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
    owner: Arc<Mutex<Option<TokioSleep>>>,
}

impl Sleep for Lent {}

impl Future for Lent {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(context),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *lock(&self.owner) = self.sleep.take();
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
        let timer = HeadTimer::default();
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(3600));
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
}

//! Drives a [`Queue`]: takes requests, starts what is due, and lets it finish on a stop.

use crate::queue::{Next, Queue, Timing};
use std::fmt::Display;
use std::hash::Hash;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a stop waits for what is running: less than Kubernetes waits for a container.
const DRAIN: Duration = Duration::from_secs(20);

/// Asks for a key to be worked on, from anywhere.
pub struct Requests<K>(mpsc::UnboundedSender<K>);

impl<K> Clone for Requests<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Requests<K> {
    /// A way to ask, and what [`dispatch`] needs to hear it.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<K>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Asks for this key. Once the operator stops nobody listens, which is fine.
    pub fn request(&self, key: K) {
        let _ = self.0.send(key);
    }
}

/// Works on keys until `stop`, then waits for what is running.
///
/// Each key is a task of its own, so that keys which wait (for the permit of a slow cluster,
/// say) cost memory rather than somebody else's turn; the work itself bounds what it uses.
pub async fn dispatch<K, Work, Running>(
    mut requests: mpsc::UnboundedReceiver<K>,
    timing: Timing,
    stop: CancellationToken,
    work: Work,
) where
    K: Clone + Eq + Hash + Ord + Display + Send + 'static,
    Work: Fn(K) -> Running,
    Running: Future<Output = Next> + Send + 'static,
{
    let mut queue: Queue<K> = Queue::new(timing);
    let mut running: JoinSet<Next> = JoinSet::new();
    let mut keys = std::collections::HashMap::new();
    loop {
        while let Some(key) = queue.start(Instant::now()) {
            let handle = running.spawn(work(key.clone()));
            keys.insert(handle.id(), key);
        }
        let due = queue.next_due();
        tokio::select! {
            () = stop.cancelled() => break,
            request = requests.recv() => match request {
                Some(key) => queue.request(key, Instant::now()),
                None => break,
            },
            Some(finished) = running.join_next_with_id() => {
                let (id, next) = match finished {
                    Ok((id, next)) => (id, next),
                    Err(error) => {
                        tracing::error!(%error, "a reconcile ended by itself");
                        (error.id(), Next::Retry)
                    }
                };
                if let Some(key) = keys.remove(&id) {
                    queue.finish(key, next, Instant::now(), rand::random());
                }
            }
            () = until(due) => {}
        }
    }
    if tokio::time::timeout(DRAIN, running.join_all())
        .await
        .is_err()
    {
        tracing::warn!("stopped before everything under way was finished; it is taken up again");
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const TIMING: Timing = Timing {
        debounce: Duration::from_millis(1),
        first_retry: Duration::from_millis(1),
        longest_retry: Duration::from_millis(1),
    };

    #[tokio::test]
    async fn work_that_panics_is_tried_again_and_holds_nobody_up() {
        let (requests, receiver) = Requests::channel();
        let stop = CancellationToken::new();
        let attempts = Arc::new(AtomicUsize::new(0));
        requests.request("bad");
        requests.request("good");
        let (counted, stopped) = (attempts.clone(), stop.clone());
        let work = dispatch(receiver, TIMING, stop.clone(), move |key: &str| {
            let (attempts, stop) = (counted.clone(), stopped.clone());
            async move {
                if key == "good" {
                    return Next::Forget;
                }
                assert!(attempts.fetch_add(1, Ordering::SeqCst) > 2, "fails thrice");
                stop.cancel();
                Next::Forget
            }
        });
        tokio::time::timeout(Duration::from_secs(30), work)
            .await
            .unwrap();
        assert_eq!(attempts.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_stop_waits_for_what_is_running() {
        let (requests, receiver) = Requests::channel();
        let stop = CancellationToken::new();
        let finished = Arc::new(AtomicUsize::new(0));
        requests.request("a");
        let (counted, stopped) = (finished.clone(), stop.clone());
        dispatch(receiver, TIMING, stop, move |_: &str| {
            let (finished, stop) = (counted.clone(), stopped.clone());
            async move {
                stop.cancel();
                tokio::task::yield_now().await;
                finished.fetch_add(1, Ordering::SeqCst);
                Next::Forget
            }
        })
        .await;
        assert_eq!(finished.load(Ordering::SeqCst), 1);
    }
}

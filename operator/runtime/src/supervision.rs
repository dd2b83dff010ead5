//! Keeps tasks running that nobody waits for. One that panics is started again, shows in
//! `/healthz` until it has run well for a while, and is counted.

use crate::metrics::Metrics;
use futures::FutureExt;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a task must run before it counts as well again: less than it takes the kubelet to
/// give the container up, so that a single mishap restarts a task and repeated ones the operator.
const WELL: Duration = Duration::from_secs(30);
/// The pause before a task is started again; it doubles with each time in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Which tasks are not well.
#[derive(Clone)]
pub struct Supervisor {
    metrics: Arc<Metrics>,
    /// How many tasks of a name have panicked and not run well since.
    ill: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Supervisor {
    /// Counts panics in these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let ill = Arc::default();
        Self { metrics, ill }
    }

    /// The names of tasks that are not well.
    pub fn ill(&self) -> Vec<&'static str> {
        self.lock().keys().copied().collect()
    }

    /// Runs the task to its end, and anew each time that it panics.
    pub async fn keep_running<Running>(&self, task: &'static str, start: impl Fn() -> Running)
    where
        Running: Future<Output = ()>,
    {
        let mut illness = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let mut running = pin!(AssertUnwindSafe(start()).catch_unwind());
            let mut ended = tokio::time::timeout(WELL, &mut running).await.ok();
            if ended.is_none() {
                (illness, pause) = (None, FIRST_PAUSE);
                ended = Some(running.await);
            }
            if let Some(Ok(())) = ended {
                return;
            }
            // What it says stands on standard error, where the panic put it.
            tracing::error!(task, "a task panicked, starting it again");
            self.metrics.task_panicked(task);
            illness.get_or_insert_with(|| self.falls_ill(task));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn falls_ill(&self, task: &'static str) -> Illness {
        *self.lock().entry(task).or_default() += 1;
        Illness {
            supervisor: self.clone(),
            task,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.ill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task's illness, which ends with this, also where the task is no longer wanted.
struct Illness {
    supervisor: Supervisor,
    task: &'static str,
}

impl Drop for Illness {
    fn drop(&mut self) {
        let mut ill = self.supervisor.lock();
        if let Some(count) = ill.get_mut(self.task) {
            *count -= 1;
            if *count == 0 {
                ill.remove(self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_and_told_of() {
        let metrics = Arc::new(Metrics::new("test"));
        let supervisor = Supervisor::new(metrics.clone());
        let starts = AtomicUsize::new(0);
        let seen = Mutex::new(Vec::new());
        supervisor
            .keep_running("watch", || async {
                seen.lock().unwrap().push(supervisor.ill());
                assert!(starts.fetch_add(1, Ordering::SeqCst) > 0, "the first time");
            })
            .await;
        assert_eq!(*seen.lock().unwrap(), [vec![], vec!["watch"]]);
        assert!(supervisor.ill().is_empty());
        let text = metrics.encode().unwrap();
        let line = r#"test_task_panics_total{task="watch"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}

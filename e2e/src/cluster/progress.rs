//! One line a step with its seconds, so that whoever waits knows what for.

use std::future::Future;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often a long step says that it is still at it.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Where steps are reported.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    speaks: bool,
}

impl Progress {
    /// Report on standard error, so that standard output stays for answers.
    pub fn stderr() -> Self {
        Self { speaks: true }
    }

    /// Report nothing.
    pub fn silent() -> Self {
        Self { speaks: false }
    }

    /// Run `work`, saying what it is before and how long it took after. The text
    /// becomes the context of its error.
    pub async fn step<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        self.say(&format!("{what} ..."));
        let outcome = self.beat(started, work).await;
        let seconds = started.elapsed().as_secs_f64();
        match &outcome {
            Ok(_) => self.say(&format!(" {seconds:.1} s\n")),
            Err(_) => self.say(&format!(" failed after {seconds:.1} s\n")),
        }
        outcome.with_context(|| what.to_owned())
    }

    /// A line that is not a step.
    pub fn note(&self, text: &str) {
        self.say(&format!("{text}\n"));
    }

    async fn beat<T>(&self, started: Instant, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(HEARTBEAT, &mut work).await {
                Ok(outcome) => return outcome,
                Err(_) => self.say(&format!(" {} s ...", started.elapsed().as_secs())),
            }
        }
    }

    fn say(self, text: &str) {
        if self.speaks {
            let mut out = std::io::stderr().lock();
            // A closed terminal must not stop the work it only reports on.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

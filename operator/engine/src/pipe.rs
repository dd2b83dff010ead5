//! Output that libchdb writes into a pipe, read by whoever is free.
//!
//! A small output fits into the pipe: the worker reads it when its query has
//! ended, and no other thread is woken. Only when a query takes its time, a
//! thread of its own starts to read.

use std::convert::Infallible;
use std::io::{PipeReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::http::response::{Gone, Responder};
use crate::running::Running;

/// How much is taken from a pipe at once: what a pipe holds.
const BUFFER: usize = 64 * 1024;

/// How long a worker may keep its output in the pipe.
const GRACE: Duration = Duration::from_millis(2);

/// The longest pause between two looks for a reader to start.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Moves output from a pipe to the client.
pub(crate) struct PipeToClient {
    pub(crate) reader: PipeReader,
    pub(crate) responder: Responder,
    pub(crate) running: Arc<Running>,
}

impl PipeToClient {
    /// Reads to the end of the pipe. Once the client is gone the query is
    /// cancelled: libchdb goes on when a file fails.
    fn run(&mut self) -> Result<(), Gone> {
        let mut passed = Ok(());
        loop {
            let mut buffer = vec![0; BUFFER];
            match self.reader.read(&mut buffer) {
                Ok(0) | Err(_) => return passed,
                Ok(length) => buffer.truncate(length),
            }
            if passed.is_ok() {
                passed = self.responder.write(buffer.into());
                if passed.is_err() {
                    self.running.cancel();
                }
            }
        }
    }
}

/// The place where a worker leaves its pipe for a reader that may be needed.
#[derive(Default)]
pub(crate) struct LateReader {
    state: Mutex<State>,
    changed: Condvar,
    abandoned: AtomicBool,
}

/// Watches over a worker until its answer has begun or its client is gone.
pub(crate) struct Watcher(pub(crate) Arc<LateReader>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[derive(Default)]
enum State {
    #[default]
    Nothing,
    Offered(Box<PipeToClient>),
    Reading,
    Done(Box<PipeToClient>, Result<(), Gone>),
}

impl LateReader {
    /// Leaves a pipe to be read, from now on or never.
    pub(crate) fn offer(self: &Arc<Self>, pipe: PipeToClient) {
        *self.state() = State::Offered(Box::new(pipe));
        if self.abandoned.load(Ordering::Acquire) {
            self.start();
        }
    }

    /// Takes the responder back when all output is written: reads what there
    /// is, or waits for the thread that does.
    pub(crate) fn finish(&self) -> Option<(Responder, Result<(), Gone>)> {
        let mut state = self.state();
        loop {
            match std::mem::take(&mut *state) {
                State::Nothing => return None,
                State::Offered(mut pipe) => {
                    drop(state);
                    let passed = pipe.run();
                    return Some((pipe.responder, passed));
                }
                State::Done(pipe, passed) => return Some((pipe.responder, passed)),
                State::Reading => {
                    *state = State::Reading;
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Starts a reader for a worker that does not finish soon.
    pub(crate) async fn watch(self: &Arc<Self>) -> Infallible {
        let mut pause = GRACE;
        loop {
            tokio::time::sleep(pause).await;
            self.start();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Nobody watches any more. A full pipe that nobody reads would hold the
    /// worker for ever, so a reader starts at once.
    fn abandon(self: &Arc<Self>) {
        self.abandoned.store(true, Ordering::Release);
        self.start();
    }

    fn start(self: &Arc<Self>) {
        let mut state = self.state();
        match std::mem::take(&mut *state) {
            State::Offered(pipe) => {
                let late = Arc::clone(self);
                *state = State::Reading;
                drop(state);
                // Not a task of the runtime: it must run although that stops.
                std::thread::spawn(move || late.read(pipe));
            }
            other => *state = other,
        }
    }

    fn read(&self, mut pipe: Box<PipeToClient>) {
        let passed = pipe.run();
        *self.state() = State::Done(pipe, passed);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

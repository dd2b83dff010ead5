//! The queries that run now: found by their id, ended on request.
//!
//! libchdb cannot be told from outside to stop a call. But every connection
//! carries a mark among its settings, `system.processes` shows it, and
//! `KILL QUERY` on another connection ends what runs under it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::exception::{Exception, code};

/// A query from its arrival to its end.
pub(crate) struct Running {
    query_id: String,
    cancelled: CancellationToken,
    state: Mutex<State>,
    changed: Condvar,
    control: Arc<Control>,
}

#[derive(Default)]
struct State {
    /// The mark of the connection the query runs on.
    mark: Option<String>,
    ended: bool,
}

impl Running {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// An error once somebody cancelled the query.
    pub(crate) fn check(&self) -> Result<(), Exception> {
        if self.is_cancelled() {
            return Err(Exception::new(
                code::QUERY_WAS_CANCELLED,
                "Query was cancelled.",
            ));
        }
        Ok(())
    }

    /// Says on which connection the query runs from now on.
    pub(crate) fn enter(&self, mark: &str) {
        self.state().mark = Some(mark.to_owned());
    }

    /// Says that the query has left its connection. Afterwards nothing more
    /// will be killed there; whether something was, [`Self::is_cancelled`] tells.
    pub(crate) fn leave(&self) {
        self.state().mark = None;
    }

    fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Starts ending the query and returns at once.
    pub(crate) fn cancel(self: &Arc<Self>) {
        if self.is_cancelled() {
            return;
        }
        self.cancelled.cancel();
        let query = Arc::clone(self);
        // A thread of its own: it must work while every other one is busy,
        // and where no runtime is.
        let spawned = std::thread::Builder::new()
            .name("cancel".to_owned())
            .spawn(move || query.kill_until_ended());
        if let Err(error) = spawned {
            tracing::error!(%error, "cannot start a thread to cancel a query");
        }
    }

    /// A KILL may come before the query has started inside the engine, so it
    /// is repeated.
    fn kill_until_ended(&self) {
        let mut pause = Duration::from_millis(5);
        let mut state = self.state();
        while !state.ended {
            if let Some(mark) = &state.mark {
                // The lock is held so that the query cannot leave the
                // connection to another one meanwhile.
                self.control.kill(mark);
            }
            state = self
                .changed
                .wait_timeout(state, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the query when the client is no longer there to read its answer.
pub(crate) struct CancelOnDrop(Option<Arc<Running>>);

impl CancelOnDrop {
    pub(crate) fn new(query: Arc<Running>) -> Self {
        Self(Some(query))
    }

    /// Ends once somebody else has cancelled the query.
    pub(crate) async fn cancelled(&self) {
        match &self.0 {
            Some(query) => query.cancelled.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The answer is complete: there is nothing to cancel any more.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(query) = self.0.take() {
            query.cancel();
        }
    }
}

/// All running queries.
pub(crate) struct Registry {
    queries: Mutex<HashMap<String, Arc<Running>>>,
    control: Arc<Control>,
}

impl Registry {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self {
            queries: Mutex::default(),
            control,
        }
    }

    /// Enters a query; two at once cannot have one id.
    pub(crate) fn enter(self: &Arc<Self>, query_id: &str) -> Result<Entry, Exception> {
        let query = Arc::new(Running {
            query_id: query_id.to_owned(),
            cancelled: CancellationToken::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
            control: Arc::clone(&self.control),
        });
        let mut queries = self.lock();
        if queries.contains_key(query_id) {
            return Err(Exception::new(
                code::QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                format!("Query with id = {query_id} is already running."),
            ));
        }
        queries.insert(query_id.to_owned(), Arc::clone(&query));
        Ok(Entry {
            registry: Arc::clone(self),
            query,
        })
    }

    /// Cancels the queries that run on a connection, and so keep the engine open. Those that wait
    /// for it may go on waiting.
    pub(crate) fn cancel_inside(&self) {
        let queries: Vec<_> = self.lock().values().cloned().collect();
        for query in queries {
            if query.state().mark.is_some() {
                query.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Running>>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query's place among the running ones, left when dropped.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    pub(crate) query: Arc<Running>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.query.query_id);
        self.query.end();
    }
}

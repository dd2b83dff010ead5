//! Everything the gateway serves, in memory: fed object by object, read by every
//! request with one look for its token.
//!
//! `apply` and `delete` are all there is; where objects come from (`watch`, or a
//! test) the index does not know. What a request has found stays as it was for the
//! whole request.

mod object;
mod served;
mod state;
mod tokens;

pub use object::{Kind, Object, ObjectKey, Published};
pub(crate) use served::{Opened, ServedPipe, ServedWorkspace};

use crate::budgets::Budgets;
use crate::metrics::Metrics;
use crate::token_value::TokenHash;
use crate::upstream::ReplicaSettings;
use state::State;
use std::sync::{Arc, Mutex, PoisonError};
use tokens::Tokens;

/// The index.
pub struct Index {
    state: Mutex<State>,
    tokens: Tokens,
}

impl Index {
    /// An index that serves nothing yet.
    pub(crate) fn new(
        replicas: ReplicaSettings,
        ingestion: crate::ingest::Settings,
        budgets: Budgets,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            state: Mutex::new(State::new(replicas, ingestion, budgets, metrics)),
            tokens: Tokens::default(),
        }
    }

    /// Adds an object, or what is new about it.
    pub fn apply(&self, object: Object) {
        self.change(|state| state.apply(object));
    }

    /// Forgets an object.
    pub fn delete(&self, key: &ObjectKey) {
        self.change(|state| state.delete(key));
    }

    /// Puts these in the place of all objects of a kind, at once: what was served
    /// and still is among them is served throughout. Of `unreadable` objects,
    /// which are there but not understood, what was served before stays.
    pub fn replace(&self, kind: Kind, objects: Vec<Object>, unreadable: &[ObjectKey]) {
        self.change(|state| state.replace(kind, objects, unreadable));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        // Under the lock, so that what is later is never overwritten by what was earlier.
        state.publish(&self.tokens);
    }

    /// Who presents this token, and what it opens.
    pub(crate) fn authenticate(&self, token: &TokenHash) -> Option<Arc<Opened>> {
        self.tokens.opened(token)
    }
}

#[cfg(test)]
mod tests;

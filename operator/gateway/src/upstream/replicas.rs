//! The replicas of a cluster as one: takes turns, and goes on to the next when
//! one is away.

use super::connection::{Answer, Request};
use super::{Address, Replica, ReplicaSettings, UpstreamError};
use crate::metrics::Metrics;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// The replicas a workspace is served by.
pub(crate) struct Replicas {
    members: Vec<Arc<Replica>>,
    turn: AtomicUsize,
}

impl Replicas {
    pub(crate) fn new(members: Vec<Arc<Replica>>) -> Self {
        Self {
            members,
            turn: AtomicUsize::new(0),
        }
    }

    /// Sends a request to the next replica that is there.
    pub(crate) async fn send(&self, request: &Request<'_>) -> Result<Answer, UpstreamError> {
        // One alone needs no turn, which the cores would have to share.
        let turn = match self.members.len() {
            0 | 1 => 0,
            _ => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        self.send_from(turn, request).await
    }

    /// Sends a request to a replica of choice, or to one after it. Goes on to another
    /// when nothing was sent, or when the request may be carried out twice.
    pub(crate) async fn send_from(
        &self,
        first: usize,
        request: &Request<'_>,
    ) -> Result<Answer, UpstreamError> {
        let count = self.members.len();
        let mut last = UpstreamError::Unavailable;
        for offset in 0..count {
            let replica = &self.members[first.wrapping_add(offset) % count];
            if replica.is_away() {
                continue;
            }
            match replica.send(request).await {
                Err(error) if may_go_on(&error, request) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// Whether these are the same replicas in the same order.
    pub(crate) fn same(&self, other: &[Arc<Replica>]) -> bool {
        self.members.len() == other.len()
            && self
                .members
                .iter()
                .zip(other)
                .all(|(mine, theirs)| Arc::ptr_eq(mine, theirs))
    }
}

fn may_go_on(error: &UpstreamError, request: &Request<'_>) -> bool {
    match error {
        UpstreamError::Connect(_) => true,
        UpstreamError::Interrupted(_) | UpstreamError::Lost => request.repeatable,
        _ => false,
    }
}

impl PartialEq for Replicas {
    fn eq(&self, other: &Self) -> bool {
        self.same(&other.members)
    }
}

/// Every replica in use, by URL: workspaces of one cluster share its connections.
pub(crate) struct Registry {
    settings: ReplicaSettings,
    metrics: Arc<Metrics>,
    known: HashMap<String, Weak<Replica>>,
}

impl Registry {
    pub(crate) fn new(settings: ReplicaSettings, metrics: Arc<Metrics>) -> Self {
        Self {
            settings,
            metrics,
            known: HashMap::new(),
        }
    }

    /// The replicas at these URLs. One whose URL cannot be read is left out, with a warning.
    pub(crate) fn resolve(&mut self, urls: &[String]) -> Vec<Arc<Replica>> {
        self.known.retain(|_, replica| replica.strong_count() > 0);
        urls.iter().filter_map(|url| self.replica(url)).collect()
    }

    fn replica(&mut self, url: &str) -> Option<Arc<Replica>> {
        if let Some(replica) = self.known.get(url).and_then(Weak::upgrade) {
            return Some(replica);
        }
        match Address::parse(url) {
            Ok(address) => {
                let replica =
                    Replica::new(address, self.settings.clone(), Arc::clone(&self.metrics));
                self.known.insert(url.to_owned(), Arc::downgrade(&replica));
                Some(replica)
            }
            Err(error) => {
                tracing::warn!(%error, "replica is left out");
                None
            }
        }
    }
}

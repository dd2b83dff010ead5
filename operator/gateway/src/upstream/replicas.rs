//! The replicas of a cluster as one: takes turns, and goes on to the next when
//! one is away.

use super::address::Address;
use super::answer::Answer;
use super::blame::Blame;
use super::connection::{Repeat, Request};
use super::error::UpstreamError;
use super::replica::{Replica, ReplicaSettings};
use crate::metrics::Metrics;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// The replicas a workspace is served by.
pub(crate) struct Replicas {
    members: Vec<Arc<Replica>>,
    turn: AtomicUsize,
}

/// A request that was not answered.
pub(crate) struct Failed {
    pub(crate) error: UpstreamError,
    /// The last that was asked, if any was.
    pub(crate) replica: Option<Arc<Replica>>,
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
        let sent = self.send_from(turn, request).await;
        sent.map_err(|failed| failed.error)
    }

    /// Sends a request to a replica of choice, or to one after it. Those that fail at what others do
    /// are asked last. Goes on to another when nothing was sent or done, or when the request may be
    /// carried out twice; after an exception once.
    pub(crate) async fn send_from(
        &self,
        first: usize,
        request: &Request<'_>,
    ) -> Result<Answer, Failed> {
        let count = self.members.len();
        let mut last = Failed {
            error: UpstreamError::Unavailable,
            replica: None,
        };
        let mut exceptions = 0;
        let mut put_off = Vec::new();
        let mut next = 0;
        loop {
            let replica = if next < count {
                let replica = &self.members[first.wrapping_add(next) % count];
                next += 1;
                if replica.is_away() {
                    continue;
                }
                if count > 1 && replica.is_out() {
                    put_off.push(replica);
                    continue;
                }
                replica
            } else if let Some(replica) = put_off.pop() {
                replica
            } else {
                return Err(last);
            };
            let error = match replica.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            exceptions += u32::from(matches!(error, UpstreamError::Refused(_)));
            let goes_on = exceptions <= 1 && may_go_on(&error, request.repeat);
            last = Failed {
                error,
                replica: Some(Arc::clone(replica)),
            };
            if !goes_on {
                return Err(last);
            }
        }
    }

    /// Another replica than this that may be asked in its place.
    pub(crate) fn besides(&self, replica: &Arc<Replica>) -> Option<&Arc<Replica>> {
        let others = self.members.iter();
        others
            .filter(|other| !Arc::ptr_eq(other, replica))
            .find(|other| !other.is_away() && !other.is_out())
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

fn may_go_on(error: &UpstreamError, repeat: Repeat) -> bool {
    let reads = repeat == Repeat::Anywhere;
    match error {
        UpstreamError::Connect(_) => true,
        // Nothing of an answer has gone on by then.
        UpstreamError::Interrupted(_)
        | UpstreamError::Lost
        | UpstreamError::Foreign
        | UpstreamError::Truncated
        | UpstreamError::Malformed(_) => reads,
        UpstreamError::Refused(exception) => match exception.blame() {
            Blame::Place => true,
            // What is stored by then, the other knows, if it is one that tells of it.
            Blame::Replica => reads || exception.tells_of_replication(),
            Blame::Statement | Blame::Row => false,
        },
        UpstreamError::Unavailable | UpstreamError::Timeout => false,
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

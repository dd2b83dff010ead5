//! What is remembered of a replica from one look at it to the next, so that a pass
//! that finds nothing to do is one query.

use aviary_plan::ServerFeatures;
use aviary_sql::Identifier;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a server's features count as known: it may be restarted as another version.
const FEATURES_STAY: Duration = Duration::from_mins(5);

/// Shared by the clones of a replica.
#[derive(Clone, Default)]
pub(crate) struct ServerCache(Arc<Mutex<Cached>>);

#[derive(Default)]
struct Cached {
    server: Option<(Instant, ServerFeatures)>,
    /// Databases that were there.
    databases: BTreeSet<String>,
}

/// What is known before looking.
pub(crate) struct Known {
    pub(crate) server: Option<ServerFeatures>,
    pub(crate) has_database: bool,
}

impl ServerCache {
    pub(crate) fn known(&self, database: &Identifier) -> Known {
        let cached = self.lock();
        let is_fresh = |(since, _): &&(Instant, _)| since.elapsed() < FEATURES_STAY;
        let server = cached.server.as_ref().filter(is_fresh);
        Known {
            server: server.map(|(_, features)| features.clone()),
            has_database: cached.databases.contains(database.as_str()),
        }
    }

    pub(crate) fn keep(&self, database: &Identifier, is_there: bool, server: &ServerFeatures) {
        let cached = &mut *self.lock();
        let is_news = |(since, known): &(Instant, ServerFeatures)| {
            since.elapsed() >= FEATURES_STAY || known != server
        };
        if cached.server.as_ref().is_none_or(is_news) {
            cached.server = Some((Instant::now(), server.clone()));
        }
        if !is_there {
            cached.databases.remove(database.as_str());
        } else if !cached.databases.contains(database.as_str()) {
            cached.databases.insert(database.as_str().to_owned());
        }
    }

    /// Whether a statement can say by itself how much it may drop.
    pub(crate) fn lifts_drop_limits(&self) -> bool {
        let cached = self.lock();
        let server = cached.server.as_ref();
        server.is_some_and(|(_, features)| features.drop_limits)
    }

    /// The database was made.
    pub(crate) fn made(&self, database: &Identifier) {
        self.lock().databases.insert(database.as_str().to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
pub(crate) struct Memory(Arc<Mutex<Remembered>>);

#[derive(Default)]
struct Remembered {
    server: Option<(Instant, ServerFeatures)>,
    /// Databases that were there.
    databases: BTreeSet<String>,
}

/// What is known before looking.
pub(super) struct Known {
    pub(super) server: Option<ServerFeatures>,
    pub(super) has_database: bool,
}

impl Memory {
    pub(super) fn recall(&self, database: &Identifier) -> Known {
        let remembered = self.lock();
        let is_fresh = |(since, _): &&(Instant, _)| since.elapsed() < FEATURES_STAY;
        let server = remembered.server.as_ref().filter(is_fresh);
        Known {
            server: server.map(|(_, features)| features.clone()),
            has_database: remembered.databases.contains(database.as_str()),
        }
    }

    pub(super) fn keep(&self, database: &Identifier, is_there: bool, server: &ServerFeatures) {
        let remembered = &mut *self.lock();
        let is_news = |(since, known): &(Instant, ServerFeatures)| {
            since.elapsed() >= FEATURES_STAY || known != server
        };
        if remembered.server.as_ref().is_none_or(is_news) {
            remembered.server = Some((Instant::now(), server.clone()));
        }
        if !is_there {
            remembered.databases.remove(database.as_str());
        } else if !remembered.databases.contains(database.as_str()) {
            remembered.databases.insert(database.as_str().to_owned());
        }
    }

    /// Whether a statement can say by itself how much it may drop.
    pub(crate) fn lifts_drop_limits(&self) -> bool {
        let remembered = self.lock();
        let server = remembered.server.as_ref();
        server.is_some_and(|(_, features)| features.drop_limits)
    }

    /// The database was made.
    pub(crate) fn made(&self, database: &Identifier) {
        self.lock().databases.insert(database.as_str().to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

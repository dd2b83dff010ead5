//! Where the rows of one data source go in: how its records are split, and the queue they wait in.

use super::json_path::Paths;
use super::queue::Queue;
use super::store::{Destination, Store};
use crate::metrics::Resource;
use std::sync::Arc;
use std::time::Duration;

/// How ingestion uses memory and time.
#[derive(Clone)]
pub(crate) struct Settings {
    /// A block is sent when it is about this large.
    pub(crate) block_bytes: usize,
    /// How long an INSERT may take.
    pub(crate) insert_timeout: Duration,
    /// How long an INSERT whose outcome is unknown is repeated.
    pub(crate) insert_repeat: Duration,
    /// How long a client may send nothing.
    pub(crate) body_timeout: Duration,
}

/// Where the rows of a data source go in.
pub(crate) struct Intake {
    pub(super) destination: Destination,
    /// What its requests are counted for.
    resource: Arc<Resource>,
    pub(super) paths: Arc<Paths>,
    pub(super) store: Arc<Store>,
    pub(super) queue: Arc<Queue>,
    pub(super) settings: Settings,
}

impl Intake {
    pub(crate) fn new(
        destination: Destination,
        resource: Arc<Resource>,
        settings: Settings,
    ) -> Self {
        let paths = destination
            .published
            .columns
            .iter()
            .map(|column| column.json_path.as_str());
        let paths = Paths::new(paths).unwrap_or_else(|error| {
            tracing::warn!(database = destination.database, data_source = destination.published.name, %error, "columns are found by their names");
            Paths::by_name(destination.published.columns.iter().map(|column| column.name.as_str()))
        });
        let store = Arc::new(Store::new(
            &destination,
            settings.insert_timeout,
            settings.insert_repeat,
        ));
        Self {
            paths: Arc::new(paths),
            queue: Queue::new(Arc::clone(&store), settings.block_bytes),
            store,
            destination,
            resource,
            settings,
        }
    }

    pub(crate) fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// How long a client may send nothing.
    pub(crate) fn body_timeout(&self) -> Duration {
        self.settings.body_timeout
    }

    /// Whether a new intake for this destination would be the same.
    pub(crate) fn is_for(&self, destination: &Destination) -> bool {
        self.destination == *destination
    }
}

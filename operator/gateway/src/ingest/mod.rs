//! Ingestion: from a request's body to rows in ClickHouse.
//!
//! ```text
//! body -> decompress -> split into records -> block -> queue -> certain rows: INSERT into <ds>
//!         (body)        (csv, ndjson)         (block)  (queue)  others: INSERT into <ds>__landing
//!                                                               (typed, store)
//! ```
//!
//! The landing table's views put every row either into the table or into the
//! quarantine. They alone judge values: `typed` only takes rows past them of which
//! it knows what they would say. A row is acknowledged when ClickHouse has said
//! that it is stored, never before.

mod block;
mod body;
mod buffer;
mod csv;
mod cut;
mod import_id;
mod json;
mod json_path;
mod lines;
mod ndjson;
mod parquet;
mod pieces;
mod poison;
mod queue;
mod request;
mod splitting;
mod store;
mod token;
mod typed;
mod upload;
mod zstd_frames;

pub(crate) use request::{handle_append, handle_events};

use crate::upstream::{Authorization, Replicas};
use aviary_crds::published::PublishedDataSource;
use json_path::Paths;
use queue::Queue;
use std::sync::Arc;
use std::time::Duration;
use store::Store;

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

/// What an intake is made from.
#[derive(Clone, PartialEq)]
pub(crate) struct IntakeParts {
    pub(crate) database: String,
    pub(crate) published: PublishedDataSource,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) writer: Authorization,
}

/// Where the rows of a data source go in.
pub(crate) struct Intake {
    parts: IntakeParts,
    paths: Arc<Paths>,
    store: Arc<Store>,
    queue: Arc<Queue>,
    settings: Settings,
}

impl Intake {
    pub(crate) fn new(parts: IntakeParts, settings: Settings) -> Self {
        let paths = parts
            .published
            .columns
            .iter()
            .map(|column| column.json_path.as_str());
        let paths = Paths::new(paths).unwrap_or_else(|error| {
            tracing::warn!(database = parts.database, data_source = parts.published.name, %error, "columns are found by their names");
            Paths::by_name(parts.published.columns.iter().map(|column| column.name.as_str()))
        });
        let store = Arc::new(Store::new(
            &parts,
            settings.insert_timeout,
            settings.insert_repeat,
        ));
        Self {
            paths: Arc::new(paths),
            queue: Queue::new(Arc::clone(&store), settings.block_bytes),
            store,
            parts,
            settings,
        }
    }

    /// Whether a new intake from these parts would be the same.
    pub(crate) fn is_made_from(&self, parts: &IntakeParts) -> bool {
        self.parts == *parts
    }
}

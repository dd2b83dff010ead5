//! Ingestion: from a request's body to rows in ClickHouse.
//!
//! ```text
//! body -> decompress -> split into records -> block -> queue -> certain rows: INSERT into <ds>
//!         (plain_body)  (csv, ndjson)         (block)  (queue)  others: INSERT into <ds>__landing
//!                                                               (typed, store)
//! ```
//!
//! The landing table's views put every row either into the table or into the
//! quarantine. They alone judge values: `typed` only takes rows past them of which
//! it knows what they would say. A row is acknowledged when ClickHouse has said
//! that it is stored, never before.

mod acknowledgements;
mod block;
mod body_reader;
mod buffer;
mod csv;
mod cut;
mod deduplication_token;
mod import_id;
mod intake;
mod json;
mod json_path;
mod lines;
mod ndjson;
mod parquet;
mod pieces;
mod plain_body;
mod poison;
mod queue;
mod splitting;
mod store;
mod typed;
mod upload;
mod zstd_frames;

pub(crate) use import_id::ImportId;
pub(crate) use intake::{Intake, Settings};
pub(crate) use plain_body::PlainBody;
pub(crate) use store::Destination;
pub(crate) use upload::{Import, ImportSummary};

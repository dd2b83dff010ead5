//! The gateway against a real ClickHouse, with tables as the operator makes them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails here fails a test"
)]

mod access_log;
mod bounds;
mod dirt;
mod documentation;
mod endpoints;
mod failover;
mod fast_path;
mod foreign;
mod harness;
mod ingestion;
mod isolation;
mod kills;
mod limits;
mod once;
mod over_share;
mod poison;
mod restart;
mod round_trip;
mod silence;
mod slow_heads;
mod stage;

//! The engine against those who must not tell it from a clickhouse-server: the official client
//! crate and plain HTTP. All tests of this binary share one engine, since a process can have only
//! one; each uses a database and users of its own.
#![expect(
    clippy::unwrap_used,
    reason = "a test helper that cannot go on ends the test"
)]

mod access;
#[path = "../harness/mod.rs"]
mod harness;
mod http;
mod official_client;
mod requests;
mod shared;
mod streaming;
mod views;

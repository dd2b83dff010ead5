//! Embedded ClickHouse (libchdb) behind ClickHouse's HTTP interface, for development and tests.
//!
//! ```no_run
//! # async fn example() -> Result<(), aviary_engine::EngineError> {
//! use aviary_engine::{Engine, EngineConfig};
//!
//! let engine = Engine::start(EngineConfig::new("/var/lib/aviary/engine")).await?;
//! println!("curl http://{}/?query=SELECT+version()", engine.address());
//! engine.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! The crate stands alone: it knows nothing of Kubernetes, of workspaces or of
//! pipes, only ClickHouse's language and its HTTP interface. One process runs
//! one engine, on a data path of its own. `docs/reference/engine.md` says what
//! differs from a server.

mod access;
mod access_statements;
mod args;
mod config;
mod config_xml;
mod connections;
mod control;
mod core;
mod deduplication_log;
mod engine;
mod error;
mod exception;
mod execute;
mod files;
mod http;
mod in_process;
mod job;
mod libchdb;
pub mod library;
mod output;
mod running;
mod sql;
mod statistics;
mod xml;

pub use args::{EngineArgs, run};
pub use config::{EngineConfig, Macro, ZooKeeperNode};
pub use engine::{Engine, RunningEngine};
pub use error::EngineError;
pub use libchdb::LoadError;

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
mod access_statement;
mod args;
mod block_names;
mod config;
mod config_xml;
mod control;
mod core;
mod engine;
mod error;
mod exception;
mod execute;
mod ffi;
mod formats;
mod http;
pub mod library;
mod pipe;
mod running;
mod session;
mod sql;
mod statistics;

pub use args::{EngineArgs, run};
pub use config::{EngineConfig, Macro, ZooKeeperNode};
pub use engine::{Engine, RunningEngine};
pub use error::EngineError;
pub use ffi::LoadError;

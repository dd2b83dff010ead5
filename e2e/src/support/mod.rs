//! What end-to-end tests are written with: a namespace of their own, objects
//! applied as a user would, waiting on conditions with a deadline, and, when a
//! test fails, the objects, events and logs that say why.

mod audit;
mod clickhouse;
mod clusters;
mod diagnostics;
pub mod disruption;
mod engine;
mod gateway;
pub mod logs;
mod objects;
pub mod pods;
mod reach;
pub mod replicated;
mod scene;
mod shop;
mod wait;

pub use crate::product::ENGINE_ADMIN;
pub use audit::{AuditMark, Request};
pub use clickhouse::ClickHouse;
pub use clusters::{Cluster, workspace_on};
pub use engine::Engines;
pub use gateway::{Answer, Gateway};
pub use scene::{Scene, namespaces_gone, run, run_alone};
pub use shop::{ORDERS, SALES, pipe};
pub use wait::{DEADLINE, eventually};

//! Commands that need neither a Kubernetes nor a ClickHouse: `aviary plan` says what
//! a folder of manifests asks of a ClickHouse that has nothing yet.
//!
//! files -> [`Inventory`], which refuses what the API server would -> the operator's own
//! `model`, `desired` and `plan` -> text, SQL or JSON. Nothing is decided here that the operator
//! would decide otherwise.

mod input;
mod inventory;
mod plan;
mod print;
mod report;
mod schema;
mod yaml;

pub use input::InputError;
pub use inventory::{Inventory, Tenant};
pub use plan::{Exit, PlanArgs, no_passwords, plan};
pub use print::Output;

//! From the objects of a workspace to the steps that make ClickHouse agree with
//! them: objects -> [`model`] -> [`desired`] catalog -> [`planner`] -> statements.
//!
//! Everything here is pure. This crate does not know Kubernetes' API server, the
//! network, the clock or a ClickHouse client; it is given objects and an observed
//! catalog, and gives back data.

pub mod catalog;
pub mod column_type;
pub mod comment;
pub mod consent;
pub mod conversion;
pub mod derived_names;
pub mod desired;
pub mod expression_guard;
pub mod last_published;
pub mod model;
pub mod objects;
pub mod planner;
mod short_hash;
pub mod statement;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod ttl;

pub use aviary_crds::conditions::Reason;
pub use catalog::Catalog;
pub use consent::{Consent, Consents};
pub use desired::{CredentialHashes, ServerFeatures, desired};
pub use last_published::LastPublished;
pub use model::{WorkspaceModel, model};
pub use objects::{ObjectKey, Rejection, WorkspaceObjects};
pub use planner::{Plan, Scope, Step, Why, plan};
pub use statement::Statement;

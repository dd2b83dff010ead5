//! The objects of a workspace, how a report names one of them, and what it says of
//! one that is not taken.

use aviary_crds::conditions::Reason;
use aviary_crds::{AccessToken, DataSource, Pipe, Workspace};
use std::fmt;
use std::sync::Arc;

/// A workspace and everything in its namespace that names it.
#[derive(Clone, Debug)]
pub struct WorkspaceObjects {
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// Its data sources.
    pub data_sources: Vec<Arc<DataSource>>,
    /// Its pipes.
    pub pipes: Vec<Arc<Pipe>>,
    /// Its tokens.
    pub access_tokens: Vec<Arc<AccessToken>>,
}

/// An object of a workspace, by its Kubernetes name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// The workspace itself.
    Workspace,
    /// A `DataSource`.
    DataSource(String),
    /// A `Pipe`.
    Pipe(String),
    /// An `AccessToken`.
    AccessToken(String),
}

/// Something that will not be done until somebody changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The object to report on.
    pub object: ObjectKey,
    /// Why, as a condition's reason.
    pub reason: Reason,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workspace => formatter.write_str("the Workspace"),
            Self::DataSource(name) => write!(formatter, "DataSource {name}"),
            Self::Pipe(name) => write!(formatter, "Pipe {name}"),
            Self::AccessToken(name) => write!(formatter, "AccessToken {name}"),
        }
    }
}

//! Why an engine does not start or stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::libchdb::LoadError;
use crate::library::LibraryError;

/// What can go wrong with an engine as a whole. What goes wrong with a query
/// is told to its client instead.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no libchdb.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// libchdb could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The data path belongs to a running engine.
    #[error("{path} is in use: one engine serves one data path, and one process runs one engine")]
    InUse {
        /// The data path.
        path: PathBuf,
    },
    /// Something in the data path could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The list of users cannot be understood.
    #[error("{path} does not hold the access statements of this engine: {source}")]
    AccessFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// libchdb did not open.
    #[error("libchdb did not open {path}; its reason is on stderr")]
    Open {
        /// The data path.
        path: PathBuf,
    },
    /// libchdb opened, and failed at once.
    #[error("libchdb answered a first question with: {reason}")]
    Broken {
        /// The exception's text.
        reason: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The password file cannot be read.
    #[error("cannot read the password of `default` from {path}: {source}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pub(crate) fn io_error(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Io {
        action,
        path,
        source,
    }
}

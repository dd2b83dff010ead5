//! What a worker tells of its query, on the way to the client.

use std::io::PipeReader;

use bytes::Bytes;

use crate::exception::Exception;
use crate::statistics::Statistics;

/// A step of a query, in the order in which they come.
pub(crate) enum Progress {
    /// The output comes through this pipe, until the query ends.
    Output(Format, PipeReader),
    /// The query has ended; nothing follows.
    Ended(Result<Outcome, Failure>),
}

/// A query that ended well.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) format: Format,
    pub(crate) statistics: Statistics,
    /// What did not come through a pipe.
    pub(crate) output: Bytes,
}

/// A format, and how HTTP calls it.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    pub(crate) name: String,
    pub(crate) content_type: String,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            name: "TabSeparated".to_owned(),
            content_type: "text/tab-separated-values; charset=UTF-8".to_owned(),
        }
    }
}

/// How a query ends badly.
#[derive(Debug)]
pub(crate) enum Failure {
    Exception(Exception),
    /// The same, before the query itself is looked at: its user, settings or database are refused.
    Early(Exception),
}

impl Failure {
    /// Changes the exception.
    pub(crate) fn map(self, change: impl FnOnce(Exception) -> Exception) -> Self {
        match self {
            Failure::Exception(exception) => Failure::Exception(change(exception)),
            Failure::Early(exception) => Failure::Early(change(exception)),
        }
    }
}

impl From<Exception> for Failure {
    fn from(exception: Exception) -> Self {
        Failure::Exception(exception)
    }
}

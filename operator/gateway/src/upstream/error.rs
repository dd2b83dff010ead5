//! Why ClickHouse gave no answer, or none that is complete.

use super::exception::Exception;
use std::io;

/// Why ClickHouse gave no (complete) answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// Every replica is known to be away.
    #[error("no replica of ClickHouse can be reached")]
    Unavailable,
    /// No connection, so nothing was sent.
    #[error("connect to ClickHouse: {0}")]
    Connect(io::Error),
    /// The connection broke after something was sent: the request may have been carried out.
    #[error("the connection to ClickHouse broke: {0}")]
    Interrupted(io::Error),
    /// No answer in time.
    #[error("ClickHouse did not answer in time")]
    Timeout,
    /// The replica was found dead while the answer was awaited: the request may have been carried out.
    #[error("the replica of ClickHouse answers nothing any more")]
    Lost,
    /// The answer is an exception.
    #[error("exception {}", .0.code)]
    Refused(Exception),
    /// The answer broke off.
    #[error("the answer of ClickHouse broke off")]
    Truncated,
    /// The answer does not hold the id of the query, so it is not ClickHouse's.
    #[error("what answers in place of ClickHouse is not ClickHouse")]
    Foreign,
    /// The answer is not HTTP as we know it.
    #[error("the answer of ClickHouse is not understood: {0}")]
    Malformed(&'static str),
}

impl UpstreamError {
    /// The label in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Connect(_) => "connect",
            Self::Interrupted(_) => "interrupted",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::Refused(_) => "refused",
            Self::Truncated => "truncated",
            Self::Foreign => "foreign",
            Self::Malformed(_) => "malformed",
        }
    }
}

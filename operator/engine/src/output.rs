//! What becomes of a query's output, and of the query, on the way from its worker to the client.

use std::io::{self, PipeReader, PipeWriter};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::exception::Exception;
use crate::statistics::Statistics;

/// The worker's end of the output: a pipe, and the format of what goes through it. It is there from
/// the beginning, so that nobody has to be woken for it.
pub(crate) struct OutputWriter {
    pub(crate) pipe: PipeWriter,
    format: Arc<OnceLock<Format>>,
}

/// The client's end. Nothing is in the pipe before the format is known.
pub(crate) struct OutputReader {
    pub(crate) pipe: PipeReader,
    pub(crate) format: Arc<OnceLock<Format>>,
}

/// Both ends of a query's output.
pub(crate) fn output() -> io::Result<(OutputReader, OutputWriter)> {
    let (reader, writer) = io::pipe()?;
    let format = Arc::default();
    let reader = OutputReader {
        pipe: reader,
        format: Arc::clone(&format),
    };
    Ok((
        reader,
        OutputWriter {
            pipe: writer,
            format,
        },
    ))
}

impl OutputWriter {
    /// Says what will go through the pipe.
    pub(crate) fn announce(&self, format: &Format) {
        // It is said once.
        let _ = self.format.set(format.clone());
    }
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

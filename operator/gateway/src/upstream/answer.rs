//! An answer of ClickHouse, read piece by piece. Its connection is lent to it until its end.

use super::connection::Connection;
use super::error::UpstreamError;
use super::exception::Exception;
use super::framing::Framing;
use super::head::Head;
use super::replica::Replica;
use bytes::Bytes;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Exceptions are shorter, but for their stack traces.
const LONGEST_ERROR: usize = 64 * 1024;
/// How long a short text may take to come when its head is there.
const SHORT_TEXT: Duration = Duration::from_secs(10);

/// An answer of ClickHouse. Dropping it before its end closes the connection,
/// which is how ClickHouse learns that nobody waits for the query any more.
pub(crate) struct Answer {
    head: Head,
    connection: Option<Box<Connection>>,
    replica: Arc<Replica>,
}

impl Answer {
    pub(super) fn new(head: Head, connection: Box<Connection>, replica: Arc<Replica>) -> Self {
        let mut answer = Self {
            head,
            connection: Some(connection),
            replica,
        };
        if answer.head.framing == Framing::Finished {
            answer.finish();
        }
        answer
    }

    /// The answer, if it is not an exception.
    pub(super) async fn or_exception(self) -> Result<Self, UpstreamError> {
        let code = self.head.exception_code;
        if let (false, Some(code)) = (self.head.is_proven, code) {
            return Err(UpstreamError::Refused(Exception::before_the_query(code)));
        }
        if self.head.status == 200 && code.is_none() {
            return Ok(self);
        }
        let text = self.text(LONGEST_ERROR).await?;
        Err(UpstreamError::Refused(Exception::parse(code, &text)))
    }

    /// What precedes an exception in the middle of the body, where the server says so.
    pub(crate) fn take_exception_tag(&mut self) -> Option<Box<str>> {
        self.head.exception_tag.take()
    }

    /// How many rows ClickHouse wrote, into every table that a view writes to, too.
    pub(crate) fn written_rows(&self) -> Option<u64> {
        self.head.written_rows
    }

    /// Who answered.
    pub(crate) fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// See [`Self::next`].
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, UpstreamError>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Ok(None));
        };
        loop {
            if let Some(piece) = self.head.framing.take(&mut connection.received)? {
                // The end of a length is known with its last piece; giving the
                // connection back now spares the next request a new one.
                if self.head.framing == Framing::Finished {
                    self.finish();
                }
                return Poll::Ready(Ok(Some(piece)));
            }
            if self.head.framing == Framing::Finished {
                self.finish();
                return Poll::Ready(Ok(None));
            }
            match ready!(connection.poll_receive(context, self.replica.losses())) {
                Ok(0) if self.head.framing == Framing::UntilClose => {
                    self.connection = None;
                    return Poll::Ready(Ok(None));
                }
                Ok(0) => return Poll::Ready(Err(self.replica.note(UpstreamError::Truncated))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.replica.note(error))),
            }
        }
    }

    /// The whole body, cut at a number of bytes; for what is short and therefore due at once.
    pub(crate) async fn text(mut self, most: usize) -> Result<Vec<u8>, UpstreamError> {
        let mut text = Vec::new();
        let reading = async {
            while let Some(piece) = self.next().await? {
                text.extend_from_slice(&piece[..piece.len().min(most - text.len())]);
                if text.len() == most {
                    break;
                }
            }
            Ok(())
        };
        match timeout(SHORT_TEXT, reading).await {
            Ok(read) => read.map(|()| text),
            Err(_) => Err(self.replica.note(UpstreamError::Timeout)),
        }
    }

    /// Hands the connection back for the next request.
    fn finish(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if self.head.keep_alive && connection.received.is_empty() {
            connection.reclaim();
            let now = Instant::now();
            connection.idle_until = now + self.head.idle;
            self.replica.give_back(now, connection);
        }
    }
}

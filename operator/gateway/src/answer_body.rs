//! The body of an answer: there already, or streamed from ClickHouse.

use crate::error_code::ErrorCode;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What an answer carries.
pub(crate) enum Body {
    /// All of it; `None` once it is sent.
    Full(Option<Bytes>),
    /// Rows as they come.
    Streaming(Rows),
}

/// Rows as they come, and an error where they end too soon.
pub(crate) type Rows = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Cut> + Send>>;

/// An answer that cannot be finished. The connection is cut, so that the client
/// sees a broken transfer and never takes a part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer cannot be finished: {}", .0.as_str())]
pub(crate) struct Cut(pub(crate) ErrorCode);

impl Body {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(rows) => rows.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streaming(_) => SizeHint::default(),
        }
    }
}

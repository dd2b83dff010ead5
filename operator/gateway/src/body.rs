//! The body of an answer: there already, or streamed from ClickHouse.

use crate::endpoint::Streaming;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What an answer carries.
pub(crate) enum Body {
    /// All of it; `None` once it is sent.
    Full(Option<Bytes>),
    /// Rows as they come.
    Streaming(Box<Streaming>),
}

/// An answer that cannot be finished. The connection is cut, so that the client
/// sees a broken transfer and never takes a part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer cannot be finished")]
pub(crate) struct Cut;

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
            Self::Streaming(streaming) => streaming
                .poll_piece(context)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
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

//! The body of a request. When it is not wanted to its end, the rest is read and
//! thrown away in the background: closing a connection on a client that is still
//! sending would take the answer from it, which says why.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// How long a client may go on sending what nobody wants.
const AT_MOST: Duration = Duration::from_secs(30);
/// How long it may be silent meanwhile.
const SILENCE: Duration = Duration::from_secs(5);

/// A body as it comes in.
pub(crate) struct Received(Option<Incoming>);

impl Received {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let unwanted = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (unwanted, tokio::runtime::Handle::try_current()) {
            runtime.spawn(timeout(AT_MOST, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    while let Ok(Some(Ok(_))) = timeout(SILENCE, body.frame()).await {}
}

//! The body of a request. When it is not wanted to its end, the rest is read and
//! thrown away in the background: closing a connection on a client that is still
//! sending would take the answer from it, which says why.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;

/// How long a client may go on sending what nobody wants.
const AT_MOST: Duration = Duration::from_secs(30);
/// How long it may be silent meanwhile.
const SILENCE: Duration = Duration::from_secs(5);

/// A body as it comes in.
pub(crate) struct RequestBody {
    body: Option<Incoming>,
    progress: Option<Arc<BodyProgress>>,
}

/// How far a body has come.
#[derive(Default)]
pub(crate) struct BodyProgress {
    bytes: AtomicU64,
    broke_off: AtomicBool,
}

impl BodyProgress {
    /// Bytes so far, as they came.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it ended before its end.
    pub(crate) fn broke_off(&self) -> bool {
        self.broke_off.load(Ordering::Relaxed)
    }
}

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> Self {
        let progress = (!body.is_end_stream()).then(Arc::default);
        Self {
            body: Some(body),
            progress,
        }
    }

    /// What tells how far it has come, if there is a body at all.
    pub(crate) fn progress(&self) -> Option<Arc<BodyProgress>> {
        self.progress.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if let (Some(frame), Some(progress)) = (&frame, &self.progress) {
            match frame {
                Ok(frame) => {
                    let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                    progress.bytes.fetch_add(length, Ordering::Relaxed);
                }
                Err(_) => progress.broke_off.store(true, Ordering::Relaxed),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let unwanted = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (unwanted, tokio::runtime::Handle::try_current()) {
            runtime.spawn(timeout(AT_MOST, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    while let Ok(Some(Ok(_))) = timeout(SILENCE, body.frame()).await {}
}

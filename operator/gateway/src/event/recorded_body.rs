//! The body of an answer with the record of its request, which ends with it.

use super::recorder::{Recorder, Waiting};
use super::request_event::Ending;
use crate::answer_body::{Body, Cut};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A body that is recorded as it goes out. Dropped before its end, its client is gone.
pub(crate) struct RecordedBody {
    body: Body,
    recorder: Recorder,
}

impl RecordedBody {
    /// Of an answer to a request that is being recorded. `is_sent` is whether its body is to go out,
    /// as it does not for `HEAD`.
    pub(crate) fn new(body: Body, mut recorder: Recorder, is_sent: bool) -> Self {
        // hyper asks neither for any of it.
        if !is_sent || body.size_hint().exact() == Some(0) {
            recorder.end(Ending::Answered);
        }
        Self { body, recorder }
    }

    /// Whether it comes bit by bit, for as long as it takes.
    pub(crate) fn is_streamed(&self) -> bool {
        matches!(self.body, Body::Streaming(_))
    }
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Self { body, recorder } = self.get_mut();
        if matches!(body, Body::Streaming(_)) {
            recorder.waits_for(Waiting::Gateway);
        }
        let polled = Pin::new(&mut *body).poll_frame(context);
        match &polled {
            Poll::Pending => recorder.waits_for(Waiting::ClickHouse),
            Poll::Ready(Some(Ok(frame))) => {
                let is_last = body.is_end_stream();
                if let Some(piece) = frame.data_ref() {
                    recorder.sent(piece, is_last);
                }
                if is_last {
                    recorder.end(Ending::Answered);
                } else {
                    recorder.waits_for(Waiting::Client);
                }
            }
            Poll::Ready(Some(Err(Cut(error)))) => {
                recorder.failed(*error);
                recorder.end(Ending::Cut);
            }
            Poll::Ready(None) => recorder.end(Ending::Answered),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

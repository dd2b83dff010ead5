//! From ClickHouse's answer to the client's.
//!
//! The start of an answer is held back until it is whole or large: a short one
//! goes out in one piece with its length, and an exception in it becomes an error
//! with the right status. What is larger is streamed, at the client's pace.

use super::{Format, failure};
use crate::body::{Body, Cut};
use crate::context::Context;
use crate::error::ApiError;
use crate::metrics::Measured;
use crate::request_id::RequestId;
use crate::upstream::{Answer, Completeness, ExceptionWatch};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Response, header};
use prometheus_client::metrics::counter::Counter;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How much of an answer is held back.
const HELD_BACK: usize = 64 * 1024;

/// Rows on their way from ClickHouse to a client. Dropping this, as happens when
/// the client leaves, drops the connection to ClickHouse, which ends the query.
pub(crate) struct Streaming {
    answer: Answer,
    watch: ExceptionWatch,
    format: Format,
    /// Held back, and to be sent first.
    start: Option<Bytes>,
    finished: bool,
    request_id: RequestId,
    _slot: OwnedSemaphorePermit,
    _measured: Option<Measured>,
    cut_answers: Counter,
}

/// Makes the client's answer.
pub(super) async fn respond(
    context: &Context<'_>,
    mut answer: Answer,
    format: Format,
    slot: OwnedSemaphorePermit,
    measured: &mut Option<Measured>,
) -> Result<Response<Body>, ApiError> {
    let limit = context.workspace()?.query_timeout();
    let mut watch = ExceptionWatch::new(answer.take_exception_tag());
    let Some(first) = next(&mut answer, limit).await? else {
        return finish(context, watch.judge(Bytes::new(), format), format, limit);
    };
    let Some(second) = next(&mut answer, limit).await? else {
        return finish(context, watch.judge(first, format), format, limit);
    };
    let mut start = BytesMut::from(watch.pass(first));
    start.extend_from_slice(&watch.pass(second));
    while start.len() < HELD_BACK {
        let Some(piece) = next(&mut answer, limit).await? else {
            let end = watch.finish(format);
            let whole = |end: Bytes| {
                start.extend_from_slice(&end);
                start.freeze()
            };
            return finish(context, end.map_whole(whole), format, limit);
        };
        start.extend_from_slice(&watch.pass(piece));
    }
    let streaming = Streaming {
        answer,
        watch,
        format,
        start: Some(start.freeze()),
        finished: false,
        request_id: context.request_id.clone(),
        _slot: slot,
        _measured: measured.take().map(|mut measured| {
            measured.status(200);
            measured
        }),
        cut_answers: context.metrics.cut_answers(),
    };
    Ok(response(
        context,
        format,
        Body::Streaming(Box::new(streaming)),
    ))
}

async fn next(answer: &mut Answer, limit: Duration) -> Result<Option<Bytes>, ApiError> {
    let piece = answer.next().await;
    piece.map_err(|error| failure::of_upstream(&error, limit))
}

/// Answers with what is all there.
fn finish(
    context: &Context<'_>,
    answer: Completeness,
    format: Format,
    limit: Duration,
) -> Result<Response<Body>, ApiError> {
    match answer {
        Completeness::Whole(bytes) => Ok(response(context, format, Body::full(bytes))),
        Completeness::Broken(exception) => Err(failure::of_exception(&exception, limit)),
    }
}

fn response(context: &Context<'_>, format: Format, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, format.content_type());
    headers.insert(REQUEST_ID, context.request_id.header());
    response
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl Streaming {
    /// The next rows.
    pub(crate) fn poll_piece(
        &mut self,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes, Cut>>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(Ok(start)));
        }
        while !self.finished {
            let piece = match ready!(self.answer.poll_next(context)) {
                Ok(Some(piece)) => self.watch.pass(piece),
                Ok(None) => {
                    self.finished = true;
                    match self.watch.finish(self.format) {
                        Completeness::Whole(end) => end,
                        Completeness::Broken(exception) => {
                            return self.cut(exception.code, "exception");
                        }
                    }
                }
                Err(error) => return self.cut(0, error.reason()),
            };
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(piece)));
            }
        }
        Poll::Ready(None)
    }

    /// Gives the answer up. The status is sent already, so all that is left is to
    /// break the transfer off where the client can see it.
    fn cut(&mut self, code: i32, reason: &str) -> Poll<Option<Result<Bytes, Cut>>> {
        self.finished = true;
        // The words of an exception may repeat values, so they stay out of the log.
        tracing::warn!(
            request_id = self.request_id.as_str(),
            code,
            reason,
            "an answer is cut in the middle"
        );
        self.cut_answers.inc();
        Poll::Ready(Some(Err(Cut)))
    }
}

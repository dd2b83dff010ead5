//! From ClickHouse's answer to the client's.
//!
//! The start of an answer is held back until it is whole or large: a short one
//! goes out in one piece with its length, and an exception in it becomes an error
//! with the right status. What is larger is streamed, at the client's pace. What is
//! more than a little is counted for its workspace until it is sent.

use super::failure;
use crate::answer_body::{Body, Cut};
use crate::budgets::SMALL_ANSWER;
use crate::context::Context;
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::event::{Recorder, Waiting};
use crate::format::Format;
use crate::memory::Reservation;
use crate::request_id::RequestId;
use crate::upstream::{Answer, Completeness, Exception, ExceptionWatch, UpstreamError};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Response, header};
use http_body::Frame;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How much of an answer is held back.
const HELD_BACK: usize = 64 * 1024;
/// What an answer of more than one piece takes: what is held back, a piece that is being read,
/// and one that is being sent.
const LARGE_ANSWER: usize = HELD_BACK + 3 * 64 * 1024;
/// How long to wait for memory; a client would rather ask again than wait longer.
const MEMORY_PATIENCE: Duration = Duration::from_millis(250);

/// Rows on their way from ClickHouse to a client. Dropping this, as happens when
/// the client leaves, drops the connection to ClickHouse, which ends the query.
struct Streaming {
    answer: Answer,
    watch: ExceptionWatch,
    format: Format,
    /// Held back, and to be sent first.
    start: Option<Bytes>,
    finished: bool,
    request_id: RequestId,
    _slot: OwnedSemaphorePermit,
    _memory: Reservation,
}

/// Makes the client's answer.
pub(super) async fn respond(
    context: &Context<'_>,
    mut answer: Answer,
    format: Format,
    slot: OwnedSemaphorePermit,
    recorder: &mut Recorder,
) -> Result<Response<Body>, ApiError> {
    let limit = context.workspace()?.query_timeout();
    let mut watch = ExceptionWatch::new(answer.take_exception_tag());
    let broken = |error, watch: &mut ExceptionWatch| Broken::off(error, watch).explain(limit);
    let first = answer
        .next()
        .await
        .map_err(|error| broken(error, &mut watch))?;
    let Some(first) = first else {
        let whole = watch.judge(Bytes::new(), format);
        return finish(context, whole, None, format, recorder).await;
    };
    let second = match answer.next().await {
        Ok(Some(second)) => second,
        Ok(None) => {
            let whole = watch.judge(first, format);
            return finish(context, whole, None, format, recorder).await;
        }
        Err(error) => {
            watch.pass(first);
            return Err(broken(error, &mut watch));
        }
    };
    recorder.waits_for(Waiting::Gateway);
    let memory = hold(context, LARGE_ANSWER).await?;
    recorder.waits_for(Waiting::ClickHouse);
    let mut start = BytesMut::from(watch.pass(first));
    start.extend_from_slice(&watch.pass(second));
    while start.len() < HELD_BACK {
        let piece = answer
            .next()
            .await
            .map_err(|error| broken(error, &mut watch))?;
        let Some(piece) = piece else {
            let end = watch.finish(format);
            let whole = |end: Bytes| {
                start.extend_from_slice(&end);
                start.freeze()
            };
            let whole = end.map_whole(whole);
            return finish(context, whole, Some(memory), format, recorder).await;
        };
        start.extend_from_slice(&watch.pass(piece));
    }
    recorder.waits_for(Waiting::Gateway);
    let streaming = Streaming {
        answer,
        watch,
        format,
        start: Some(start.freeze()),
        finished: false,
        request_id: context.request_id.clone(),
        _slot: slot,
        _memory: memory,
    };
    Ok(response(
        context,
        format,
        Body::Streaming(Box::pin(streaming)),
    ))
}

/// Why an answer is not whole.
enum Broken {
    /// ClickHouse said why.
    Exception(Exception),
    /// It broke off without a word.
    Upstream(UpstreamError),
}

impl Broken {
    /// A connection that breaks off: ClickHouse ends it like this after an exception,
    /// whose words stand at the end of what came.
    fn off(error: UpstreamError, watch: &mut ExceptionWatch) -> Self {
        watch
            .broken_off()
            .map_or(Self::Upstream(error), Self::Exception)
    }

    fn explain(&self, limit: Duration) -> ApiError {
        match self {
            Self::Exception(exception) => failure::of_exception(exception, limit),
            Self::Upstream(error) => failure::of_upstream(error, limit),
        }
    }

    /// In one word, for the log.
    fn reason(&self) -> &'static str {
        match self {
            Self::Exception(exception) => failure::kind(exception).as_str(),
            Self::Upstream(error) => error.reason(),
        }
    }

    /// What the client would have been told.
    fn code(&self) -> ErrorCode {
        match self {
            Self::Exception(exception) => failure::kind(exception),
            Self::Upstream(UpstreamError::Timeout) => ErrorCode::QueryTimeout,
            Self::Upstream(_) => ErrorCode::ClickHouseUnavailable,
        }
    }

    /// ClickHouse's number, if it gave one.
    fn exception_code(&self) -> Option<i32> {
        match self {
            Self::Exception(exception) => Some(exception.code),
            Self::Upstream(_) => None,
        }
    }
}

async fn hold(context: &Context<'_>, bytes: usize) -> Result<Reservation, ApiError> {
    let share = &context.workspace()?.shares.answers;
    let held = share.reserve_within(MEMORY_PATIENCE, bytes).await;
    Ok(held.inspect_err(|_| context.metrics.refused("answer"))?)
}

/// Answers with what is all there.
async fn finish(
    context: &Context<'_>,
    answer: Completeness,
    memory: Option<Reservation>,
    format: Format,
    recorder: &mut Recorder,
) -> Result<Response<Body>, ApiError> {
    recorder.waits_for(Waiting::Gateway);
    let bytes = match answer {
        Completeness::Whole(bytes) if bytes.len() <= SMALL_ANSWER => bytes,
        Completeness::Whole(bytes) => {
            let memory = match memory {
                Some(memory) => memory,
                None => hold(context, bytes.len()).await?,
            };
            memory.attach(bytes)
        }
        Completeness::Broken(exception) => {
            let limit = context.workspace()?.query_timeout();
            return Err(failure::of_exception(&exception, limit));
        }
    };
    Ok(response(context, format, Body::full(bytes)))
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
    fn poll_piece(&mut self, context: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
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
                            return self.cut(&Broken::Exception(exception));
                        }
                    }
                }
                Err(error) => {
                    let broken = Broken::off(error, &mut self.watch);
                    return self.cut(&broken);
                }
            };
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(piece)));
            }
        }
        Poll::Ready(None)
    }

    /// Gives the answer up. The status is sent already, so all that is left is to
    /// break the transfer off where the client can see it.
    fn cut(&mut self, broken: &Broken) -> Poll<Option<Result<Bytes, Cut>>> {
        self.finished = true;
        // The words of an exception may repeat values, so they stay out of the log.
        tracing::warn!(
            request_id = self.request_id.as_str(),
            code = broken.exception_code(),
            reason = broken.reason(),
            "an answer is cut in the middle"
        );
        Poll::Ready(Some(Err(Cut(broken.code()))))
    }
}

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let piece = ready!(self.get_mut().poll_piece(context));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }
}

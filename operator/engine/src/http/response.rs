//! Telling an answer as a ClickHouse server does: status, headers, output, exceptions before and in mid-stream.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::body::Coding;
use super::frame;
use crate::exception::{Exception, code};
use crate::running::{CancelOnDrop, Running};
use crate::statistics::Statistics;

/// How many pieces of output may wait for a slow client.
const OUTPUT_CHANNEL: usize = 2;
/// How long the text of a mid-stream exception has to leave before the
/// connection is broken off, which is how a server marks the output as cut.
const ABORT_DELAY: Duration = Duration::from_millis(100);

/// How often a query that waits for its client looks whether it is cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// What all answers of one request share.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerContext {
    pub(crate) query_id: String,
    pub(crate) version: String,
    pub(crate) display_name: String,
    pub(crate) timezone: String,
    pub(crate) coding: Option<Coding>,
    pub(crate) framed: bool,
    pub(crate) buffer_size: usize,
    pub(crate) wait_end_of_query: bool,
}

enum Piece {
    Data(Bytes),
    /// The output is complete. A channel that closes without this was cut.
    End,
    /// The output ends with an exception.
    Abort,
}

/// The beginning of an answer, from the worker to the connection's task.
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    first: VecDeque<Bytes>,
    rest: Option<mpsc::Receiver<Piece>>,
}

/// The worker's end of an answer.
pub(crate) struct Responder {
    context: AnswerContext,
    head: Option<oneshot::Sender<Answer>>,
    rest: Option<mpsc::Sender<Piece>>,
    held: VecDeque<Bytes>,
    held_size: usize,
    packer: Packer,
    format: Option<(String, String)>,
    tag: String,
    statistics: Statistics,
    started: Instant,
    runtime: Handle,
    running: Option<Arc<Running>>,
}

/// The client is gone; there is nobody to tell anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Responder {
    pub(crate) fn new(context: AnswerContext, head: oneshot::Sender<Answer>) -> Self {
        let tag = uuid::Uuid::new_v4()
            .as_bytes()
            .iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect();
        Self {
            packer: Packer::new(context.coding, context.framed),
            context,
            head: Some(head),
            rest: None,
            held: VecDeque::new(),
            held_size: 0,
            format: None,
            tag,
            statistics: Statistics::default(),
            started: Instant::now(),
            runtime: Handle::current(),
            running: None,
        }
    }

    /// Moves the answer elsewhere; what stays behind can say nothing.
    pub(crate) fn take(&mut self) -> Self {
        let vacant = Self {
            context: AnswerContext::default(),
            head: None,
            rest: None,
            held: VecDeque::new(),
            held_size: 0,
            packer: Packer::new(None, false),
            format: None,
            tag: String::new(),
            statistics: Statistics::default(),
            started: self.started,
            runtime: self.runtime.clone(),
            running: None,
        };
        std::mem::replace(self, vacant)
    }

    /// Says whose output it is, so that a cancelled query does not wait for a slow client.
    pub(crate) fn belongs_to(&mut self, query: Arc<Running>) {
        self.running = Some(query);
    }

    /// Names the output's format and its content type, before any output.
    pub(crate) fn set_format(&mut self, format: String, content_type: String) {
        self.format = Some((format, content_type));
    }

    pub(crate) fn count(&mut self, statistics: Statistics) {
        self.statistics.add(statistics);
    }

    /// Passes output on. The first of it is held back up to the buffer size.
    pub(crate) fn write(&mut self, output: Bytes) -> Result<(), Gone> {
        let packed = self.packer.push(output);
        self.emit(packed)
    }

    fn emit(&mut self, packed: Bytes) -> Result<(), Gone> {
        if packed.is_empty() {
            return Ok(());
        }
        if self.rest.is_some() {
            return self.send(Piece::Data(packed));
        }
        self.held_size += packed.len();
        self.held.push_back(packed);
        if self.held_size < self.context.buffer_size || self.context.wait_end_of_query {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel(OUTPUT_CHANNEL);
        self.rest = Some(sender);
        self.send_head(StatusCode::OK, None, Some(receiver))
    }

    /// Sends to a client who may be slow, but not longer than the query may live.
    fn send(&mut self, piece: Piece) -> Result<(), Gone> {
        let Some(rest) = &self.rest else {
            return Err(Gone);
        };
        let mut piece = piece;
        loop {
            piece = match rest.try_send(piece) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(Gone),
                Err(TrySendError::Full(piece)) => piece,
            };
            if self
                .running
                .as_ref()
                .is_some_and(|query| query.is_cancelled())
            {
                return Err(Gone);
            }
            let space = async {
                tokio::time::timeout(CANCEL_INTERVAL, rest.reserve())
                    .await
                    .is_ok()
            };
            self.runtime.block_on(space);
        }
    }

    /// Ends a good answer.
    pub(crate) fn finish(mut self) -> Result<(), Gone> {
        let last = self.packer.finish();
        self.emit(last)?;
        if self.head.is_some() {
            self.send_head(StatusCode::OK, None, None)
        } else {
            self.send(Piece::End)
        }
    }

    /// Ends an answer with an exception: as the answer itself where nothing
    /// was sent yet, inside the output otherwise.
    pub(crate) fn fail(mut self, exception: &Exception) -> Result<(), Gone> {
        let text = exception.render(&self.context.version);
        if self.head.is_none() {
            let before = self.packer.flush();
            self.emit(before)?;
            let packed = self.packer.interrupt(&self.marked(&text));
            self.emit(packed)?;
            return self.send(Piece::Abort);
        }
        self.held.clear();
        let format = self.format.take().map(|(format, _)| format);
        self.format = Some((
            format.unwrap_or_else(|| "TabSeparated".to_owned()),
            "text/plain; charset=UTF-8".to_owned(),
        ));
        self.packer = Packer::new(None, self.context.framed);
        self.context.coding = None;
        let text = self.packer.push(Bytes::from(text));
        self.held.push_back(text);
        self.send_head(exception.status(), Some(exception), None)
    }

    /// Ends an answer before its query is looked at, and without an id. A server gives the id with the
    /// first thing that is known of the result, and with every exception from then on (`processQuery`
    /// in ClickHouse's `HTTPHandler.cpp`, `executeQuery` in its `executeQuery.cpp`).
    pub(crate) fn refuse(mut self, exception: &Exception) -> Result<(), Gone> {
        self.context.query_id.clear();
        self.fail(exception)
    }

    fn marked(&self, text: &str) -> String {
        let tag = &self.tag;
        format!(
            "\r\n__exception__\r\n{tag}\r\n{text}{} {tag}\r\n__exception__\r\n",
            text.len()
        )
    }

    fn send_head(
        &mut self,
        status: StatusCode,
        exception: Option<&Exception>,
        rest: Option<mpsc::Receiver<Piece>>,
    ) -> Result<(), Gone> {
        let answer = Answer {
            status,
            headers: self.headers(exception),
            first: std::mem::take(&mut self.held),
            rest,
        };
        match self.head.take() {
            Some(head) => head.send(answer).map_err(|_| Gone),
            None => Err(Gone),
        }
    }

    fn headers(&self, exception: Option<&Exception>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        let named = HeaderName::from_static;
        let context = &self.context;
        let (format, content_type) = self.format.as_ref().map_or(
            ("TabSeparated", "text/tab-separated-values; charset=UTF-8"),
            |(format, content_type)| (format.as_str(), content_type.as_str()),
        );
        set(CONTENT_TYPE, content_type);
        set(
            named("x-clickhouse-server-display-name"),
            &context.display_name,
        );
        if !context.query_id.is_empty() {
            set(named("x-clickhouse-query-id"), &context.query_id);
            set(named("x-clickhouse-format"), format);
            set(named("x-clickhouse-timezone"), &context.timezone);
        }
        set(named("x-clickhouse-exception-tag"), &self.tag);
        set(named("x-clickhouse-summary"), &self.summary());
        if let Some(coding) = context.coding {
            set(CONTENT_ENCODING, coding.name());
        }
        if let Some(exception) = exception {
            set(
                named("x-clickhouse-exception-code"),
                &exception.code.to_string(),
            );
            if exception.code == code::REQUIRED_PASSWORD {
                set(
                    WWW_AUTHENTICATE,
                    "Basic realm=\"ClickHouse server HTTP API\"",
                );
            }
        }
        headers
    }

    /// The numbers so far, as strings, which is how a server writes them.
    fn summary(&self) -> String {
        let Statistics {
            read_rows,
            read_bytes,
            written_rows,
            written_bytes,
            result_rows,
            result_bytes,
        } = self.statistics;
        let elapsed = self.started.elapsed().as_nanos();
        format!(
            "{{\"read_rows\":\"{read_rows}\",\"read_bytes\":\"{read_bytes}\",\
             \"written_rows\":\"{written_rows}\",\"written_bytes\":\"{written_bytes}\",\
             \"total_rows_to_read\":\"0\",\"result_rows\":\"{result_rows}\",\
             \"result_bytes\":\"{result_bytes}\",\"elapsed_ns\":\"{elapsed}\"}}"
        )
    }
}

/// Packs output for the client.
struct Packer {
    framed: bool,
    coder: Coder,
}

enum Coder {
    Plain,
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Deflate(flate2::write::ZlibEncoder<Vec<u8>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
}

impl Packer {
    fn new(coding: Option<Coding>, framed: bool) -> Self {
        // ClickHouse's default for http_zlib_compression_level.
        let level = flate2::Compression::new(3);
        let coder = match coding {
            None => Coder::Plain,
            Some(Coding::Gzip) => Coder::Gzip(flate2::write::GzEncoder::new(Vec::new(), level)),
            Some(Coding::Deflate) => {
                Coder::Deflate(flate2::write::ZlibEncoder::new(Vec::new(), level))
            }
            Some(Coding::Zstd) => zstd::stream::write::Encoder::new(Vec::new(), 1)
                .map_or(Coder::Plain, |encoder| Coder::Zstd(Box::new(encoder))),
            Some(Coding::Lz4) => {
                Coder::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(Vec::new())))
            }
        };
        Self { framed, coder }
    }

    fn push(&mut self, output: Bytes) -> Bytes {
        let output = if self.framed {
            frame::encode(&output)
        } else {
            output
        };
        // The encoders write into memory, which does not fail.
        match &mut self.coder {
            Coder::Plain => output,
            Coder::Gzip(encoder) => {
                let _ = encoder.write_all(&output);
                std::mem::take(encoder.get_mut()).into()
            }
            Coder::Deflate(encoder) => {
                let _ = encoder.write_all(&output);
                std::mem::take(encoder.get_mut()).into()
            }
            Coder::Zstd(encoder) => {
                let _ = encoder.write_all(&output);
                std::mem::take(encoder.get_mut()).into()
            }
            Coder::Lz4(encoder) => {
                let _ = encoder.write_all(&output);
                std::mem::take(encoder.get_mut()).into()
            }
        }
    }

    /// What was pushed so far, so that it can be unpacked without the rest.
    fn flush(&mut self) -> Bytes {
        match &mut self.coder {
            Coder::Plain => Bytes::new(),
            Coder::Gzip(encoder) => {
                let _ = encoder.flush();
                std::mem::take(encoder.get_mut()).into()
            }
            Coder::Deflate(encoder) => {
                let _ = encoder.flush();
                std::mem::take(encoder.get_mut()).into()
            }
            Coder::Zstd(encoder) => {
                let _ = encoder.flush();
                std::mem::take(encoder.get_mut()).into()
            }
            Coder::Lz4(encoder) => {
                let _ = encoder.flush();
                std::mem::take(encoder.get_mut()).into()
            }
        }
    }

    fn finish(&mut self) -> Bytes {
        match std::mem::replace(&mut self.coder, Coder::Plain) {
            Coder::Plain => Bytes::new(),
            Coder::Gzip(encoder) => encoder.finish().unwrap_or_default().into(),
            Coder::Deflate(encoder) => encoder.finish().unwrap_or_default().into(),
            Coder::Zstd(encoder) => encoder.finish().unwrap_or_default().into(),
            Coder::Lz4(encoder) => encoder.finish().unwrap_or_default().into(),
        }
    }

    /// A last text and the end, in one piece and packed apart from the output
    /// before it: clients look for the text in the last piece they unpack.
    fn interrupt(&mut self, text: &str) -> Bytes {
        let mut bytes = self.push(Bytes::copy_from_slice(text.as_bytes())).to_vec();
        bytes.extend_from_slice(&self.finish());
        bytes.into()
    }
}

/// The body of an answer. Dropped before its end, it cancels the query.
pub(crate) struct AnswerBody {
    first: VecDeque<Bytes>,
    rest: Option<mpsc::Receiver<Piece>>,
    aborting: Option<Pin<Box<Sleep>>>,
    guard: Option<CancelOnDrop>,
}

impl Answer {
    pub(crate) fn into_response(self, guard: Option<CancelOnDrop>) -> Response<AnswerBody> {
        let mut response = Response::new(AnswerBody {
            first: self.first,
            // A whole answer has nothing left to cancel.
            guard: if self.rest.is_some() {
                guard
            } else {
                disarmed(guard)
            },
            rest: self.rest,
            aborting: None,
        });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// An answer made without a query.
    pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=UTF-8"),
        );
        Self {
            status,
            headers,
            first: VecDeque::from([text.into()]),
            rest: None,
        }
    }
}

fn disarmed(guard: Option<CancelOnDrop>) -> Option<CancelOnDrop> {
    if let Some(guard) = guard {
        guard.disarm();
    }
    None
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(data) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        loop {
            if let Some(sleep) = &mut self.aborting {
                return sleep.as_mut().poll(context).map(|()| {
                    Some(Err(io::Error::other(
                        "the query failed after its answer had begun",
                    )))
                });
            }
            let Some(rest) = &mut self.rest else {
                return Poll::Ready(None);
            };
            match rest.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Piece::Data(data))) => {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Piece::Abort)) => {
                    self.guard = disarmed(self.guard.take());
                    self.aborting = Some(Box::pin(tokio::time::sleep(ABORT_DELAY)));
                }
                Poll::Ready(Some(Piece::End)) => {
                    self.guard = disarmed(self.guard.take());
                    self.rest = None;
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Some(Err(io::Error::other("the query was cancelled"))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_none() && self.aborting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let known: usize = self.first.iter().map(Bytes::len).sum();
        if self.rest.is_none() {
            SizeHint::with_exact(known as u64)
        } else {
            SizeHint::default()
        }
    }
}

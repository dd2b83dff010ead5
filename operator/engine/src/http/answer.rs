//! Telling an answer as a ClickHouse server does: status, headers, output, exceptions before it and
//! in the middle of it.

use std::io::{self, PipeReader, Read as _};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::frame;
use super::request::Request;
use crate::core::ServerInfo;
use crate::exception::{Exception, code};
use crate::output::{Failure, Format, Outcome, OutputReader};
use crate::running::CancelOnDrop;
use crate::statistics::Statistics;

/// What comes when a query has ended, after all of its output.
type Ending = oneshot::Receiver<Result<Outcome, Failure>>;

/// How much output is held back, so that an early failure still gets its status.
const HELD_BACK: usize = 1 << 20;

/// How long output may stay in its pipe. A small one fits, and is read when its query has ended:
/// nobody is woken for it before.
const GRACE: Duration = Duration::from_millis(2);

/// How much is taken from a pipe at once: what a pipe holds.
const PIPE_SIZE: usize = 64 * 1024;

/// How many pieces of output may wait for a slow client.
const OUTPUT_CHANNEL: usize = 2;

/// How long the text of an exception has to leave before the connection is broken off, which is how
/// a server marks its output as cut.
const ABORT_DELAY: Duration = Duration::from_millis(100);

/// What is known of an answer before its query runs.
pub(super) struct Answer {
    info: Arc<ServerInfo>,
    /// Nothing where an answer has no id: a server gives it once the query itself is looked at.
    query_id: Option<String>,
    is_framed: bool,
    /// Marks an exception in the middle of the output.
    tag: String,
    started: Instant,
}

impl Answer {
    /// The answer to a request, or to what is none.
    pub(super) fn to(info: &Arc<ServerInfo>, request: Option<&Request>) -> Self {
        let random = uuid::Uuid::new_v4();
        let letters = random.as_bytes().iter().map(|byte| b'a' + byte % 26);
        Self {
            info: Arc::clone(info),
            query_id: request.map(|request| request.query_id.clone()),
            is_framed: request.is_some_and(|request| request.framed_answer),
            tag: letters.map(char::from).collect(),
            started: Instant::now(),
        }
    }

    /// Tells how a query ends, or begins to tell of its output. Dropped before, it cancels the query.
    /// Without an output to read, nothing is sent before the end.
    pub(super) async fn tell(
        self,
        output: Option<OutputReader>,
        mut ending: Ending,
        guard: CancelOnDrop,
    ) -> Response<AnswerBody> {
        let Some(mut output) = output else {
            return self.ended(known(ending.await), Bytes::new(), guard);
        };
        if let Ok(ended) = tokio::time::timeout(GRACE, &mut ending).await {
            let mut small = Vec::new();
            // Nobody holds its other end any more.
            let read = output.pipe.read_to_end(&mut small);
            let ended = known(ended).and_then(|outcome| match read {
                Ok(_) => Ok(outcome),
                Err(error) => Err(no_output(&error)),
            });
            return self.ended(ended, small.into(), guard);
        }
        match hold_back(output.pipe).await {
            Err(error) => self.ended(Err(no_output(&error)), Bytes::new(), guard),
            Ok((held, None)) => self.ended(known(ending.await), held, guard),
            Ok((held, Some(pipe))) => {
                let format = output.format.get().cloned().unwrap_or_default();
                let head = self.head(StatusCode::OK, &format, Statistics::default());
                let (sender, rest) = mpsc::channel(OUTPUT_CHANNEL);
                let first = self.packed(held);
                let stream = Stream {
                    answer: self,
                    pipe,
                    ending,
                    sender,
                };
                tokio::spawn(stream.pass_on(guard));
                response(head, first, Some(rest))
            }
        }
    }

    /// An answer to a request that runs no query.
    pub(super) fn refuse(mut self, failure: Failure) -> Response<AnswerBody> {
        let exception = match failure {
            Failure::Exception(exception) => exception,
            Failure::Early(exception) => {
                self.query_id = None;
                exception
            }
        };
        let format = Format {
            content_type: "text/plain; charset=UTF-8".to_owned(),
            ..Format::default()
        };
        let mut head = self.head(exception.status(), &format, Statistics::default());
        let headers = head.headers_mut();
        headers.insert("x-clickhouse-exception-code", exception.code.into());
        if exception.code == code::REQUIRED_PASSWORD {
            let realm = HeaderValue::from_static("Basic realm=\"ClickHouse server HTTP API\"");
            headers.insert(WWW_AUTHENTICATE, realm);
        }
        let text = exception.render(&self.info.version);
        response(head, self.packed(text.into()), None)
    }

    /// All of an answer at once.
    fn ended(
        self,
        ended: Result<Outcome, Failure>,
        output: Bytes,
        guard: CancelOnDrop,
    ) -> Response<AnswerBody> {
        guard.disarm();
        match ended {
            Err(failure) => self.refuse(failure),
            Ok(outcome) => {
                let head = self.head(StatusCode::OK, &outcome.format, outcome.statistics);
                let output = if output.is_empty() {
                    outcome.output
                } else {
                    output
                };
                response(head, self.packed(output), None)
            }
        }
    }

    fn packed(&self, output: Bytes) -> Bytes {
        if self.is_framed && !output.is_empty() {
            frame::encode(&output)
        } else {
            output
        }
    }

    fn head(&self, status: StatusCode, format: &Format, statistics: Statistics) -> Response<()> {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        let named = HeaderName::from_static;
        set(CONTENT_TYPE, &format.content_type);
        set(
            named("x-clickhouse-server-display-name"),
            &self.info.display_name,
        );
        if let Some(id) = &self.query_id {
            set(named("x-clickhouse-query-id"), id);
            set(named("x-clickhouse-format"), &format.name);
            set(named("x-clickhouse-timezone"), &self.info.timezone);
        }
        set(named("x-clickhouse-exception-tag"), &self.tag);
        let summary = statistics.summary(self.started.elapsed());
        set(named("x-clickhouse-summary"), &summary);
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers;
        head
    }

    /// An exception as it stands in the middle of the output.
    fn marked(&self, exception: &Exception) -> Bytes {
        let tag = &self.tag;
        let text = exception.render(&self.info.version);
        let length = text.len();
        let marked =
            format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n");
        self.packed(marked.into())
    }
}

/// Reads the beginning of the output; with the pipe, if it is not all of it.
async fn hold_back(pipe: PipeReader) -> io::Result<(Bytes, Option<pipe::Receiver>)> {
    let mut pipe = pipe::Receiver::from_owned_fd(OwnedFd::from(pipe))?;
    let mut held = BytesMut::new();
    while held.len() < HELD_BACK {
        held.reserve(PIPE_SIZE);
        if pipe.read_buf(&mut held).await? == 0 {
            return Ok((held.freeze(), None));
        }
    }
    Ok((held.freeze(), Some(pipe)))
}

/// The rest of an output that does not fit into what is held back.
struct Stream {
    answer: Answer,
    pipe: pipe::Receiver,
    ending: Ending,
    sender: mpsc::Sender<Piece>,
}

enum Piece {
    Data(Bytes),
    /// The output is complete. A channel that closes without this was cut.
    End,
}

impl Stream {
    /// Passes it on to the client. When he is gone or the query is cancelled, the pipe is closed: a
    /// full one that nobody reads would hold the query for ever.
    async fn pass_on(mut self, guard: CancelOnDrop) {
        loop {
            let mut piece = BytesMut::with_capacity(PIPE_SIZE);
            let passed = async {
                match self.pipe.read_buf(&mut piece).await {
                    Ok(0) | Err(_) => None,
                    Ok(_) => {
                        let piece = self.answer.packed(piece.freeze());
                        Some(self.sender.send(Piece::Data(piece)).await.is_ok())
                    }
                }
            };
            let passed = tokio::select! {
                () = guard.cancelled() => return,
                passed = passed => passed,
            };
            match passed {
                Some(true) => {}
                Some(false) => return,
                None => break,
            }
        }
        let last = match known(self.ending.await) {
            Ok(_) => Piece::End,
            Err(Failure::Exception(exception) | Failure::Early(exception)) => {
                let text = Piece::Data(self.answer.marked(&exception));
                if self.sender.send(text).await.is_err() {
                    return;
                }
                // What is left is to break off.
                return tokio::time::sleep(ABORT_DELAY).await;
            }
        };
        // Whoever is gone needs no end.
        let _ = self.sender.send(last).await;
        guard.disarm();
    }
}

/// How a query ended. Only a panic of its worker leaves that without a word.
fn known(
    ended: Result<Result<Outcome, Failure>, oneshot::error::RecvError>,
) -> Result<Outcome, Failure> {
    let lost = |_| Exception::new(code::LOGICAL_ERROR, "The engine failed.");
    ended.map_err(lost)?
}

fn no_output(error: &io::Error) -> Failure {
    Exception::new(
        code::LOGICAL_ERROR,
        format!("Cannot read the output: {error}."),
    )
    .into()
}

fn response(
    head: Response<()>,
    first: Bytes,
    rest: Option<mpsc::Receiver<Piece>>,
) -> Response<AnswerBody> {
    head.map(|()| AnswerBody { first, rest })
}

/// An answer made without a query.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    let html = HeaderValue::from_static("text/html; charset=UTF-8");
    head.headers_mut().insert(CONTENT_TYPE, html);
    response(head, text.into(), None)
}

/// The body of an answer: what was held back, and what is yet to come.
pub(super) struct AnswerBody {
    first: Bytes,
    rest: Option<mpsc::Receiver<Piece>>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        rest.poll_recv(context).map(|piece| match piece {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::End) => {
                self.rest = None;
                None
            }
            None => Some(Err(io::Error::other("the query has not ended well"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            None => SizeHint::with_exact(self.first.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}

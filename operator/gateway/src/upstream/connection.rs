//! One request and its answer on one connection.

use super::framing::{Chunk, Framing};
use super::patience::{Losses, Patience};
use super::replica::Replica;
use super::stream::Stream;
use super::{Address, Exception, UpstreamError};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use secrecy::{ExposeSecret, SecretString};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// More than ClickHouse ever sends.
const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;
/// Exceptions are shorter, but for their stack traces.
const LONGEST_ERROR: usize = 64 * 1024;
const READ_SIZE: usize = 64 * 1024;
const LEAST_ROOM: usize = 4 * 1024;
/// Bodies up to this size travel in the same segment as the head.
const SMALL_BODY: usize = 16 * 1024;
/// How long a replica may take nothing of a body.
const TAKING: Duration = Duration::from_secs(30);
/// How long a short text may take to come when its head is there.
const SHORT_TEXT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept when ClickHouse does not say.
const DEFAULT_IDLE: Duration = Duration::from_secs(5);

/// A connection to a replica that no answer is being read from.
pub(super) struct Connection {
    stream: Stream,
    received: BytesMut,
    /// The memory in which heads of requests are written.
    head: Vec<u8>,
    /// With the answer that is awaited; kept for the next one.
    patience: Option<Patience>,
    /// When the replica may close it.
    pub(super) idle_until: Instant,
}

/// The value of an `Authorization` header.
#[derive(Clone, Debug)]
pub(crate) struct Authorization(SecretString);

impl PartialEq for Authorization {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Authorization {
    pub(crate) fn basic(user: &str, password: &SecretString) -> Self {
        use base64::Engine as _;
        let pair = format!("{user}:{}", password.expose_secret());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        Self(format!("Basic {encoded}").into())
    }
}

/// A request to ClickHouse.
pub(crate) struct Request<'a> {
    /// The query string, without `?`.
    pub(crate) query: &'a str,
    pub(crate) authorization: &'a Authorization,
    pub(crate) body: &'a [&'a [u8]],
    /// How long to wait for the answer, all of it. Time in which the answer waits for its reader counts,
    /// but what has come by then is still given.
    pub(crate) patience: Duration,
    /// Where it may be carried out a second time.
    pub(crate) repeat: Repeat,
}

/// Where a request may be carried out a second time, when it is not known whether it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// At any replica: it only reads.
    Anywhere,
    /// At the same: it writes under a name by which the replica knows it again.
    AtTheSame,
}

/// What an answer starts with.
#[derive(Debug)]
pub(super) struct Head {
    status: u16,
    framing: Framing,
    keep_alive: bool,
    idle: Duration,
    exception_code: Option<i32>,
    exception_tag: Option<Box<str>>,
    written_rows: Option<u64>,
    /// Whether ClickHouse gave it, and not whatever else is at the address.
    is_clickhouse: bool,
}

/// An answer of ClickHouse. Dropping it before its end closes the connection,
/// which is how ClickHouse learns that nobody waits for the query any more.
pub(crate) struct Answer {
    head: Head,
    connection: Option<Box<Connection>>,
    replica: Arc<Replica>,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            head: Vec::with_capacity(1024),
            patience: None,
            idle_until: Instant::now() + DEFAULT_IDLE,
        }
    }

    /// Whether it can carry another request.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now < self.idle_until && self.received.is_empty() && self.stream.is_quiet()
    }

    /// Sends a request and waits for the head of the answer, for as long as the request has patience.
    pub(super) async fn exchange(
        &mut self,
        now: Instant,
        address: &Address,
        request: &Request<'_>,
        losses: &Losses,
    ) -> Result<Head, UpstreamError> {
        let mut patience = self.patience.take().unwrap_or_else(Patience::new);
        patience.start(now.into(), request.patience, losses);
        let result = tokio::select! {
            biased;
            result = self.ask(address, request) => result,
            error = poll_fn(|context| patience.poll_end(context, losses)) => Err(error),
        };
        self.patience = Some(patience);
        // Neither text nor status of anything else reaches a client.
        let head = result?;
        if head.is_clickhouse {
            Ok(head)
        } else {
            Err(UpstreamError::Malformed("it is not ClickHouse's"))
        }
    }

    async fn ask(
        &mut self,
        address: &Address,
        request: &Request<'_>,
    ) -> Result<Head, UpstreamError> {
        let sent = self.send(address, request).await;
        match sent {
            Ok(()) => self.head().await,
            Err(error @ UpstreamError::Interrupted(_)) => {
                // ClickHouse answers early when it refuses a request, and closes.
                self.head().await.map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the server says that it is up.
    pub(super) async fn ping(&mut self, address: &Address) -> bool {
        let request = format!(
            "GET {}/ping HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            address.path, address.authority,
        );
        self.write(request.as_bytes()).await.is_ok()
            && self.head().await.is_ok_and(|head| head.status == 200)
    }

    async fn send(
        &mut self,
        address: &Address,
        request: &Request<'_>,
    ) -> Result<(), UpstreamError> {
        let pieces = request.body;
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut digits = itoa::Buffer::new();
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        for text in [
            "POST ",
            &address.path,
            "/?",
            request.query,
            " HTTP/1.1\r\nHost: ",
            &address.authority,
            "\r\nUser-Agent: aviary-gateway\r\nAuthorization: ",
            request.authorization.0.expose_secret(),
            "\r\nContent-Length: ",
            digits.format(length),
            "\r\n\r\n",
        ] {
            head.extend_from_slice(text.as_bytes());
        }
        if length <= SMALL_BODY {
            pieces
                .iter()
                .for_each(|piece| head.extend_from_slice(piece));
            let sent = self.write(&head).await;
            self.head = head;
            return sent;
        }
        self.write(&head).await?;
        self.head = head;
        for piece in pieces {
            self.write_while_taken(piece).await?;
        }
        Ok(())
    }

    /// Writes what is large, for as long as the replica takes some of it now and then.
    async fn write_while_taken(&mut self, mut bytes: &[u8]) -> Result<(), UpstreamError> {
        while !bytes.is_empty() {
            let written = timeout(TAKING, self.stream.write(bytes)).await;
            match written.map_err(|_| UpstreamError::Timeout)? {
                Ok(0) => return Err(UpstreamError::Interrupted(io::ErrorKind::WriteZero.into())),
                Ok(count) => bytes = &bytes[count..],
                Err(error) => return Err(UpstreamError::Interrupted(error)),
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), UpstreamError> {
        self.stream
            .write_all(bytes)
            .await
            .map_err(UpstreamError::Interrupted)
    }

    async fn head(&mut self) -> Result<Head, UpstreamError> {
        loop {
            if let Some(head) = parse_head(&mut self.received)? {
                return Ok(head);
            }
            self.make_room();
            let count = self.stream.read_buf(&mut self.received).await;
            match count {
                Ok(0) => {
                    return Err(UpstreamError::Interrupted(
                        io::ErrorKind::UnexpectedEof.into(),
                    ));
                }
                Ok(_) => {}
                Err(error) => return Err(UpstreamError::Interrupted(error)),
            }
        }
    }

    /// Receives more of the answer; how many bytes.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        losses: &Losses,
    ) -> Poll<Result<usize, UpstreamError>> {
        self.make_room();
        let stream = Pin::new(&mut self.stream);
        match tokio_util::io::poll_read_buf(stream, context, &mut self.received) {
            Poll::Ready(received) => Poll::Ready(received.map_err(UpstreamError::Interrupted)),
            Poll::Pending => match &mut self.patience {
                Some(patience) => patience.poll_end(context, losses).map(Err),
                None => Poll::Pending,
            },
        }
    }

    /// Reserving rarely lets a buffer serve many short answers.
    fn make_room(&mut self) {
        if self.received.capacity() - self.received.len() < LEAST_ROOM {
            self.received.reserve(READ_SIZE);
        }
    }
}

/// Takes the head of an answer out of what was received, if it is all there.
fn parse_head(received: &mut BytesMut) -> Result<Option<Head>, UpstreamError> {
    loop {
        let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            received,
            &mut headers,
        );
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if received.len() > LONGEST_HEAD => {
                return Err(UpstreamError::Malformed("its head does not end"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(UpstreamError::Malformed("its head is not HTTP")),
        };
        let head = read_head(&response)?;
        received.advance(length);
        if head.status >= 200 {
            return Ok(Some(head));
        }
    }
}

fn read_head(response: &httparse::Response<'_, '_>) -> Result<Head, UpstreamError> {
    let mut head = Head {
        status: response.code.unwrap_or_default(),
        framing: Framing::UntilClose,
        keep_alive: response.version == Some(1),
        idle: DEFAULT_IDLE,
        exception_code: None,
        exception_tag: None,
        written_rows: None,
        is_clickhouse: false,
    };
    let mut length: Option<u64> = None;
    for header in &*response.headers {
        head.is_clickhouse |= is_clickhouse_header(header.name);
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = header.value.trim_ascii();
        if is("content-length") {
            let said = number(value).ok_or(UpstreamError::Malformed("its length is no number"))?;
            if length.replace(said).is_some_and(|before| before != said) {
                return Err(UpstreamError::Malformed("it has two lengths"));
            }
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(UpstreamError::Malformed("its transfer encoding is unknown"));
            }
            head.framing = Framing::Chunked(Chunk::Size);
        } else if is("connection") {
            head.keep_alive &= !value.eq_ignore_ascii_case(b"close");
        } else if is("keep-alive") {
            head.idle = idle(value).unwrap_or(DEFAULT_IDLE);
        } else if is("x-clickhouse-exception-code") {
            head.exception_code = number(value);
        } else if is("x-clickhouse-exception-tag") {
            head.exception_tag = str::from_utf8(value).ok().map(Into::into);
        } else if is("x-clickhouse-summary") {
            head.written_rows = written_rows(value);
        }
    }
    if matches!(head.status, 204 | 304) {
        head.framing = Framing::Finished;
    } else if let (Framing::UntilClose, Some(length)) = (head.framing, length) {
        head.framing = if length == 0 {
            Framing::Finished
        } else {
            Framing::Length(length)
        };
    }
    Ok(head)
}

/// ClickHouse puts such headers on every answer to a query, and on every exception.
fn is_clickhouse_header(name: &str) -> bool {
    const PREFIX: &[u8] = b"x-clickhouse-";
    let start = name.as_bytes().get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Digits and nothing else: Rust would read a sign, too.
fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// `{"read_rows":"0","written_rows":"3",...}`
fn written_rows(summary: &[u8]) -> Option<u64> {
    static FIELD: LazyLock<memmem::Finder<'static>> =
        LazyLock::new(|| memmem::Finder::new("\"written_rows\":\""));
    let start = FIELD.find(summary)? + FIELD.needle().len();
    number(summary[start..].split(|&byte| byte == b'"').next()?)
}

/// `timeout=10, max=99`, less a second, so that we close before the replica does.
fn idle(value: &[u8]) -> Option<Duration> {
    let timeout = value
        .split(|&byte| byte == b',')
        .find_map(|part| part.trim_ascii().strip_prefix(b"timeout="))?;
    let seconds: u64 = number(timeout.trim_ascii())?;
    Some(Duration::from_secs(seconds.clamp(2, 60) - 1))
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
            // The next answer is received where this one was, in memory that caches still have.
            let _ = connection.received.try_reclaim(READ_SIZE);
            let now = Instant::now();
            connection.idle_until = now + self.head.idle;
            self.replica.give_back(now, connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let mut received = BytesMut::from(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Internal Server Error\r\nConnection: Keep-Alive\r\n\
             Keep-Alive: timeout=10, max=9999\r\nTransfer-Encoding: chunked\r\nX-ClickHouse-Exception-Code: 241\r\n\
             X-ClickHouse-Exception-Tag: abcdefghijklmnop\r\n\
             X-ClickHouse-Summary: {\"read_rows\":\"7\",\"written_rows\":\"12\",\"elapsed_ns\":\"5\"}\r\n\r\nrest",
        );
        let head = parse_head(&mut received).unwrap().unwrap();
        assert_eq!(
            (head.status, head.framing),
            (500, Framing::Chunked(Chunk::Size))
        );
        assert_eq!((head.keep_alive, head.idle), (true, Duration::from_secs(9)));
        assert_eq!(head.exception_code, Some(241));
        assert_eq!(head.exception_tag.as_deref(), Some("abcdefghijklmnop"));
        assert_eq!(head.written_rows, Some(12));
        assert!(head.is_clickhouse);
        assert_eq!(&received[..], b"rest");
    }

    #[test]
    fn a_length_is_digits_and_said_once() {
        for lengths in [
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: ",
            "Content-Length: 0x5",
            "Content-Length: 5\r\nContent-Length: 6",
        ] {
            let mut received = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n")
                .as_str()
                .into();
            assert!(parse_head(&mut received).is_err(), "{lengths}");
        }
    }

    #[test]
    fn a_head_may_come_in_pieces() {
        let wire = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n";
        for cut in 0..wire.len() {
            assert!(
                parse_head(&mut BytesMut::from(&wire[..cut]))
                    .unwrap()
                    .is_none(),
                "{cut}"
            );
        }
        let head = parse_head(&mut BytesMut::from(wire)).unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive), (Framing::Length(3), false));
        assert!(!head.is_clickhouse);
    }

    #[test]
    fn credentials_do_not_print() {
        let authorization = Authorization::basic("reader", &"hunter2".to_owned().into());
        assert_eq!(
            authorization.0.expose_secret(),
            "Basic cmVhZGVyOmh1bnRlcjI="
        );
        assert!(!format!("{authorization:?}").contains("cmVh"));
    }
}

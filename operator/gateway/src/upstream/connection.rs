//! A connection to a replica: one request and the head of its answer at a time.

use super::address::Address;
use super::error::UpstreamError;
use super::head::{DEFAULT_IDLE, Head, parse_head};
use super::patience::{Losses, Patience};
use super::stream::Stream;
use crate::request_id::RequestId;
use bytes::BytesMut;
use secrecy::{ExposeSecret, SecretString};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const READ_SIZE: usize = 64 * 1024;
const LEAST_ROOM: usize = 4 * 1024;
/// Bodies up to this size travel in the same segment as the head.
const SMALL_BODY: usize = 16 * 1024;
/// How long a replica may take nothing of a body.
const TAKING: Duration = Duration::from_secs(30);

/// A connection to a replica that no answer is being read from.
pub(super) struct Connection {
    stream: Stream,
    pub(super) received: BytesMut,
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
    /// The id of the query, by which ClickHouse proves that the answer is its own; a new one for each
    /// time it is sent, if there is none.
    pub(crate) query_id: Option<&'a RequestId>,
    /// The rest of the query string.
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
        let head = result?;
        if head.is_proven || head.exception_code.is_some() {
            Ok(head)
        } else {
            Err(UpstreamError::Foreign)
        }
    }

    async fn ask(
        &mut self,
        address: &Address,
        request: &Request<'_>,
    ) -> Result<Head, UpstreamError> {
        let query_id = request.query_id.cloned().unwrap_or_else(RequestId::new);
        let query_id = query_id.as_str();
        let sent = self.send(address, query_id, request).await;
        match sent {
            Ok(()) => self.head(query_id).await,
            Err(error @ UpstreamError::Interrupted(_)) => {
                // ClickHouse answers early when it refuses a request, and closes.
                self.head(query_id).await.map_err(|_| error)
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
            && self.head("").await.is_ok_and(|head| head.status == 200)
    }

    async fn send(
        &mut self,
        address: &Address,
        query_id: &str,
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
            if request.query.is_empty() { "" } else { "&" },
            "query_id=",
            query_id,
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

    async fn head(&mut self, query_id: &str) -> Result<Head, UpstreamError> {
        loop {
            if let Some(head) = parse_head(&mut self.received, query_id)? {
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
    pub(super) fn poll_receive(
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

    /// Takes the memory of an answer back that is read: the next is received where this one was, in
    /// memory that caches still have.
    pub(super) fn reclaim(&mut self) {
        let _ = self.received.try_reclaim(READ_SIZE);
    }

    /// Reserving rarely lets a buffer serve many short answers.
    fn make_room(&mut self) {
        if self.received.capacity() - self.received.len() < LEAST_ROOM {
            self.received.reserve(READ_SIZE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

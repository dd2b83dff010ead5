//! A client's connection that gives up on clients that do not read: their queries
//! would hold a slot and memory for as long as they like. And it is reset when it
//! ends in the middle of an answer that has no other end than the connection's, as
//! answers over HTTP/1.0 have: what is cut must not look whole.

use crate::connections::Peer;
use crate::head_timer::HeadTimer;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// A connection whose writes must get on.
pub(crate) struct ClientStream {
    io: TokioIo<TcpStream>,
    peer: Arc<Peer>,
    /// Whether closing it resets it. The system keeps to that even when the process dies.
    resets: bool,
    patience: Duration,
    /// Is told when something comes.
    timer: HeadTimer,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    pub(crate) fn new(
        socket: TcpStream,
        peer: Arc<Peer>,
        patience: Duration,
        timer: HeadTimer,
    ) -> Self {
        Self {
            io: TokioIo::new(socket),
            peer,
            resets: false,
            patience,
            timer,
            stalled: None,
        }
    }

    /// Until an answer without another end is whole, closing means that it is not.
    fn guard_answer(&mut self) -> io::Result<()> {
        if !self.resets && self.peer.has_unframed_answer() {
            set_reset(self.io.inner(), true)?;
            self.resets = true;
        }
        Ok(())
    }

    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        if read.is_ready() {
            this.timer.received();
        }
        read
    }
}

impl Write for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.guard_answer()?;
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.watch(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.guard_answer()?;
        let written = Pin::new(&mut this.io).poll_write_vectored(context, pieces);
        this.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(context);
        this.watch(context, flushed)
    }

    /// hyper comes here when all is sent, and not when an answer breaks off.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.resets {
            set_reset(this.io.inner(), false)?;
            this.resets = false;
        }
        Pin::new(&mut this.io).poll_shutdown(context)
    }
}

/// Whether closing a connection resets it.
fn set_reset(socket: &TcpStream, resets: bool) -> io::Result<()> {
    let linger = resets.then_some(Duration::ZERO);
    Ok(rustix::net::sockopt::set_socket_linger(socket, linger)?)
}

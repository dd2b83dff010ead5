//! How many connections there may be, altogether and from one origin. Those beyond are told
//! so in a few bytes and closed: a load balancer takes a refusal at once, and waits long for
//! a connection that nobody accepts.

use crate::error_code::ErrorCode;
use crate::origin::Origin;
use crate::request_id::RequestId;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections that are being refused at once; more are closed without a word.
const MOST_REFUSED: usize = 128;
/// How long a client may take to read that it is refused.
const FAREWELL: Duration = Duration::from_secs(1);

/// The open connections.
pub(crate) struct Connections {
    most: usize,
    most_of_origin: usize,
    open: Mutex<Open>,
    refusals: Arc<Semaphore>,
    gauge: Gauge,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_origin: HashMap<Origin, usize>,
}

/// A connection that is let in, and counted until it ends.
pub(crate) struct Peer {
    pub(crate) origin: Origin,
    connections: Arc<Connections>,
    /// The start of the hash of the token that worked last; 0 before one has.
    trusted: AtomicU64,
    /// Whether only the end of the connection will tell the end of an answer.
    ends_answer: AtomicBool,
}

impl Connections {
    /// So many altogether, and so many of one origin.
    pub(crate) fn new(most: usize, most_of_origin: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_origin,
            open: Mutex::default(),
            refusals: Arc::new(Semaphore::new(MOST_REFUSED)),
            gauge,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, if there is room.
    pub(crate) fn admit(self: &Arc<Self>, origin: Origin) -> Option<Peer> {
        let mut open = self.open();
        let of_origin = open.by_origin.get(&origin).copied().unwrap_or(0);
        if open.all >= self.most || of_origin >= self.most_of_origin {
            return None;
        }
        open.all += 1;
        open.by_origin.insert(origin, of_origin + 1);
        self.gauge.set(open.all as i64);
        Some(Peer {
            origin,
            connections: Arc::clone(self),
            trusted: AtomicU64::new(0),
            ends_answer: AtomicBool::new(false),
        })
    }

    fn leave(&self, origin: Origin) {
        let mut open = self.open();
        open.all -= 1;
        self.gauge.set(open.all as i64);
        if let Some(count) = open.by_origin.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                open.by_origin.remove(&origin);
            }
        }
    }

    /// Answers a connection that is not let in, and closes it.
    pub(crate) fn refuse(&self, mut socket: TcpStream) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            let farewell = async {
                socket.write_all(refusal().as_bytes()).await?;
                socket.shutdown().await?;
                // What is closed with something unread takes the answer back.
                while socket.read(&mut [0; 1024]).await? > 0 {}
                Ok::<_, std::io::Error>(())
            };
            let _ = timeout(FAREWELL, farewell).await;
            drop(permit);
        });
    }
}

fn refusal() -> String {
    let code = ErrorCode::TooManyConnections;
    let document = serde_json::json!({
        "error": "the gateway has as many connections as it takes: try again",
        "code": code.as_str(),
        "request_id": RequestId::new().as_str(),
    });
    let document = format!("{document}\n");
    format!(
        "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n{document}",
        code.status(),
        document.len(),
    )
}

impl Peer {
    /// Whether this token was the last that worked here.
    pub(crate) fn trusts(&self, token: u64) -> bool {
        self.trusted.load(Ordering::Relaxed) == token
    }

    /// Remembers the last token that worked.
    pub(crate) fn trust(&self, token: u64) {
        self.trusted.store(token, Ordering::Relaxed);
    }

    /// An answer begins whose end only the end of the connection will tell.
    pub(crate) fn begin_unframed_answer(&self) {
        self.ends_answer.store(true, Ordering::Relaxed);
    }

    /// Whether such an answer has begun.
    pub(crate) fn has_unframed_answer(&self) -> bool {
        self.ends_answer.load(Ordering::Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.connections.leave(self.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    #[test]
    fn there_is_a_bound_for_all_and_one_for_each_origin() {
        let gauge = Gauge::default();
        let connections = Connections::new(3, 2, gauge.clone());
        let (here, there) = (origin("192.0.2.1"), origin("2001:db8::1"));
        let first = connections.admit(here).unwrap();
        let _second = connections.admit(here).unwrap();
        assert!(connections.admit(here).is_none());
        let third = connections.admit(there).unwrap();
        assert!(connections.admit(there).is_none());
        drop(first);
        assert!(connections.admit(here).is_some());
        drop(third);
        assert_eq!(gauge.get(), 1);
        assert_eq!(connections.open().by_origin.len(), 1);
    }
}

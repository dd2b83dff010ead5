//! A request's body on its way from the connection to the worker, or to nowhere when the answer is
//! there before its end.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::body::{BodyPiece, BodySource};
use crate::exception::{Exception, code};

/// Bodies up to this size are read before a worker starts.
const SMALL_BODY: u64 = 64 * 1024;

/// How many pieces of a body may wait for the engine.
const BODY_CHANNEL: usize = 4;

/// How long a client may send nothing: a server's `http_receive_timeout`.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// How much of a body is read for nothing,
const MOST_DRAINED: usize = 16 << 20;

/// and for how long. A connection closed on unread data is reset, which can
/// cost the client the answer.
const LONGEST_DRAINING: Duration = Duration::from_secs(5);

/// A body that comes in while its worker runs.
pub(super) struct Upload {
    body: Incoming,
    /// Nothing once the body has ended, or nobody wants it.
    sender: Option<mpsc::Sender<BodyPiece>>,
}

/// A small body as a whole, or one that is yet to be pumped to its reader.
pub(super) async fn start(mut body: Incoming) -> Result<(BodySource, Option<Upload>), Exception> {
    let is_small = body
        .size_hint()
        .upper()
        .is_some_and(|size| size <= SMALL_BODY);
    if is_small {
        return whole(&mut body)
            .await
            .map(|whole| (BodySource::Whole(whole), None));
    }
    let (sender, receiver) = mpsc::channel(BODY_CHANNEL);
    let upload = Upload {
        body,
        sender: Some(sender),
    };
    Ok((BodySource::Stream(receiver), Some(upload)))
}

async fn whole(body: &mut Incoming) -> Result<Bytes, Exception> {
    // Most often it is in one piece, which is not copied.
    let first = next(body, LONGEST_SILENCE).await?.unwrap_or_default();
    let Some(second) = next(body, LONGEST_SILENCE).await? else {
        return Ok(first);
    };
    let mut all = BytesMut::from(first);
    all.extend_from_slice(&second);
    while let Some(data) = next(body, LONGEST_SILENCE).await? {
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// The next bytes of a body; nothing at its end.
async fn next(body: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, Exception> {
    loop {
        let Ok(frame) = tokio::time::timeout(patience, body.frame()).await else {
            return Err(Exception::new(
                code::SOCKET_TIMEOUT,
                "Timeout exceeded while reading from socket: the client sent nothing more of its request.",
            ));
        };
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(Exception::new(code::NETWORK_ERROR, error.to_string()));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

impl Upload {
    /// A body that nobody reads.
    pub(super) fn unwanted(body: Incoming) -> Self {
        Self { body, sender: None }
    }

    /// Moves the body to its reader until one of both ends. A sender that is
    /// dropped without an end tells the reader that the client went away.
    pub(super) async fn pump(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        loop {
            let piece = match next(&mut self.body, LONGEST_SILENCE).await {
                Ok(Some(data)) => BodyPiece::Data(data),
                Ok(None) => BodyPiece::End,
                Err(_) => return,
            };
            let ended = matches!(piece, BodyPiece::End);
            if sender.send(piece).await.is_err() || ended {
                return;
            }
        }
    }

    /// Reads on for nothing, within bounds.
    pub(super) async fn drain(mut self) {
        let draining = async {
            let mut drained = 0;
            while let Ok(Some(data)) = next(&mut self.body, LONGEST_DRAINING).await {
                drained += data.len();
                if drained > MOST_DRAINED {
                    return;
                }
            }
        };
        // Either way the body is dropped.
        let _ = tokio::time::timeout(LONGEST_DRAINING, draining).await;
    }
}

//! Reads a body in pieces that are worth splitting, and notices when its client pauses.

use super::plain_body::PlainBody;
use super::splitting::LARGE_PIECE;
use crate::error::ApiError;
use bytes::{Bytes, BytesMut};
use std::time::Duration;
use tokio::time::timeout;

/// When a client sends nothing for so long, what it has sent goes on without more.
const PAUSE: Duration = Duration::from_secs(1);
/// Of a body that is not small, this much is split at a time, if it comes without a break.
pub(super) const BATCH: usize = 2 * LARGE_PIECE;
const BREAK: Duration = Duration::from_millis(2);

/// A body that is being read.
pub(super) struct BodyReader {
    body: PlainBody,
    /// Bytes so far.
    seen: usize,
    /// Why it ends before its end, to be said when what came before is read.
    broken: Option<ApiError>,
}

/// What there is to read.
pub(super) enum Read {
    Piece(Bytes),
    /// Nothing now.
    Pause,
    End,
}

impl BodyReader {
    pub(super) fn new(body: PlainBody) -> Self {
        Self {
            body,
            seen: 0,
            broken: None,
        }
    }

    /// The next bytes as they come.
    pub(super) async fn next(&mut self) -> Result<Read, ApiError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let Ok(piece) = timeout(PAUSE, self.body.next()).await else {
            return Ok(Read::Pause);
        };
        let Some(piece) = piece? else {
            return Ok(Read::End);
        };
        self.seen += piece.len();
        Ok(Read::Piece(piece))
    }

    /// Whether a piece is better split with what comes right after it, [`BATCH`] bytes in all and no
    /// more than a piece beyond.
    pub(super) fn is_batched(&self, piece: &Bytes) -> bool {
        self.seen >= LARGE_PIECE && piece.len() < BATCH
    }

    /// The piece with what comes right after it.
    pub(super) async fn batch(&mut self, piece: Bytes) -> Bytes {
        let mut batch = BytesMut::from(piece);
        while batch.len() < BATCH {
            match timeout(BREAK, self.body.next()).await {
                Ok(Ok(Some(more))) => batch.extend_from_slice(&more),
                Ok(Ok(None)) | Err(_) => break,
                Ok(Err(error)) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        batch.freeze()
    }
}

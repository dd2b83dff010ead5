//! The body of a request as a stream of plain bytes: decompressed, no larger
//! than allowed, and given up when the client sends nothing for too long. What
//! its decoder takes is counted before the decoder gets to it.

use super::zstd_frames::Frames;
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::memory::{InUse, Reservation, Share};
use crate::request_body::RequestBody;
use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

/// How much is decompressed at a time.
const PLAIN_PIECE: usize = 128 * 1024;
/// The window of a zstd frame is memory of the gateway, for each request. This
/// many bits are 8 MiB, which is what RFC 8878 asks decoders to have.
const ZSTD_WINDOW_BITS: u32 = 23;
/// What decoders take: pieces, tables, and a window of 32 KiB.
const INFLATE: usize = PLAIN_PIECE + 64 * 1024;
/// The same, with three blocks of 128 KiB, and without the window, which each frame has of its own.
const ZSTD: usize = PLAIN_PIECE + 3 * 128 * 1024 + 192 * 1024;

/// The plain bytes of a body.
pub(crate) struct PlainBody {
    pieces: BoxStream<'static, io::Result<Bytes>>,
    encoding: Encoding,
    limit: u64,
    taken: u64,
    /// Of a decoder whose needs are known from the start.
    _memory: Option<Reservation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl PlainBody {
    /// Refuses a body that says of itself that it is too large, or compressed in
    /// a way that is not known. Waits for the memory of its decoder.
    pub(crate) async fn open(
        headers: &HeaderMap,
        body: RequestBody,
        limit: u64,
        patience: Duration,
        share: &Arc<Share>,
    ) -> Result<Self, ApiError> {
        let encoding = encoding(headers)?;
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let received = received(body, patience);
        let (pieces, memory) = match encoding {
            Encoding::Identity => (received, None),
            Encoding::Gzip => {
                let memory = share.reserve(INFLATE).await?;
                let mut decoder = GzipDecoder::new(StreamReader::new(received));
                decoder.multiple_members(true);
                (plain(decoder), Some(memory))
            }
            Encoding::Deflate => {
                let memory = share.reserve(INFLATE).await?;
                let decoder = ZlibDecoder::new(StreamReader::new(received));
                (plain(decoder), Some(memory))
            }
            Encoding::Zstd => {
                let counted = counted(received, share.reserve(ZSTD).await?);
                let window = [DParameter::window_log_max(ZSTD_WINDOW_BITS)];
                let mut decoder = ZstdDecoder::with_params(StreamReader::new(counted), &window);
                decoder.multiple_members(true);
                (plain(decoder), None)
            }
        };
        Ok(Self {
            pieces,
            encoding,
            limit,
            taken: 0,
            _memory: memory,
        })
    }

    /// The bytes that it may have.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The next bytes; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let piece = self
            .pieces
            .try_next()
            .await
            .map_err(|error| self.explain(&error))?;
        self.taken += piece.as_ref().map_or(0, Bytes::len) as u64;
        if self.taken > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(piece)
    }

    fn explain(&self, error: &io::Error) -> ApiError {
        let encoding = match self.encoding {
            Encoding::Identity => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Deflate => Some("deflate"),
            Encoding::Zstd => Some("zstd"),
        };
        match (error.kind(), encoding) {
            (io::ErrorKind::OutOfMemory, _) => InUse.into(),
            (io::ErrorKind::TimedOut, _) => {
                ApiError::new(ErrorCode::BodyTimeout, "the body stopped coming")
            }
            (io::ErrorKind::ConnectionAborted, _) | (_, None) => {
                ApiError::new(ErrorCode::BodyInvalid, "the body broke off")
            }
            // The decoder has no code for it.
            (_, Some("zstd")) if error.to_string().contains("too much memory") => ApiError::new(
                ErrorCode::BodyInvalid,
                "the body is compressed with a zstd window of more than 8 MiB: use no `--long`, and at most level 19",
            ),
            (_, Some(encoding)) => ApiError::new(
                ErrorCode::BodyInvalid,
                format!("the body is not {encoding} to its end, as Content-Encoding says"),
            ),
        }
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let value = headers
        .get(header::CONTENT_ENCODING)
        .map_or(&b""[..], |value| value.as_bytes().trim_ascii());
    match value.to_ascii_lowercase().as_slice() {
        b"" | b"identity" => Ok(Encoding::Identity),
        b"gzip" | b"x-gzip" => Ok(Encoding::Gzip),
        b"deflate" => Ok(Encoding::Deflate),
        b"zstd" => Ok(Encoding::Zstd),
        _ => Err(ApiError::new(
            ErrorCode::EncodingUnknown,
            "Content-Encoding must be gzip, zstd, deflate, or absent",
        )),
    }
}

fn too_large(limit: u64) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!(
            "the body is larger than {limit} bytes, the workspace's limits.bodySize: send it in parts"
        ),
    )
}

fn received(body: RequestBody, patience: Duration) -> BoxStream<'static, io::Result<Bytes>> {
    stream::try_unfold(body, move |mut body| async move {
        loop {
            let frame = tokio::time::timeout(patience, body.frame());
            match frame
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            {
                None => return Ok(None),
                Some(Err(_)) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some((data, body)));
                    }
                }
            }
        }
    })
    .boxed()
}

/// The same bytes, each frame's window counted before its head is passed on.
fn counted(
    received: BoxStream<'static, io::Result<Bytes>>,
    memory: Reservation,
) -> BoxStream<'static, io::Result<Bytes>> {
    let start = (received, Frames::new(), memory);
    stream::try_unfold(start, async |(mut received, mut frames, mut memory)| {
        let Some(bytes) = received.try_next().await? else {
            return Ok(None);
        };
        // A larger one the decoder refuses.
        let window = frames.scan(&bytes).min(1 << ZSTD_WINDOW_BITS);
        let grown = memory.grow_in_time(ZSTD + window as usize).await;
        grown.map_err(|InUse| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Some((bytes, (received, frames, memory))))
    })
    .boxed()
}

fn plain(decoder: impl AsyncRead + Send + 'static) -> BoxStream<'static, io::Result<Bytes>> {
    ReaderStream::with_capacity(decoder, PLAIN_PIECE).boxed()
}

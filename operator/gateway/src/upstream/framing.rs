//! Where a body ends: HTTP/1.1's lengths and chunks, as a decoder of bytes.

use super::error::UpstreamError;
use bytes::{Buf, Bytes, BytesMut};

/// How far a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are to come.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Everything until the connection ends.
    UntilClose,
    /// Nothing is to come.
    Finished,
}

/// Where in the chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    Data(u64),
    AfterData,
    Trailers,
}

/// Pieces below are copied, so that their buffer is free for the next answer.
const SMALL_PIECE: usize = 4 * 1024;
/// No size line or trailer is longer.
const LONGEST_LINE: usize = 8 * 1024;

impl Framing {
    /// Takes the next piece of the body out of what was received; `None` when
    /// more must be received first, or when the body is finished.
    pub(super) fn take(&mut self, received: &mut BytesMut) -> Result<Option<Bytes>, UpstreamError> {
        match self {
            Self::Finished => Ok(None),
            Self::UntilClose => Ok((!received.is_empty()).then(|| received.split().freeze())),
            Self::Length(left) => {
                let piece = piece(left, received);
                if *left == 0 {
                    *self = Self::Finished;
                }
                Ok(piece)
            }
            Self::Chunked(_) => self.take_chunked(received),
        }
    }

    fn take_chunked(&mut self, received: &mut BytesMut) -> Result<Option<Bytes>, UpstreamError> {
        while let Self::Chunked(chunk) = self {
            match chunk {
                Chunk::Size => match line(received, size)?.transpose()? {
                    Some(0) => *chunk = Chunk::Trailers,
                    Some(size) => *chunk = Chunk::Data(size),
                    None => return Ok(None),
                },
                Chunk::Data(left) => {
                    let piece = piece(left, received);
                    if *left == 0 {
                        *chunk = Chunk::AfterData;
                    }
                    return Ok(piece);
                }
                Chunk::AfterData => match line(received, <[u8]>::is_empty)? {
                    Some(true) => *chunk = Chunk::Size,
                    Some(false) => {
                        return Err(UpstreamError::Malformed("a chunk is longer than its size"));
                    }
                    None => return Ok(None),
                },
                Chunk::Trailers => match line(received, <[u8]>::is_empty)? {
                    Some(true) => *self = Self::Finished,
                    Some(false) => {}
                    None => return Ok(None),
                },
            }
        }
        Ok(None)
    }
}

fn piece(left: &mut u64, received: &mut BytesMut) -> Option<Bytes> {
    let available = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(received.len());
    *left -= available as u64;
    match available {
        0 => None,
        1..SMALL_PIECE => {
            let copy = Bytes::copy_from_slice(&received[..available]);
            received.advance(available);
            Some(copy)
        }
        _ => Some(received.split_to(available).freeze()),
    }
}

/// Takes the next line out of what was received, as `read` understands it without its end.
fn line<T>(
    received: &mut BytesMut,
    read: impl FnOnce(&[u8]) -> T,
) -> Result<Option<T>, UpstreamError> {
    match memchr::memchr(b'\n', received) {
        Some(end) => {
            let line = &received[..end];
            let understood = read(line.strip_suffix(b"\r").unwrap_or(line));
            received.advance(end + 1);
            Ok(Some(understood))
        }
        None if received.len() > LONGEST_LINE => {
            Err(UpstreamError::Malformed("a chunk has no size"))
        }
        None => Ok(None),
    }
}

fn size(line: &[u8]) -> Result<u64, UpstreamError> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let digits = digits.trim_ascii();
    std::str::from_utf8(digits)
        .ok()
        // Rust would read a sign, too.
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(UpstreamError::Malformed("a chunk has no size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut framing: Framing, parts: &[&[u8]]) -> (Vec<u8>, Framing) {
        let mut received = BytesMut::new();
        let mut body = Vec::new();
        for part in parts {
            received.extend_from_slice(part);
            while let Some(piece) = framing.take(&mut received).unwrap() {
                body.extend_from_slice(&piece);
            }
        }
        (body, framing)
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let wire = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: 1\r\n\r\n";
        for cut in 0..=wire.len() {
            let (body, end) = read(Framing::Chunked(Chunk::Size), &[&wire[..cut], &wire[cut..]]);
            assert_eq!(
                (body.as_slice(), end),
                (b"hello world".as_slice(), Framing::Finished),
                "{cut}"
            );
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(
            read(Framing::Chunked(Chunk::Size), &bytes).0,
            b"hello world"
        );
    }

    #[test]
    fn without_the_last_chunk_it_is_not_finished() {
        let (body, end) = read(Framing::Chunked(Chunk::Size), &[b"5\r\nhello\r\n"]);
        assert_eq!(body, b"hello");
        assert_ne!(end, Framing::Finished);
    }

    #[test]
    fn a_length_leaves_the_next_answer_alone() {
        let mut received = BytesMut::from(&b"abcHTTP"[..]);
        let mut framing = Framing::Length(3);
        assert_eq!(framing.take(&mut received).unwrap().unwrap(), "abc");
        assert_eq!((framing, &received[..]), (Framing::Finished, &b"HTTP"[..]));
    }

    #[test]
    fn nonsense_is_an_error() {
        for bad in [&b"x\r\n"[..], b"1\r\nab\r\n", b"\r\n", b"-1\r\n", b"+1\r\n"] {
            let mut received = BytesMut::from(bad);
            let mut framing = Framing::Chunked(Chunk::Size);
            let mut result = framing.take(&mut received);
            while let Ok(Some(_)) = result {
                result = framing.take(&mut received);
            }
            assert!(result.is_err(), "{bad:?}");
        }
    }
}

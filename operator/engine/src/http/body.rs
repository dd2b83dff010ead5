//! Reading a request's body on a worker thread: piece by piece, decompressed on the way.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::frame;
use crate::exception::{Exception, code};

/// How many pieces of a body may wait for the engine.
pub(crate) const BODY_CHANNEL: usize = 4;

/// How much is unpacked at once.
const BUFFER: usize = 256 * 1024;

/// What the connection's task sends of a body. A channel that closes without
/// [`BodyPiece::End`] means that the client went away.
#[derive(Debug)]
pub(crate) enum BodyPiece {
    /// Some bytes.
    Data(Bytes),
    /// The body is complete.
    End,
}

/// Where the bytes of a body come from.
pub(crate) enum BodySource {
    /// It was small enough to be read before the worker started.
    Whole(Bytes),
    /// It is read while the worker runs.
    Stream(mpsc::Receiver<BodyPiece>),
}

impl BodySource {
    /// The next bytes as they came, never an empty piece; `None` at the end.
    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let piece = match self {
                BodySource::Whole(bytes) if bytes.is_empty() => return Ok(None),
                BodySource::Whole(bytes) => std::mem::take(bytes),
                BodySource::Stream(receiver) => match receiver.blocking_recv() {
                    Some(BodyPiece::Data(data)) => data,
                    Some(BodyPiece::End) => {
                        *self = BodySource::Whole(Bytes::new());
                        return Ok(None);
                    }
                    None => return Err(io::ErrorKind::ConnectionAborted.into()),
                },
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}

/// How a body, or the whole of an answer, is packed for HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Zstd,
    /// LZ4 frames, which ClickHouse and its clients add to HTTP's own.
    Lz4,
}

impl Coding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Zstd => "zstd",
            Coding::Lz4 => "lz4",
        }
    }

    /// Reads a Content-Encoding; `None` for a plain body.
    pub(crate) fn of_content(header: &str) -> Result<Option<Self>, Exception> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Coding::Gzip)),
            "deflate" => Ok(Some(Coding::Deflate)),
            "zstd" => Ok(Some(Coding::Zstd)),
            "lz4" => Ok(Some(Coding::Lz4)),
            other => Err(Exception::not_implemented(format!(
                "Content-Encoding {other} is not supported by this engine: use gzip, deflate, zstd or lz4."
            ))),
        }
    }

    /// The coding a server prefers of those in an Accept-Encoding.
    pub(crate) fn accepted(header: &str) -> Option<Self> {
        [Coding::Zstd, Coding::Lz4, Coding::Gzip, Coding::Deflate]
            .into_iter()
            .find(|coding| {
                header
                    .split(',')
                    .map(|entry| entry.split(';').next().unwrap_or_default().trim())
                    .any(|entry| entry.eq_ignore_ascii_case(coding.name()))
            })
    }
}

/// The bytes of a source as something that decoders read from.
struct SourceReader {
    source: BodySource,
    current: Bytes,
}

impl Read for SourceReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            match self.source.receive()? {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = target.len().min(self.current.len());
        target[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

enum Unpack {
    Plain(BodySource),
    Coded(Box<dyn Read + Send>),
}

/// The plain bytes of a request's body.
pub(crate) struct BodyReader {
    unpack: Unpack,
    frames: Option<frame::Decoder>,
    ended: bool,
}

impl BodyReader {
    pub(crate) fn new(
        source: BodySource,
        coding: Option<Coding>,
        framed: bool,
    ) -> Result<Self, Exception> {
        let reader = |source| SourceReader {
            source,
            current: Bytes::new(),
        };
        let unpack = match coding {
            None => Unpack::Plain(source),
            Some(Coding::Gzip) => {
                Unpack::Coded(Box::new(flate2::read::MultiGzDecoder::new(reader(source))))
            }
            Some(Coding::Deflate) => {
                Unpack::Coded(Box::new(flate2::read::ZlibDecoder::new(reader(source))))
            }
            Some(Coding::Zstd) => Unpack::Coded(Box::new(
                zstd::stream::read::Decoder::new(reader(source)).map_err(|error| failed(&error))?,
            )),
            Some(Coding::Lz4) => {
                Unpack::Coded(Box::new(lz4_flex::frame::FrameDecoder::new(reader(source))))
            }
        };
        Ok(Self {
            unpack,
            frames: framed.then(frame::Decoder::default),
            ended: false,
        })
    }

    /// The next bytes, never an empty piece; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Exception> {
        while !self.ended {
            let Some(plain) = self.unpacked()? else {
                self.ended = true;
                if self
                    .frames
                    .as_ref()
                    .is_some_and(|frames| !frames.is_empty())
                {
                    return Err(failed(&io::ErrorKind::UnexpectedEof.into()));
                }
                break;
            };
            let piece = match &mut self.frames {
                Some(frames) => frames.push(&plain)?.into(),
                None => plain,
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// All of the body, if it is no larger than `limit`.
    pub(crate) fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, Exception> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next()? {
            whole.extend_from_slice(&piece);
            if whole.len() > limit {
                return Err(Exception::new(
                    code::QUERY_IS_TOO_LARGE,
                    format!("The request's body is larger than {limit} bytes."),
                ));
            }
        }
        Ok(whole)
    }

    fn unpacked(&mut self) -> Result<Option<Bytes>, Exception> {
        match &mut self.unpack {
            Unpack::Plain(source) => source.receive().map_err(|error| failed(&error)),
            Unpack::Coded(reader) => {
                let mut buffer = Vec::new();
                reader
                    .by_ref()
                    .take(BUFFER as u64)
                    .read_to_end(&mut buffer)
                    .map_err(|error| failed(&error))?;
                Ok(Some(buffer)
                    .filter(|buffer| !buffer.is_empty())
                    .map(Bytes::from))
            }
        }
    }
}

fn failed(error: &io::Error) -> Exception {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return Exception::new(
            code::NETWORK_ERROR,
            "The client closed the connection before the request was complete.",
        );
    }
    Exception::new(
        code::CANNOT_DECOMPRESS,
        format!("Cannot decompress the request body: {error}."),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(bytes: Vec<u8>, coding: Option<Coding>, framed: bool) -> Result<Vec<u8>, Exception> {
        let mut reader = BodyReader::new(BodySource::Whole(bytes.into()), coding, framed)?;
        let mut plain = Vec::new();
        while let Some(piece) = reader.next()? {
            plain.extend_from_slice(&piece);
        }
        Ok(plain)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(data: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn codings_are_undone() {
        let data = b"line\n".repeat(1000);
        assert_eq!(read(data.clone(), None, false).unwrap(), data);
        assert_eq!(read(gzip(&data), Some(Coding::Gzip), false).unwrap(), data);
        let packed = zstd::encode_all(&data[..], 1).unwrap();
        assert_eq!(read(packed, Some(Coding::Zstd), false).unwrap(), data);
        assert_eq!(read(lz4(&data), Some(Coding::Lz4), false).unwrap(), data);
        let both = gzip(&frame::encode(&data));
        assert_eq!(read(both, Some(Coding::Gzip), true).unwrap(), data);
    }

    #[test]
    fn a_cut_body_is_an_error() {
        let data = b"line\n".repeat(1000);
        for (mut packed, coding, framed) in [
            (gzip(&data), Some(Coding::Gzip), false),
            (
                zstd::encode_all(&data[..], 1).unwrap(),
                Some(Coding::Zstd),
                false,
            ),
            (lz4(&data), Some(Coding::Lz4), false),
            (frame::encode(&data).to_vec(), None, true),
        ] {
            packed.truncate(packed.len() / 2);
            let code = read(packed, coding, framed).map_err(|exception| exception.code);
            assert_eq!(code, Err(code::CANNOT_DECOMPRESS), "{coding:?}");
        }
    }

    #[test]
    fn encodings_are_negotiated_as_the_server_does() {
        assert_eq!(
            Coding::accepted("gzip, deflate, br, zstd"),
            Some(Coding::Zstd)
        );
        assert_eq!(Coding::accepted("gzip;q=1.0, br"), Some(Coding::Gzip));
        assert_eq!(Coding::accepted("br"), None);
        assert!(Coding::of_content("br").is_err());
    }
}

//! Reading a request's body on a worker thread: piece by piece, decompressed on the way.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::frame;
use crate::exception::{Exception, code};

/// How many pieces of a body may wait for the engine.
pub(crate) const BODY_CHANNEL: usize = 4;

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

/// How a body, or the whole of an answer, is packed for HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

impl Coding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Zstd => "zstd",
        }
    }

    /// Reads a Content-Encoding; `None` for a plain body.
    pub(crate) fn of_content(header: &str) -> Result<Option<Self>, Exception> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Coding::Gzip)),
            "deflate" => Ok(Some(Coding::Deflate)),
            "zstd" => Ok(Some(Coding::Zstd)),
            other => Err(Exception::not_implemented(format!(
                "Content-Encoding {other} is not supported by this engine: use gzip, deflate or zstd."
            ))),
        }
    }

    /// The coding a server prefers of those in an Accept-Encoding.
    pub(crate) fn accepted(header: &str) -> Option<Self> {
        [Coding::Zstd, Coding::Gzip, Coding::Deflate]
            .into_iter()
            .find(|coding| {
                header
                    .split(',')
                    .map(|entry| entry.split(';').next().unwrap_or_default().trim())
                    .any(|entry| entry.eq_ignore_ascii_case(coding.name()))
            })
    }
}

enum Unpack {
    Plain,
    Gzip(flate2::write::MultiGzDecoder<Vec<u8>>),
    Deflate(flate2::write::ZlibDecoder<Vec<u8>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

/// The plain bytes of a request's body.
pub(crate) struct BodyReader {
    source: BodySource,
    ended: bool,
    unpack: Unpack,
    frames: Option<frame::Decoder>,
}

impl BodyReader {
    pub(crate) fn new(
        source: BodySource,
        coding: Option<Coding>,
        framed: bool,
    ) -> Result<Self, Exception> {
        let unpack = match coding {
            None => Unpack::Plain,
            Some(Coding::Gzip) => Unpack::Gzip(flate2::write::MultiGzDecoder::new(Vec::new())),
            Some(Coding::Deflate) => Unpack::Deflate(flate2::write::ZlibDecoder::new(Vec::new())),
            Some(Coding::Zstd) => Unpack::Zstd(
                zstd::stream::write::Decoder::new(Vec::new()).map_err(|error| broken(&error))?,
            ),
        };
        Ok(Self {
            source,
            ended: false,
            unpack,
            frames: framed.then(frame::Decoder::default),
        })
    }

    /// The next bytes, never an empty piece; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Exception> {
        while !self.ended {
            let raw = self.receive()?;
            let piece = match raw {
                Some(raw) => self.decode(raw)?,
                None => {
                    self.ended = true;
                    self.last()?
                }
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn receive(&mut self) -> Result<Option<Bytes>, Exception> {
        match &mut self.source {
            BodySource::Whole(bytes) if bytes.is_empty() => Ok(None),
            BodySource::Whole(bytes) => Ok(Some(std::mem::take(bytes))),
            BodySource::Stream(receiver) => match receiver.blocking_recv() {
                Some(BodyPiece::Data(data)) => Ok(Some(data)),
                Some(BodyPiece::End) => Ok(None),
                None => Err(Exception::new(
                    code::NETWORK_ERROR,
                    "The client closed the connection before the request was complete.",
                )),
            },
        }
    }

    fn decode(&mut self, raw: Bytes) -> Result<Bytes, Exception> {
        let plain = match &mut self.unpack {
            Unpack::Plain => raw,
            Unpack::Gzip(decoder) => {
                decoder.write_all(&raw).map_err(|error| broken(&error))?;
                std::mem::take(decoder.get_mut()).into()
            }
            Unpack::Deflate(decoder) => {
                decoder.write_all(&raw).map_err(|error| broken(&error))?;
                std::mem::take(decoder.get_mut()).into()
            }
            Unpack::Zstd(decoder) => {
                decoder.write_all(&raw).map_err(|error| broken(&error))?;
                std::mem::take(decoder.get_mut()).into()
            }
        };
        self.unframe(plain)
    }

    /// What a decoder still holds at the end; an error when the input was cut.
    fn last(&mut self) -> Result<Bytes, Exception> {
        let rest: Bytes = match &mut self.unpack {
            Unpack::Plain => Bytes::new(),
            Unpack::Gzip(decoder) => {
                decoder.try_finish().map_err(|error| broken(&error))?;
                std::mem::take(decoder.get_mut()).into()
            }
            Unpack::Deflate(decoder) => {
                decoder.try_finish().map_err(|error| broken(&error))?;
                std::mem::take(decoder.get_mut()).into()
            }
            Unpack::Zstd(decoder) => {
                decoder.flush().map_err(|error| broken(&error))?;
                std::mem::take(decoder.get_mut()).into()
            }
        };
        let rest = self.unframe(rest)?;
        if self
            .frames
            .as_ref()
            .is_some_and(|frames| !frames.is_empty())
        {
            return Err(broken(&io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        Ok(rest)
    }

    fn unframe(&mut self, plain: Bytes) -> Result<Bytes, Exception> {
        match &mut self.frames {
            Some(frames) => frames.push(&plain).map(Bytes::from),
            None => Ok(plain),
        }
    }
}

fn broken(error: &io::Error) -> Exception {
    Exception::new(
        code::CANNOT_DECOMPRESS,
        format!("Cannot decompress the request body: {error}."),
    )
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn codings_are_undone() {
        let data = b"line\n".repeat(1000);
        assert_eq!(read(data.clone(), None, false).unwrap(), data);
        assert_eq!(read(gzip(&data), Some(Coding::Gzip), false).unwrap(), data);
        let packed = zstd::encode_all(&data[..], 1).unwrap();
        assert_eq!(read(packed, Some(Coding::Zstd), false).unwrap(), data);
        let both = gzip(&frame::encode(&data));
        assert_eq!(read(both, Some(Coding::Gzip), true).unwrap(), data);
    }

    #[test]
    fn a_cut_body_is_an_error() {
        let mut packed = gzip(&b"line\n".repeat(1000));
        packed.truncate(packed.len() - 3);
        assert_eq!(
            read(packed, Some(Coding::Gzip), false).unwrap_err().code,
            code::CANNOT_DECOMPRESS
        );
        let mut framed = frame::encode(b"data").to_vec();
        framed.truncate(framed.len() - 1);
        assert_eq!(
            read(framed, None, true).unwrap_err().code,
            code::CANNOT_DECOMPRESS
        );
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

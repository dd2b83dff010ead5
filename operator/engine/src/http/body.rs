//! Reading a request's body on a worker thread, piece by piece.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::frame;
use crate::exception::{Exception, code};

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
    fn receive(&mut self) -> Result<Option<Bytes>, Exception> {
        loop {
            let piece = match self {
                BodySource::Whole(bytes) if bytes.is_empty() => return Ok(None),
                BodySource::Whole(bytes) => std::mem::take(bytes),
                BodySource::Stream(receiver) => match receiver.blocking_recv() {
                    Some(BodyPiece::Data(data)) => data,
                    Some(BodyPiece::End) => Bytes::new(),
                    None => {
                        return Err(Exception::new(
                            code::NETWORK_ERROR,
                            "The client closed the connection before the request was complete.",
                        ));
                    }
                },
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
            *self = BodySource::Whole(Bytes::new());
        }
    }
}

/// The plain bytes of a request's body.
pub(crate) struct BodyReader {
    source: BodySource,
    frames: Option<frame::Decoder>,
}

impl BodyReader {
    /// `framed` says that the body comes in ClickHouse's compressed blocks.
    pub(crate) fn new(source: BodySource, framed: bool) -> Self {
        Self {
            source,
            frames: framed.then(frame::Decoder::default),
        }
    }

    /// The next bytes, never an empty piece; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Exception> {
        while let Some(piece) = self.source.receive()? {
            let Some(frames) = &mut self.frames else {
                return Ok(Some(piece));
            };
            let plain = frames.push(&piece)?;
            if !plain.is_empty() {
                return Ok(Some(plain.into()));
            }
        }
        match self.frames.take() {
            Some(frames) => frames.finish().map(|()| None),
            None => Ok(None),
        }
    }

    /// Adds the rest to `text`, which must not grow beyond `limit`.
    pub(crate) fn read_into(&mut self, text: &mut BytesMut, limit: usize) -> Result<(), Exception> {
        while let Some(piece) = self.next()? {
            text.extend_from_slice(&piece);
            if text.len() > limit {
                return Err(Exception::new(
                    code::QUERY_IS_TOO_LARGE,
                    format!(
                        "The request's body is larger than {limit} bytes: send an INSERT in the URL, and only its data in the body."
                    ),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>, u32> {
        let mut reader = BodyReader::new(BodySource::Whole(bytes.to_vec().into()), true);
        let mut plain = Vec::new();
        while let Some(piece) = reader.next().map_err(|exception| exception.code)? {
            plain.extend_from_slice(&piece);
        }
        Ok(plain)
    }

    #[test]
    fn a_cut_body_is_an_error() {
        let data = b"line\n".repeat(1000);
        let packed = frame::encode(&data);
        assert_eq!(read(&packed), Ok(data));
        let cut = &packed[..packed.len() / 2];
        assert_eq!(read(cut), Err(code::CANNOT_DECOMPRESS));
    }
}

//! What an encoded block is written into: small writes are gathered, and big ones
//! passed on without copying them.

use bytes::Bytes;

/// Pieces of an encoded block are at least this long, where they can be.
const PIECE: usize = 256 * 1024;

/// The pieces of a body, in order.
#[derive(Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    open: Vec<u8>,
}

impl Pieces {
    pub(super) fn number(&mut self, number: usize) {
        write_number(&mut self.open, number);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len());
        self.open.extend_from_slice(text.as_bytes());
        if self.open.len() >= PIECE {
            self.close();
        }
    }

    pub(super) fn bytes(&mut self, bytes: Bytes) {
        if self.open.len() + bytes.len() < PIECE {
            self.open.extend_from_slice(&bytes);
        } else {
            self.close();
            self.done.push(bytes);
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open).into());
        }
    }

    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.done
    }
}

/// LEB128, as ClickHouse writes lengths.
pub(super) fn write_number(output: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        output.push(number as u8 | 0x80);
        number >>= 7;
    }
    output.push(number as u8);
}

/// Takes a length off the front; nothing at the end.
pub(super) fn read_number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}

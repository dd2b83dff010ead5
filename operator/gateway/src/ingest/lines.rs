//! Cuts a stream of bytes into records with bounded memory: what CSV and NDJSON
//! have in common.
//!
//! A splitter is given all bytes that are there and says how far it got. Bytes
//! that it cannot use yet are carried over and offered again with what comes
//! next, so where the stream is cut does not matter.

use super::block::Block;

/// No line is held back longer than this; what is longer is cut and goes to
/// quarantine in parts.
pub(crate) const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// Splits records off the front of what was received.
pub(crate) trait Splitter {
    /// Takes as many whole records as there are and returns the number of bytes
    /// used. At the end of the stream that is all of them.
    fn split(&mut self, bytes: &[u8], at_end: bool, block: &mut Block) -> usize;
}

/// Feeds a splitter.
pub(crate) struct Feeder<S> {
    splitter: S,
    carried: Vec<u8>,
    /// Splitting is tried again when so many bytes are there. Grows with every
    /// attempt in vain, so that a long record is not read over and over.
    enough: usize,
    /// Within a line that is too long.
    cutting: bool,
}

impl<S: Splitter> Feeder<S> {
    pub(crate) fn new(splitter: S) -> Self {
        Self {
            splitter,
            carried: Vec::new(),
            enough: 0,
            cutting: false,
        }
    }

    pub(crate) fn into_splitter(self) -> S {
        self.splitter
    }

    /// Bytes of memory that the record takes which is not whole yet.
    pub(crate) fn carried(&self) -> usize {
        self.carried.capacity()
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn feed(&mut self, bytes: &[u8], block: &mut Block) {
        if self.carried.is_empty() {
            let used = self.split(bytes, false, block);
            self.carry(&bytes[used..]);
            return;
        }
        self.carried.extend_from_slice(bytes);
        if self.carried.len() >= self.enough {
            let carried = std::mem::take(&mut self.carried);
            let used = self.split(&carried, false, block);
            self.carry(&carried[used..]);
        }
    }

    /// Takes what is left at the end of the stream.
    pub(crate) fn finish(&mut self, block: &mut Block) {
        let carried = std::mem::take(&mut self.carried);
        self.split(&carried, true, block);
    }

    fn carry(&mut self, rest: &[u8]) {
        self.carried.clear();
        self.carried.extend_from_slice(rest);
        self.enough = rest.len() + rest.len() / 2;
    }

    fn split(&mut self, bytes: &[u8], at_end: bool, block: &mut Block) -> usize {
        let mut used = 0;
        loop {
            if self.cutting {
                used += self.cut(&bytes[used..], at_end, block);
                if self.cutting {
                    return used;
                }
            }
            used += self.splitter.split(&bytes[used..], at_end, block);
            let rest = &bytes[used..];
            if rest.len() < LONGEST_LINE || memchr::memchr(b'\n', rest).is_some() {
                return used;
            }
            self.cutting = true;
        }
    }

    /// Takes parts of a line that is too long, the last one with its end.
    fn cut(&mut self, bytes: &[u8], at_end: bool, block: &mut Block) -> usize {
        let line_end = memchr::memchr(b'\n', bytes);
        let available = line_end.unwrap_or(bytes.len());
        let ends = line_end.is_some() || at_end;
        let whole = if ends {
            available
        } else {
            available - available % LONGEST_LINE
        };
        for part in bytes[..whole].chunks(LONGEST_LINE) {
            block.reject(part, "part of a line that is longer than 16 MiB");
        }
        self.cutting = !ends;
        line_end.map_or(whole, |end| end + 1)
    }
}

/// A line without the carriage return at its end.
pub(crate) fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The mark that some programs put at the start of a UTF-8 file.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Takes the byte order mark off the start of a stream; `None` when too little of it is there to tell.
pub(crate) fn skip_byte_order_mark(bytes: &[u8], at_end: bool) -> Option<usize> {
    if bytes.starts_with(BYTE_ORDER_MARK) {
        return Some(BYTE_ORDER_MARK.len());
    }
    let undecided = bytes.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(bytes);
    (!undecided || at_end).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::super::block::testing::{Row, layout, rows};
    use super::*;

    /// Every line is a row.
    struct Lines;

    impl Splitter for Lines {
        fn split(&mut self, bytes: &[u8], at_end: bool, block: &mut Block) -> usize {
            let mut used = 0;
            while let Some(length) = memchr::memchr(b'\n', &bytes[used..]) {
                block.value(0, Some(&bytes[used..used + length]));
                block.end_row(b"");
                used += length + 1;
            }
            if at_end && used < bytes.len() {
                block.value(0, Some(&bytes[used..]));
                block.end_row(b"");
                used = bytes.len();
            }
            used
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_is_not() {
        let mut text = vec![b'x'; LONGEST_LINE + 5];
        text.extend_from_slice(b"\nshort\nlast");
        for chunk in [1 << 20, 3 << 20, text.len()] {
            let mut block = Block::new(layout(1), "i");
            let mut feeder = Feeder::new(Lines);
            text.chunks(chunk)
                .for_each(|bytes| feeder.feed(bytes, &mut block));
            feeder.finish(&mut block);
            let rows = rows(&block);
            let (cut, rest) = rows.split_at(rows.len() - 2);
            let length: usize = cut
                .iter()
                .map(|row| match row {
                    Row::Rejected { raw, .. } => raw.len(),
                    Row::Values(values) => values[0].as_ref().unwrap().len(),
                })
                .sum();
            assert_eq!(length, LONGEST_LINE + 5, "{chunk}");
            assert_eq!(
                rest,
                [Row::values(&[Some("short")]), Row::values(&[Some("last")])]
            );
        }
    }

    #[test]
    fn a_record_that_is_not_whole_is_counted() {
        let mut block = Block::new(layout(1), "i");
        let mut feeder = Feeder::new(Lines);
        let long = "x".repeat(100_000);
        for part in ["whole\nbegun", &long, &long] {
            feeder.feed(part.as_bytes(), &mut block);
        }
        assert!(feeder.carried() >= 200_005);
        for part in ["\n", &long, "\n"] {
            feeder.feed(part.as_bytes(), &mut block);
        }
        assert_eq!((block.rows(), feeder.carried()), (3, 0));
    }

    #[test]
    fn a_byte_order_mark_is_skipped_when_it_is_whole() {
        assert_eq!(skip_byte_order_mark(b"\xef\xbb\xbfa", false), Some(3));
        assert_eq!(skip_byte_order_mark(b"\xef\xbb", false), None);
        assert_eq!(skip_byte_order_mark(b"\xef\xbb", true), Some(0));
        assert_eq!(skip_byte_order_mark(b"abc", false), Some(0));
    }
}

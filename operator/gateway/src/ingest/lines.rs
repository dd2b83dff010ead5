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

/// Feeds a splitter. What records and parts of lines it finds depends on nothing but the bytes of the
/// stream: by them an import is known again that comes a second time.
pub(crate) struct Feeder<S> {
    splitter: S,
    longest: usize,
    carried: Vec<u8>,
    /// Splitting is tried again when so many bytes are there. Grows with every
    /// attempt in vain, so that a long record is not read over and over.
    enough: usize,
    /// Within a line that is too long.
    cutting: bool,
}

impl<S: Splitter> Feeder<S> {
    pub(crate) fn new(splitter: S) -> Self {
        Self::with_longest(splitter, LONGEST_LINE)
    }

    fn with_longest(splitter: S, longest: usize) -> Self {
        Self {
            splitter,
            longest,
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
        // The longest record with its line end. No splitter sees more at once, however much is there.
        let window = self.longest + 2;
        let mut used = 0;
        loop {
            if self.cutting {
                used += self.cut(&bytes[used..], at_end, block);
                if self.cutting {
                    return used;
                }
            }
            let rest = &bytes[used..];
            if rest.len() < window {
                return used + self.splitter.split(rest, at_end, block);
            }
            let taken = self.splitter.split(&rest[..window], false, block);
            used += taken;
            self.cutting = taken == 0;
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
            available - available % self.longest
        };
        for part in bytes[..whole].chunks(self.longest) {
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
    use super::super::csv::{CsvSplitter, Dialect};
    use super::*;
    use aviary_crds::data_source::CsvDialect;
    use proptest::prelude::*;

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
            let rows = fed(Feeder::new(Lines), text.chunks(chunk));
            let lengths: Vec<usize> = rows.iter().map(length).collect();
            assert_eq!(lengths, [LONGEST_LINE, 5, 5, 4], "{chunk}");
            assert_eq!(
                rows[2..],
                [Row::values(&[Some("short")]), Row::values(&[Some("last")])]
            );
        }
    }

    fn length(row: &Row) -> usize {
        match row {
            Row::Rejected { raw, .. } => raw.len(),
            Row::Values(values) => values[0].as_ref().unwrap().len(),
        }
    }

    fn fed<'a, S: Splitter>(
        mut feeder: Feeder<S>,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<Row> {
        let mut block = Block::new(layout(1), "i");
        pieces.for_each(|bytes| feeder.feed(bytes, &mut block));
        feeder.finish(&mut block);
        rows(&block)
    }

    #[test]
    fn a_quoted_record_that_is_too_long_is_given_up_alike_however_it_comes() {
        let csv = || {
            let dialect = Dialect::new(&CsvDialect::default());
            Feeder::new(CsvSplitter::new(dialect, vec!["a".to_owned()]))
        };
        let x = |count: usize| "x".repeat(count);
        for text in [
            format!("a\n\"{}\n{}\"\nend\n", x(5), x(LONGEST_LINE)),
            format!("a\n\"{}\n{}\n{}", x(LONGEST_LINE - 1), x(7), x(7)),
            format!("a\n\"{}\nmore\"\nend", x(LONGEST_LINE)),
        ] {
            let at_once = fed(csv(), std::iter::once(text.as_bytes()));
            for chunk in [1 << 20, 5 << 20] {
                let rows = fed(csv(), text.as_bytes().chunks(chunk));
                let lengths = |rows: &[Row]| rows.iter().map(length).collect::<Vec<_>>();
                assert_eq!(lengths(&rows), lengths(&at_once));
                assert!(rows == at_once, "{chunk}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_found_does_not_depend_on_how_it_comes(
            lines in prop::collection::vec(("[a-z\\{\\}\": ]{0,80}", prop::sample::select(vec!["\n", "\r\n", ""])), 0..20),
            cuts in prop::collection::vec(1..60_usize, 1..40),
        ) {
            let text: String = lines.into_iter().flat_map(|(line, end)| [line, end.to_owned()]).collect();
            let mut rest = text.as_bytes();
            let mut sizes = cuts.iter().cycle();
            let pieces = std::iter::from_fn(|| {
                let (piece, more) = rest.split_at(rest.len().min(*sizes.next()?));
                rest = more;
                (!piece.is_empty()).then_some(piece)
            });
            let feeder = || Feeder::with_longest(Lines, 30);
            let at_once = fed(feeder(), std::iter::once(text.as_bytes()));
            prop_assert!(at_once.iter().all(|row| length(row) <= 31));
            prop_assert_eq!(fed(feeder(), pieces), at_once);
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

//! Counts the rows of an answer as it goes by, where its format lets one tell at next to no cost.

use crate::format::Format;
use memchr::memmem;
use std::sync::LazyLock;

/// ClickHouse's `JSON` says at its end how many rows there are, and after that some numbers.
const LONGEST_END: usize = 320;

/// Counts the rows of one answer.
pub(super) enum RowCounter {
    /// A line each.
    Lines(u64),
    /// As the end says.
    Json { end: Vec<u8>, rows: Option<u64> },
}

impl RowCounter {
    /// CSV may have line breaks within a field, and Parquet says it in an index.
    pub(super) fn of(format: Format) -> Option<Self> {
        match format {
            Format::NdJson => Some(Self::Lines(0)),
            Format::Json => Some(Self::Json {
                end: Vec::new(),
                rows: None,
            }),
            Format::Csv | Format::Parquet => None,
        }
    }

    /// Takes the next piece of the answer. What is the last one may not be known.
    pub(super) fn pass(&mut self, piece: &[u8], is_last: bool) {
        match self {
            Self::Lines(lines) => *lines += memchr::memchr_iter(b'\n', piece).count() as u64,
            Self::Json { rows, .. } if is_last => *rows = rows_at_end(piece),
            Self::Json { end, .. } => {
                let kept = LONGEST_END.saturating_sub(piece.len());
                end.drain(..end.len().saturating_sub(kept));
                end.extend_from_slice(last(piece));
            }
        }
    }

    /// How many there were, if the answer said it.
    pub(super) fn rows(&self) -> Option<u64> {
        match self {
            Self::Lines(lines) => Some(*lines),
            Self::Json { end, rows } => rows.or_else(|| rows_at_end(end)),
        }
    }
}

fn last(piece: &[u8]) -> &[u8] {
    &piece[piece.len().saturating_sub(LONGEST_END)..]
}

/// Rows are indented further, and texts have no line breaks, so this is ClickHouse's own.
fn rows_at_end(answer: &[u8]) -> Option<u64> {
    static ROWS: LazyLock<memmem::FinderRev<'static>> =
        LazyLock::new(|| memmem::FinderRev::new(b"\n\t\"rows\": "));
    let end = last(answer);
    let start = ROWS.rfind(end)? + ROWS.needle().len();
    let digits = end[start..].split(|byte| !byte.is_ascii_digit()).next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "{\n\t\"meta\":\n\t[\n\t],\n\n\t\"data\":\n\t[\n\t\t{\"rows\": 7}\n\t],\n\n\t\"rows\": 12,\n\n\t\"rows_before_limit_at_least\": 99,\n\n\t\"statistics\":\n\t{\n\t\t\"elapsed\": 0.000621,\n\t\t\"rows_read\": 12,\n\t\t\"bytes_read\": 12\n\t}\n}\n";

    fn count(format: Format, pieces: &[&[u8]]) -> Option<u64> {
        let mut counter = RowCounter::of(format)?;
        pieces.iter().for_each(|piece| counter.pass(piece, false));
        counter.rows()
    }

    #[test]
    fn rows_are_counted_wherever_an_answer_is_cut() {
        let ndjson = b"{\"a\":\"x\\ny\"}\n{\"a\":1}\n";
        let long = format!("{}{JSON}", " ".repeat(5000));
        for cut in 0..=ndjson.len() {
            let (start, end) = ndjson.split_at(cut);
            assert_eq!(count(Format::NdJson, &[start, end]), Some(2));
        }
        for text in [JSON, &long] {
            for cut in 0..=text.len() {
                let (start, end) = text.as_bytes().split_at(cut);
                assert_eq!(count(Format::Json, &[start, end]), Some(12), "{cut}");
            }
        }
        let mut whole = RowCounter::of(Format::Json).unwrap();
        whole.pass(long.as_bytes(), true);
        assert_eq!(whole.rows(), Some(12));
    }

    #[test]
    fn what_does_not_say_it_has_no_number() {
        assert_eq!(count(Format::Csv, &[b"\"a\"\n1\n"]), None);
        assert_eq!(count(Format::Parquet, &[b"PAR1"]), None);
        assert_eq!(count(Format::Json, &[b"{\"rows\": 3}\n"]), None);
    }
}

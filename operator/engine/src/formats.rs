//! Which output formats can be put together from blocks.
//!
//! libchdb formats every block it streams as a document of its own. For
//! formats that are rows and nothing else the pieces make up the whole; some
//! others repeat a header that can be cut; the rest must be written in one go.

use bytes::Bytes;

use crate::ffi::Output;

/// How the blocks of a format become one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assembly {
    /// One after the other.
    Rows,
    /// One after the other, without the header of all but the first.
    Headed(Header),
    /// Not at all.
    Document,
}

/// A header that each block repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// Lines of text, where a quoted name may hold line breaks.
    QuotedLines(u8),
    /// Lines of text.
    Lines(u8),
    /// A number of columns, their names, and (2) their types.
    Binary(u8),
}

/// How to put blocks of this format together. A block of no bytes would end the
/// stream, so a format whose rows may be empty is not among them.
pub(crate) fn assembly(format: &str) -> Assembly {
    let format = format.to_ascii_lowercase();
    if matches!(
        format.as_str(),
        "tabseparated"
            | "tsv"
            | "tabseparatedraw"
            | "tsvraw"
            | "raw"
            | "csv"
            | "tskv"
            | "jsoneachrow"
            | "jsonlines"
            | "ndjson"
            | "jsonstringseachrow"
            | "jsoncompacteachrow"
            | "jsoncompactstringseachrow"
            | "rowbinary"
            | "native"
            | "lineasstring"
            | "msgpack"
    ) {
        return Assembly::Rows;
    }
    let (base, lines) = if let Some(base) = format.strip_suffix("withnamesandtypes") {
        (base, 2)
    } else if let Some(base) = format.strip_suffix("withnames") {
        (base, 1)
    } else {
        return Assembly::Document;
    };
    match base {
        "csv" => Assembly::Headed(Header::QuotedLines(lines)),
        "tabseparated"
        | "tsv"
        | "tabseparatedraw"
        | "tsvraw"
        | "jsoncompacteachrow"
        | "jsoncompactstringseachrow" => Assembly::Headed(Header::Lines(lines)),
        "rowbinary" => Assembly::Headed(Header::Binary(lines)),
        _ => Assembly::Document,
    }
}

/// Cuts repeated headers.
pub(crate) struct Assembler {
    header: Option<Header>,
    first: Option<Vec<u8>>,
}

impl Assembler {
    /// `None` for a format whose blocks cannot be put together.
    pub(crate) fn new(format: &str) -> Option<Self> {
        let header = match assembly(format) {
            Assembly::Rows => None,
            Assembly::Headed(header) => Some(header),
            Assembly::Document => return None,
        };
        Some(Self {
            header,
            first: None,
        })
    }

    /// A block as it belongs into the whole, without copying it.
    pub(crate) fn add(&mut self, block: Output) -> Bytes {
        let Some(header) = self.header else {
            return Bytes::from_owner(block);
        };
        match &self.first {
            None => {
                let data = block.as_ref();
                self.first = Some(data[..header.length(data)].to_vec());
                Bytes::from_owner(block)
            }
            Some(first) => {
                let repeated = block.as_ref().starts_with(first);
                let start = if repeated { first.len() } else { 0 };
                Bytes::from_owner(block).slice(start..)
            }
        }
    }
}

impl Header {
    /// How long the header of this block is.
    fn length(self, block: &[u8]) -> usize {
        match self {
            Header::Lines(count) => lines(block, count, None),
            Header::QuotedLines(count) => lines(block, count, Some(b'"')),
            Header::Binary(parts) => binary(block, parts).unwrap_or(0),
        }
    }
}

fn lines(block: &[u8], count: u8, quote: Option<u8>) -> usize {
    let (mut open, mut seen) = (false, 0);
    for (index, byte) in block.iter().enumerate() {
        if Some(*byte) == quote {
            open = !open;
        } else if *byte == b'\n' && !open {
            seen += 1;
            if seen == count {
                return index + 1;
            }
        }
    }
    0
}

fn binary(block: &[u8], parts: u8) -> Option<usize> {
    let (columns, mut at) = varint(block, 0)?;
    for _ in 0..columns.checked_mul(u64::from(parts))? {
        let (length, start) = varint(block, at)?;
        at = start.checked_add(usize::try_from(length).ok()?)?;
    }
    (at <= block.len()).then_some(at)
}

fn varint(block: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = *block.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_measured() {
        assert_eq!(Header::Lines(1).length(b"a\tb\n1\t2\n"), 4);
        assert_eq!(Header::Lines(2).length(b"a\nUInt8\n1\n"), 8);
        assert_eq!(
            Header::QuotedLines(1).length(b"\"a\nb\",\"c\"\"\n\"\n1\n"),
            13
        );
        assert_eq!(Header::Binary(2).length(b"\x01\x01a\x05UInt8\x07"), 9);
        assert_eq!(Header::Binary(1).length(b"\x02\x01a\x01b\x07"), 5);
        assert_eq!(Header::Binary(2).length(b"\x01\xFF"), 0);
    }

    #[test]
    fn formats_are_known_in_any_case() {
        assert_eq!(assembly("JSONEachRow"), Assembly::Rows);
        assert_eq!(assembly("json"), Assembly::Document);
        assert_eq!(assembly("Parquet"), Assembly::Document);
        assert_eq!(
            assembly("RowBinaryWithNamesAndTypes"),
            Assembly::Headed(Header::Binary(2))
        );
        assert_eq!(
            assembly("CSVWithNames"),
            Assembly::Headed(Header::QuotedLines(1))
        );
    }
}

//! CSV as it comes: RFC 4180 with its quotes and line breaks inside them, plus
//! everything people really send. Fast, because big files go through here, and
//! total: every record ends up in the block, as a row or as it is with a reason.
//!
//! A quote that is never closed would swallow the rest of a file. So a record
//! whose quotes make no sense, or do not close within a bound, is given up at the
//! end of its first line, and reading goes on with the next. What was looked
//! through in vain is not looked through again: records there end with their
//! lines, or every line of a file could cost as much as the bound.

use super::block::Block;
use super::lines::{LONGEST_LINE, Splitter, skip_byte_order_mark, without_return};
use aviary_crds::data_source::{CsvDialect, CsvHeader};
use memchr::{memchr, memchr2, memrchr};

/// A record that spans lines is looked through this far for its end.
const LONGEST_QUOTED: usize = LONGEST_LINE;
/// Fields beyond this are counted, not remembered.
const MOST_FIELDS: usize = 16 * 1024;

/// A dialect, prepared.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    delimiter: u8,
    quote: u8,
    header: CsvHeader,
    null_markers: Vec<Box<[u8]>>,
}

impl Dialect {
    pub(crate) fn new(dialect: &CsvDialect) -> Self {
        let byte = |text: &str, otherwise| text.bytes().next().unwrap_or(otherwise);
        Self {
            delimiter: byte(&dialect.delimiter, b','),
            quote: byte(&dialect.quote, b'"'),
            header: dialect.header,
            null_markers: dialect
                .null_markers
                .iter()
                .map(|marker| marker.as_bytes().into())
                .collect(),
        }
    }

    fn is_null(&self, text: &[u8]) -> bool {
        self.null_markers.iter().any(|marker| **marker == *text)
    }

    /// Spaces and tabs around fields mean nothing, as ClickHouse has it too.
    fn is_blank(&self, byte: u8) -> bool {
        (byte == b' ' || byte == b'\t') && byte != self.delimiter
    }
}

/// Splits CSV into the columns of a data source.
pub(crate) struct CsvSplitter {
    dialect: Dialect,
    names: Vec<String>,
    fields: Vec<Field>,
    state: State,
    unescaped: Vec<u8>,
    ignored_columns: Vec<String>,
    /// Bytes ahead that were looked through in vain.
    single_lines: usize,
}

#[derive(Debug)]
enum State {
    /// Nothing was read.
    Start,
    /// The first record may name the columns.
    Header,
    /// Fields go to columns.
    Rows(Mapping),
    /// The header names no column, so no field can go anywhere.
    Unusable,
}

/// Which field each column takes, and how many fields a record has.
#[derive(Debug)]
struct Mapping {
    sources: Vec<Option<usize>>,
    fields: usize,
}

/// A field within a record.
#[derive(Clone, Copy, Debug)]
struct Field {
    start: usize,
    end: usize,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bare,
    Quoted,
    /// Holds doubled quotes.
    Escaped,
}

/// What stands at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scan {
    /// A record of so many bytes, and of so many more for its line end, with so many fields.
    Record {
        length: usize,
        terminator: usize,
        fields: usize,
    },
    /// It does not end here.
    Open,
    /// Its quotes make no sense from here on.
    Malformed { at: usize, reason: &'static str },
}

impl Scan {
    /// How far the record was looked through.
    fn reach(self, bytes: &[u8]) -> usize {
        match self {
            Self::Record { length, .. } => length,
            Self::Open => bytes.len(),
            Self::Malformed { at, .. } => at,
        }
    }
}

impl CsvSplitter {
    pub(crate) fn new(dialect: Dialect, names: Vec<String>) -> Self {
        Self {
            dialect,
            names,
            fields: Vec::new(),
            state: State::Start,
            unescaped: Vec::new(),
            ignored_columns: Vec::new(),
            single_lines: 0,
        }
    }

    /// Names in the header that are no column's, or a column's a second time.
    pub(crate) fn ignored_columns(&self) -> &[String] {
        &self.ignored_columns
    }

    /// Takes one record off the front; the number of bytes used, or nothing when
    /// the record does not end here.
    fn record(&mut self, bytes: &[u8], at_end: bool, block: &mut Block) -> Option<usize> {
        let used = if self.single_lines > 0 {
            let line_end = memchr(b'\n', bytes);
            let line = line_end.map_or(bytes, |end| &bytes[..=end]);
            self.take_or_give_up(line, at_end || line_end.is_some(), block)?
        } else {
            self.take_or_give_up(bytes, at_end, block)?
        };
        self.single_lines = self.single_lines.saturating_sub(used);
        Some(used)
    }

    fn take_or_give_up(&mut self, bytes: &[u8], at_end: bool, block: &mut Block) -> Option<usize> {
        self.fields.clear();
        let scan = scan(bytes, &self.dialect, at_end, &mut self.fields);
        // Looking for a closing quote has a bound, wherever the stream is cut.
        let reach = scan.reach(bytes).min(LONGEST_QUOTED);
        let reason = match scan {
            _ if scan.reach(bytes) > LONGEST_QUOTED && memchr(b'\n', &bytes[..reach]).is_some() => {
                NOT_CLOSED
            }
            Scan::Record {
                length,
                terminator,
                fields,
            } => {
                if length > 0 {
                    self.take(&bytes[..length], fields, block);
                }
                return Some(length + terminator);
            }
            Scan::Open => return None,
            Scan::Malformed { reason, .. } => reason,
        };
        let line_end = memchr(b'\n', bytes);
        if line_end.is_none() && !at_end {
            return None;
        }
        let line = &bytes[..line_end.unwrap_or(bytes.len())];
        self.give_up(without_return(line), reason, block);
        // The line in which it turned out may begin a record of its own.
        let last_line = memrchr(b'\n', &bytes[..reach]).map_or(0, |end| end + 1);
        self.single_lines = self.single_lines.max(last_line);
        Some(line_end.map_or(bytes.len(), |end| end + 1))
    }

    fn give_up(&mut self, line: &[u8], reason: &str, block: &mut Block) {
        if matches!(self.state, State::Header) {
            self.state = match self.dialect.header {
                CsvHeader::Present => State::Unusable,
                CsvHeader::Auto | CsvHeader::Absent => {
                    State::Rows(Mapping::in_order(self.names.len()))
                }
            };
        }
        block.reject(line, reason);
    }

    fn take(&mut self, record: &[u8], fields: usize, block: &mut Block) {
        if matches!(self.state, State::Header) {
            let (state, is_header) = self.read_header(record, fields);
            self.state = state;
            if is_header {
                return;
            }
        }
        match &self.state {
            State::Rows(mapping) if mapping.fields == fields => {
                for (column, source) in mapping.sources.iter().enumerate() {
                    let value = source.and_then(|field| {
                        value(
                            record,
                            self.fields[field],
                            &self.dialect,
                            &mut self.unescaped,
                        )
                    });
                    block.value(column, value);
                }
                block.end_row(record);
            }
            State::Rows(mapping) => {
                let expected = mapping.fields;
                block.reject(
                    record,
                    &format!("expected {expected} fields, found {fields}"),
                );
            }
            State::Start | State::Header | State::Unusable => {
                block.reject(record, "the first line names none of the columns");
            }
        }
    }

    /// Decides what the first record is.
    fn read_header(&mut self, record: &[u8], fields: usize) -> (State, bool) {
        let mut names = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let name = text(record, *field, &self.dialect, &mut self.unescaped);
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        let known = self
            .names
            .iter()
            .filter(|name| names.contains(name))
            .count();
        let is_header = match self.dialect.header {
            CsvHeader::Absent => false,
            // A column more or a name misspelled makes no row of it.
            CsvHeader::Auto => known * 2 > fields,
            // A first line without any column is no header, and without one no row can be read.
            CsvHeader::Present if known == 0 => return (State::Unusable, false),
            CsvHeader::Present => true,
        };
        if !is_header {
            return (State::Rows(Mapping::in_order(self.names.len())), false);
        }
        // Of a name that stands there twice, the first counts.
        let position = |name: &String| names.iter().position(|field| field == name);
        let sources = self.names.iter().map(position).collect();
        self.ignored_columns = names
            .iter()
            .enumerate()
            .filter(|(index, name)| !self.names.contains(name) || position(name) != Some(*index))
            .map(|(_, name)| name.clone())
            .collect();
        (State::Rows(Mapping { sources, fields }), true)
    }
}

const NOT_CLOSED: &str = "a quote is not closed";

impl Mapping {
    fn in_order(columns: usize) -> Self {
        Self {
            sources: (0..columns).map(Some).collect(),
            fields: columns,
        }
    }
}

impl Splitter for CsvSplitter {
    fn split(&mut self, bytes: &[u8], at_end: bool, block: &mut Block) -> usize {
        let mut used = 0;
        if matches!(self.state, State::Start) {
            let Some(mark) = skip_byte_order_mark(bytes, at_end) else {
                return 0;
            };
            used = mark;
            self.state = State::Header;
        }
        while used < bytes.len() {
            match self.record(&bytes[used..], at_end, block) {
                Some(length) => used += length,
                None => break,
            }
        }
        used
    }
}

/// Finds the end of the record at the front, and its fields.
fn scan(bytes: &[u8], dialect: &Dialect, at_end: bool, fields: &mut Vec<Field>) -> Scan {
    let mut at = 0;
    let mut count = 0;
    let mut add = |field| {
        count += 1;
        if count <= MOST_FIELDS {
            fields.push(field);
        }
        count
    };
    loop {
        let start = at;
        while at < bytes.len() && dialect.is_blank(bytes[at]) {
            at += 1;
        }
        if bytes.get(at) == Some(&dialect.quote) {
            let Some((field, after)) = quoted(bytes, at, dialect.quote, at_end) else {
                return if at_end {
                    Scan::Malformed {
                        at: bytes.len(),
                        reason: NOT_CLOSED,
                    }
                } else {
                    Scan::Open
                };
            };
            at = after;
            while at < bytes.len() && dialect.is_blank(bytes[at]) {
                at += 1;
            }
            let count = add(field);
            match &bytes[at..] {
                [] if at_end => {
                    return Scan::Record {
                        length: at,
                        terminator: 0,
                        fields: count,
                    };
                }
                [] => return Scan::Open,
                [b'\n', ..] => {
                    return Scan::Record {
                        length: at,
                        terminator: 1,
                        fields: count,
                    };
                }
                [b'\r', b'\n', ..] => {
                    return Scan::Record {
                        length: at,
                        terminator: 2,
                        fields: count,
                    };
                }
                [b'\r'] if at_end => {
                    return Scan::Record {
                        length: at,
                        terminator: 1,
                        fields: count,
                    };
                }
                [b'\r'] => return Scan::Open,
                [byte, ..] if *byte == dialect.delimiter => at += 1,
                _ => {
                    return Scan::Malformed {
                        at,
                        reason: "text after a closing quote",
                    };
                }
            }
            continue;
        }
        let end = bare_end(bytes, at, dialect.delimiter);
        if end == bytes.len() && !at_end {
            return Scan::Open;
        }
        if end < bytes.len() && bytes[end] == dialect.delimiter {
            add(Field {
                start,
                end,
                form: Form::Bare,
            });
            at = end + 1;
            continue;
        }
        let content = without_return(&bytes[start..end]).len();
        let count = add(Field {
            start,
            end: start + content,
            form: Form::Bare,
        });
        let line = without_return(&bytes[..end]).len();
        let terminator = end - line + usize::from(end < bytes.len());
        return Scan::Record {
            length: line,
            terminator,
            fields: count,
        };
    }
}

/// The end of a field without quotes: the next delimiter or line end. Fields are
/// mostly a few bytes long, for which a loop is faster than a search.
fn bare_end(bytes: &[u8], start: usize, delimiter: u8) -> usize {
    let near = bytes.len().min(start + 16);
    for (offset, &byte) in bytes[start..near].iter().enumerate() {
        if byte == delimiter || byte == b'\n' {
            return start + offset;
        }
    }
    memchr2(delimiter, b'\n', &bytes[near..]).map_or(bytes.len(), |offset| near + offset)
}

/// A quoted field and what follows it; nothing when the closing quote is not there.
fn quoted(bytes: &[u8], open: usize, quote: u8, at_end: bool) -> Option<(Field, usize)> {
    let start = open + 1;
    let mut at = start;
    let mut form = Form::Quoted;
    loop {
        let close = at + memchr(quote, &bytes[at..])?;
        match bytes.get(close + 1) {
            Some(&next) if next == quote => {
                form = Form::Escaped;
                at = close + 2;
            }
            // Whether this one is doubled shows with the next byte.
            None if !at_end => return None,
            _ => {
                return Some((
                    Field {
                        start,
                        end: close,
                        form,
                    },
                    close + 1,
                ));
            }
        }
    }
}

/// The value of a field; nothing for a null marker without quotes.
fn value<'a>(
    record: &'a [u8],
    field: Field,
    dialect: &Dialect,
    unescaped: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    let text = text(record, field, dialect, unescaped);
    (field.form != Form::Bare || !dialect.is_null(text)).then_some(text)
}

fn text<'a>(
    record: &'a [u8],
    field: Field,
    dialect: &Dialect,
    unescaped: &'a mut Vec<u8>,
) -> &'a [u8] {
    let mut text = &record[field.start..field.end];
    match field.form {
        Form::Quoted => text,
        Form::Bare => {
            while let [first, rest @ ..] = text
                && dialect.is_blank(*first)
            {
                text = rest;
            }
            while let [rest @ .., last] = text
                && dialect.is_blank(*last)
            {
                text = rest;
            }
            text
        }
        Form::Escaped => {
            unescaped.clear();
            while let Some(at) = memchr(dialect.quote, text) {
                unescaped.extend_from_slice(&text[..=at]);
                text = &text[at + 2..];
            }
            unescaped.extend_from_slice(text);
            unescaped
        }
    }
}

#[cfg(test)]
mod tests;

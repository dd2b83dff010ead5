//! The values of one column of a file, as text, decoded a few at a time.
//!
//! A file of a kilobyte can hold values that take gigabytes when they are decoded:
//! so little is decoded at once, and pages are looked at before.

use super::super::typed::Kind;
use super::error::FileError;
use super::pages::Pages;
use super::text::{self, Style};
use parquet::basic::Encoding;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::file::reader::RowGroupReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows that are decoded at a time, of a column with one value a row.
const BATCH: usize = 1024;
/// The same where rows have lists, which may be long.
const BATCH_OF_LISTS: usize = 16;

/// A column of the file. Stands at one value, or at the end.
pub(super) struct Leaf {
    values: Box<dyn Values>,
    batch: usize,
    /// The level at which there is a value; below, something around it is missing.
    value_level: i16,
    /// Of the values of this batch. Empty where all are the same.
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    at: usize,
    count: usize,
    loaded: Arc<AtomicUsize>,
}

impl Leaf {
    pub(super) fn open(
        group: &dyn RowGroupReader,
        index: usize,
        target: Option<&Kind>,
    ) -> Result<Self, FileError> {
        let chunk = group.metadata().column(index);
        let column = chunk.column_descr_ptr();
        let has_lists = column.max_rep_level() > 0;
        // Values that are written as what differs from the one before take more than their page.
        let shared_prefixes = chunk
            .encodings()
            .any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY);
        let pages = group.get_column_page_reader(index)?;
        let pages = Pages::new(pages, &column, shared_prefixes);
        let loaded = Arc::clone(&pages.loaded);
        let style = Style::of(&column, target);
        let value_level = column.max_def_level();
        let values = match get_column_reader(column, Box::new(pages)) {
            ColumnReader::BoolColumnReader(reader) => {
                typed(reader, |value, text| text::boolean(*value, text))
            }
            ColumnReader::Int32ColumnReader(reader) => {
                typed(reader, move |value, text| style.int32(*value, text))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                typed(reader, move |value, text| style.int64(*value, text))
            }
            ColumnReader::Int96ColumnReader(reader) => typed(reader, text::int96),
            ColumnReader::FloatColumnReader(reader) => {
                typed(reader, |value, text| text::float(*value, text))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                typed(reader, |value, text| text::double(*value, text))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                typed(reader, move |value, text| style.bytes(value.data(), text))
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                typed(reader, move |value, text| style.bytes(value.data(), text))
            }
        };
        let mut leaf = Self {
            values,
            batch: match (shared_prefixes, has_lists) {
                (true, _) => 1,
                (false, true) => BATCH_OF_LISTS,
                (false, false) => BATCH,
            },
            value_level,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            at: 0,
            count: 0,
            loaded,
        };
        leaf.decode()?;
        Ok(leaf)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.count
    }

    /// How much of what is around the value is there.
    pub(super) fn definition(&self) -> i16 {
        let known = self.definitions.get(self.at).copied();
        known.unwrap_or(self.value_level)
    }

    /// Which list the value goes on with; 0 where a row begins.
    pub(super) fn repetition(&self) -> i16 {
        self.repetitions.get(self.at).copied().unwrap_or(0)
    }

    /// Writes the value, if there is one, and goes on to the next.
    pub(super) fn take(&mut self, text: &mut Vec<u8>) -> Result<bool, FileError> {
        if self.is_at_end() {
            return Err(FileError::Ragged);
        }
        let there = self.definition() == self.value_level;
        if there {
            self.values.write_next(text)?;
        }
        self.at += 1;
        if self.is_at_end() {
            self.decode()?;
        }
        Ok(there)
    }

    /// Passes over what is left of the row, and writes nothing.
    pub(super) fn pass_row(&mut self) -> Result<(), FileError> {
        loop {
            if self.is_at_end() {
                return Err(FileError::Ragged);
            }
            if self.definition() == self.value_level {
                self.values.pass_next();
            }
            self.at += 1;
            if self.is_at_end() {
                self.decode()?;
            }
            if self.is_at_end() || self.repetition() == 0 {
                return Ok(());
            }
        }
    }

    fn decode(&mut self) -> Result<(), FileError> {
        self.loaded.fetch_sub(self.count, Ordering::Relaxed);
        self.definitions.clear();
        self.repetitions.clear();
        self.at = 0;
        self.count =
            self.values
                .decode(self.batch, &mut self.definitions, &mut self.repetitions)?;
        Ok(())
    }
}

/// Decoded values of one type, and how they are written.
trait Values {
    /// Decodes the values of the next rows; how many they are, with those that are missing.
    fn decode(
        &mut self,
        rows: usize,
        definitions: &mut Vec<i16>,
        repetitions: &mut Vec<i16>,
    ) -> Result<usize, FileError>;

    fn write_next(&mut self, text: &mut Vec<u8>) -> Result<(), FileError>;

    fn pass_next(&mut self);
}

struct TypedValues<T: DataType, W> {
    reader: ColumnReaderImpl<T>,
    values: Vec<T::T>,
    at: usize,
    write: W,
}

fn typed<T: DataType>(
    reader: ColumnReaderImpl<T>,
    write: impl Fn(&T::T, &mut Vec<u8>) + 'static,
) -> Box<dyn Values> {
    Box::new(TypedValues {
        reader,
        values: Vec::new(),
        at: 0,
        write,
    })
}

impl<T: DataType, W: Fn(&T::T, &mut Vec<u8>)> Values for TypedValues<T, W> {
    fn decode(
        &mut self,
        rows: usize,
        definitions: &mut Vec<i16>,
        repetitions: &mut Vec<i16>,
    ) -> Result<usize, FileError> {
        self.values.clear();
        self.at = 0;
        let (rows, values, levels) = self.reader.read_records(
            rows,
            Some(definitions),
            Some(repetitions),
            &mut self.values,
        )?;
        Ok(rows.max(values).max(levels))
    }

    fn write_next(&mut self, text: &mut Vec<u8>) -> Result<(), FileError> {
        let value = self.values.get(self.at).ok_or(FileError::Ragged)?;
        (self.write)(value, text);
        self.at += 1;
        Ok(())
    }
    fn pass_next(&mut self) {
        self.at += 1;
    }
}

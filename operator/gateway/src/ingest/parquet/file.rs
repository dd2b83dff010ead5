//! Reads a Parquet file into blocks. Plain columns are read as columns; nested
//! ones row by row, as JSON.

use super::super::block::Block;
use super::text::{self, Style, write_json};
use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::{SchemaDescriptor, Type};
use std::sync::Arc;

/// Rows that are read of one column before the next.
const BATCH: usize = 4096;
const LONGEST_REASON: usize = 200;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("the body is no Parquet file, or it is corrupt: {}", shortened(.0))]
    Parquet(#[from] ParquetError),
    #[error("the body is a Parquet file with columns of different lengths")]
    Ragged,
    #[error("the body is a Parquet file that is not understood")]
    NotUnderstood,
}

fn shortened(error: &ParquetError) -> String {
    error.to_string().chars().take(LONGEST_REASON).collect()
}

/// Reads all rows. `emit` takes full blocks, and says whether to go on.
pub(super) fn read(
    file: Bytes,
    names: &[String],
    import_id: &str,
    full: usize,
    emit: &mut dyn FnMut(Block) -> bool,
) -> Result<(), FileError> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let plans: Vec<Plan> = names.iter().map(|name| plan(&schema, name)).collect();
    let mut block = Block::new(names.len(), import_id);
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        let mut left =
            usize::try_from(group.metadata().num_rows()).map_err(|_| FileError::Ragged)?;
        let mut sources = plans
            .iter()
            .map(|plan| plan.open(&*group))
            .collect::<Result<Vec<_>, _>>()?;
        while left > 0 {
            let rows = left.min(BATCH);
            for (column, source) in sources.iter_mut().enumerate() {
                source.fill(column, rows, &mut block)?;
            }
            (0..rows).for_each(|_| block.end_row());
            left -= rows;
            if block.size() >= full
                && !emit(std::mem::replace(
                    &mut block,
                    Block::new(names.len(), import_id),
                ))
            {
                return Ok(());
            }
        }
    }
    emit(block);
    Ok(())
}

/// Where a column of the table comes from.
enum Plan {
    /// The file does not have it.
    Missing,
    /// A plain column of the file.
    Plain { index: usize, style: Style },
    /// A list, map or structure.
    Nested(Type),
}

fn plan(schema: &SchemaDescriptor, name: &str) -> Plan {
    let fields = schema.root_schema().get_fields();
    let Some(field) = fields.iter().find(|field| field.name() == name) else {
        return Plan::Missing;
    };
    let leaf = schema
        .columns()
        .iter()
        .position(|leaf| leaf.path().parts() == [name]);
    match leaf.filter(|&index| schema.column(index).max_rep_level() == 0) {
        Some(index) => Plan::Plain {
            index,
            style: Style::of(&schema.column(index)),
        },
        None => Plan::Nested(projection(schema.name(), field)),
    }
}

/// The schema with one field only.
fn projection(root: &str, field: &Arc<Type>) -> Type {
    let alone = Type::group_type_builder(root)
        .with_fields(vec![Arc::clone(field)])
        .build();
    // Building a group fails for primitive types only; an empty one reads as no values.
    alone.unwrap_or_else(|_| field.as_ref().clone())
}

enum Source<'g> {
    Missing,
    Plain {
        reader: Box<ColumnReader>,
        optional: bool,
        style: Style,
    },
    Nested(Box<RowIter<'g>>),
}

impl Plan {
    fn open<'g>(&self, group: &'g dyn RowGroupReader) -> Result<Source<'g>, FileError> {
        Ok(match self {
            Self::Missing => Source::Missing,
            Self::Plain { index, style } => Source::Plain {
                reader: Box::new(group.get_column_reader(*index)?),
                optional: group
                    .metadata()
                    .column(*index)
                    .column_descr()
                    .max_def_level()
                    > 0,
                style: *style,
            },
            Self::Nested(projection) => {
                Source::Nested(Box::new(group.get_row_iter(Some(projection.clone()))?))
            }
        })
    }
}

impl Source<'_> {
    /// Adds the values of the next rows.
    fn fill(&mut self, column: usize, rows: usize, block: &mut Block) -> Result<(), FileError> {
        match self {
            Self::Missing => (0..rows).for_each(|_| block.value(column, None)),
            Self::Plain {
                reader,
                optional,
                style,
            } => {
                let mut target = Target {
                    column,
                    rows,
                    optional: *optional,
                    block,
                };
                let style = *style;
                match reader.as_mut() {
                    ColumnReader::BoolColumnReader(reader) => {
                        target.fill(reader, |value, text| text::boolean(*value, text))?;
                    }
                    ColumnReader::Int32ColumnReader(reader) => {
                        target.fill(reader, |value, text| style.int32(*value, text))?;
                    }
                    ColumnReader::Int64ColumnReader(reader) => {
                        target.fill(reader, |value, text| style.int64(*value, text))?;
                    }
                    ColumnReader::Int96ColumnReader(reader) => {
                        target.fill(reader, text::int96)?;
                    }
                    ColumnReader::FloatColumnReader(reader) => {
                        target.fill(reader, |value, text| text::float(*value, text))?;
                    }
                    ColumnReader::DoubleColumnReader(reader) => {
                        target.fill(reader, |value, text| text::double(*value, text))?;
                    }
                    ColumnReader::ByteArrayColumnReader(reader) => {
                        target.fill(reader, |value, text| style.bytes(value.data(), text))?;
                    }
                    ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                        target.fill(reader, |value, text| style.bytes(value.data(), text))?;
                    }
                }
            }
            Self::Nested(iterator) => {
                for _ in 0..rows {
                    let row = iterator.next().ok_or(FileError::Ragged)??;
                    let mut text = String::new();
                    let there = row
                        .get_column_iter()
                        .next()
                        .is_some_and(|(_, field)| write_json(field, &mut text));
                    block.value(column, there.then_some(text.as_bytes()));
                }
            }
        }
        Ok(())
    }
}

/// Where values of a plain column go.
struct Target<'b> {
    column: usize,
    rows: usize,
    optional: bool,
    block: &'b mut Block,
}

impl Target<'_> {
    fn fill<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        write: impl Fn(&T::T, &mut Vec<u8>),
    ) -> Result<(), FileError> {
        let mut levels = Vec::with_capacity(self.rows);
        let mut values = Vec::with_capacity(self.rows);
        let mut left = self.rows;
        while left > 0 {
            // A batch may end where a page does.
            let (records, _, _) =
                reader.read_records(left, Some(&mut levels), None, &mut values)?;
            if records == 0 {
                return Err(FileError::Ragged);
            }
            left -= records;
        }
        let mut values = values.iter();
        let mut text = Vec::new();
        for row in 0..self.rows {
            let there = !self.optional || levels.get(row).is_some_and(|&level| level > 0);
            if !there {
                self.block.value(self.column, None);
                continue;
            }
            text.clear();
            write(values.next().ok_or(FileError::Ragged)?, &mut text);
            self.block.value(self.column, Some(&text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::block::testing::{Row, rows};
    use super::*;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    const SCHEMA: &str = "message rows {
        REQUIRED INT32 day (DATE);
        OPTIONAL INT64 at (TIMESTAMP(MILLIS,true));
        OPTIONAL BYTE_ARRAY text (UTF8);
        REQUIRED DOUBLE number;
        OPTIONAL GROUP tags (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }
    }";

    /// Two row groups of two rows each.
    fn sample() -> Bytes {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        for _ in 0..2 {
            let mut group = writer.next_row_group().unwrap();
            let mut next =
                |write: &mut dyn FnMut(&mut parquet::file::writer::SerializedColumnWriter<'_>)| {
                    let mut column = group.next_column().unwrap().unwrap();
                    write(&mut column);
                    column.close().unwrap();
                };
            next(&mut |column| {
                assert!(
                    column
                        .typed::<Int32Type>()
                        .write_batch(&[0, 19844], None, None)
                        .unwrap()
                        > 0
                );
            });
            next(&mut |column| {
                assert!(
                    column
                        .typed::<Int64Type>()
                        .write_batch(&[1_714_557_600_500], Some(&[0, 1]), None)
                        .unwrap()
                        > 0
                );
            });
            next(&mut |column| {
                assert!(
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&[ByteArray::from(&b"\xff"[..])], Some(&[1, 0]), None)
                        .unwrap()
                        > 0
                );
            });
            next(&mut |column| {
                assert!(
                    column
                        .typed::<DoubleType>()
                        .write_batch(&[0.1, 1e300], None, None)
                        .unwrap()
                        > 0
                );
            });
            let elements = ["a", "b\""].map(ByteArray::from);
            next(&mut |column| {
                assert!(
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&elements, Some(&[2, 2, 0]), Some(&[0, 1, 0]))
                        .unwrap()
                        > 0
                );
            });
            group.close().unwrap();
        }
        writer.into_inner().unwrap().into()
    }

    fn read_all(file: Bytes, names: &[&str]) -> Result<Vec<Row>, FileError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut all = Vec::new();
        read(file, &names, "i", 1, &mut |block| {
            all.extend(rows(&block));
            true
        })?;
        Ok(all)
    }

    #[test]
    fn every_kind_of_column_becomes_text() {
        let rows = read_all(sample(), &["number", "text", "tags", "none", "at", "day"]).unwrap();
        let first = Row::Values(vec![
            Some(b"0.1".to_vec()),
            Some(b"\xff".to_vec()),
            Some(b"[\"a\",\"b\\\"\"]".to_vec()),
            None,
            None,
            Some(b"1970-01-01".to_vec()),
        ]);
        let second = Row::values(&[
            Some("1e300"),
            None,
            None,
            None,
            Some("2024-05-01 10:00:00.5Z"),
            Some("2024-05-01"),
        ]);
        assert_eq!(rows, [first.clone(), second.clone(), first, second]);
    }

    #[test]
    fn what_is_broken_is_an_error_and_no_panic() {
        let good = sample();
        for length in 0..good.len() {
            assert!(
                read_all(good.slice(..length), &["number"]).is_err(),
                "{length}"
            );
        }
        for at in 0..good.len() {
            let mut broken = good.to_vec();
            broken[at] ^= 0x55;
            // Some bytes matter and some do not; the library panics at a few, which the caller catches.
            let _ = std::panic::catch_unwind(|| {
                read_all(broken.into(), &["number", "text", "at", "day"]).is_ok()
            });
        }
    }
}

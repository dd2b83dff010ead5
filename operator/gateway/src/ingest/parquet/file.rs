//! Reads a Parquet file into blocks: its columns are decoded side by side, a few
//! values at a time, and written row by row.
//!
//! Nothing that a file says of itself is believed. A kilobyte can claim any number
//! of rows, or hold a text once and mean it a billion times; so rows end where
//! columns do, and what is written is counted.

use super::super::block::{Block, Layout};
use super::super::lines::LONGEST_LINE;
use super::super::typed::Kind;
use super::claims;
use super::leaf::Leaf;
use super::nested::{Json, Node};
use crate::error::ApiError;
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{SchemaDescriptor, TypePtr};

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
    #[error("the body is a Parquet file with none of the data source's columns")]
    NoColumn,
    #[error("the body is a Parquet file with a row of more than {LONGEST_LINE} bytes")]
    LongRow,
    /// Its rows are not wanted any more, for a reason of another's.
    #[error("the rest of the file is not wanted")]
    Stopped(ApiError),
}

fn shortened(error: &ParquetError) -> String {
    error.to_string().chars().take(LONGEST_REASON).collect()
}

/// Where rows go.
pub(super) trait Sink {
    /// Whether a block of this size should go now.
    fn is_full(&mut self, size: usize) -> Result<bool, ApiError>;

    /// Makes room for so many bytes of pages, which are read at once.
    fn load(&mut self, pages: u64) -> Result<(), ApiError>;

    /// Takes a block.
    fn take(&mut self, block: Block) -> Result<(), ApiError>;
}

/// A file whose columns are found.
pub(super) struct File<'n> {
    bytes: Bytes,
    reader: SerializedFileReader<Bytes>,
    columns: &'n [Wanted],
    /// Where each column comes from, if the file has it.
    sources: Vec<Option<Source>>,
}

/// A column of the file: its field, the first of its leaves, and what its values are for.
struct Source {
    field: TypePtr,
    leaf: usize,
    kind: Option<Kind>,
}

/// A column of the table.
pub(super) struct Wanted {
    pub(super) name: String,
    /// Of types that are known.
    pub(super) kind: Option<Kind>,
}

impl<'n> File<'n> {
    pub(super) fn open(file: Bytes, columns: &'n [Wanted]) -> Result<Self, FileError> {
        claims::check_schema(&file)?;
        let reader = SerializedFileReader::new(file.clone())?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let sources = columns.iter().map(|column| source(&schema, column));
        let sources: Vec<_> = sources.collect();
        // Without any, nothing would bound the number of its rows.
        if sources.iter().all(Option::is_none) {
            return Err(FileError::NoColumn);
        }
        Ok(Self {
            bytes: file,
            reader,
            columns,
            sources,
        })
    }

    /// Names in the file that are no column's, or a column's a second time.
    pub(super) fn ignored_columns(&self) -> Vec<String> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let fields = schema.root_schema().get_fields().iter();
        let names: Vec<&str> = fields.map(|field| field.name()).collect();
        let is_ignored = |(index, name): &(usize, &&str)| {
            let known = self.columns.iter().any(|column| column.name == **name);
            !known || names[..*index].contains(name)
        };
        let ignored = names.iter().enumerate().filter(is_ignored);
        ignored.map(|(_, name)| (*name).to_owned()).collect()
    }

    /// Reads all rows.
    pub(super) fn read(
        &self,
        layout: Layout,
        import_id: &str,
        sink: &mut dyn Sink,
    ) -> Result<(), FileError> {
        let mut filling = Filling {
            columns: self.columns,
            layout,
            import_id,
            block: Block::new(layout, import_id),
            values: self.columns.iter().map(|_| Value::default()).collect(),
            raw: Json::default(),
            sink,
        };
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group)?;
            let pages = self.memory_of_pages(&*group);
            filling.sink.load(pages).map_err(FileError::Stopped)?;
            let mut columns = self
                .sources
                .iter()
                .map(|source| {
                    source
                        .as_ref()
                        .map(|source| source.open(&*group))
                        .transpose()
                })
                .collect::<Result<Vec<_>, _>>()?;
            for _ in 0..group.metadata().num_rows() {
                filling.row(&mut columns)?;
            }
            if !columns.iter().flatten().all(Node::is_at_end) {
                return Err(FileError::Ragged);
            }
        }
        filling.pass_on()
    }

    /// Bytes that the pages of a row group take at once, of the columns that are read.
    fn memory_of_pages(&self, group: &dyn RowGroupReader) -> u64 {
        let schema = group.metadata().schema_descr();
        let is_read = |leaf: &usize| {
            let field = schema.get_column_root(*leaf).name();
            self.columns.iter().any(|column| column.name == field)
        };
        (0..schema.num_columns())
            .filter(is_read)
            .map(|leaf| claims::memory_of(group.metadata().column(leaf), &self.bytes))
            .sum()
    }
}

fn source(schema: &SchemaDescriptor, column: &Wanted) -> Option<Source> {
    let fields = schema.root_schema().get_fields();
    let position = fields
        .iter()
        .position(|field| field.name() == column.name)?;
    let leaf =
        (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == position)?;
    Some(Source {
        field: TypePtr::clone(&fields[position]),
        leaf,
        kind: column.kind.clone(),
    })
}

impl Source {
    fn open(&self, group: &dyn RowGroupReader) -> Result<Node, FileError> {
        let mut leaves = self.leaf..;
        Node::new(&self.field, self.kind.as_ref(), &mut |kind| {
            let leaf = leaves.next().ok_or(FileError::NotUnderstood)?;
            Leaf::open(group, leaf, kind)
        })
    }
}

/// The value of a column in the row that is being read.
#[derive(Default)]
struct Value {
    json: Json,
    there: bool,
}

/// A block that is being filled.
struct Filling<'f> {
    columns: &'f [Wanted],
    layout: Layout,
    import_id: &'f str,
    block: Block,
    values: Vec<Value>,
    /// The row as it is.
    raw: Json,
    sink: &'f mut dyn Sink,
}

impl Filling<'_> {
    fn row(&mut self, columns: &mut [Option<Node>]) -> Result<(), FileError> {
        let mut left = LONGEST_LINE;
        let mut binary = None;
        for (index, (value, column)) in self.values.iter_mut().zip(&mut *columns).enumerate() {
            value.there = match column {
                Some(column) => column.take_row(&mut value.json, left)?,
                None => false,
            };
            left = left
                .checked_sub(value.json.text.len())
                .ok_or(FileError::LongRow)?;
            if value.json.binary {
                binary = Some(index);
            }
        }
        self.write_raw(columns);
        match binary {
            None => self.add(),
            Some(index) => self.reject(index),
        }
        let size = self.block.size();
        if self.sink.is_full(size).map_err(FileError::Stopped)? {
            self.pass_on()?;
        }
        Ok(())
    }

    fn add(&mut self) {
        for (column, value) in self.values.iter().enumerate() {
            let text = value.there.then_some(value.json.text.as_slice());
            self.block.value(column, text);
        }
        self.block.end_row(&self.raw.text);
    }

    /// Keeps a row as it is.
    fn reject(&mut self, binary: usize) {
        let name = &self.columns[binary].name;
        let reason =
            format!("column `{name}`: bytes that are not valid UTF-8, in a list or structure");
        self.block.reject(&self.raw.text, &reason);
    }

    /// The row as it is, as an object of its columns.
    fn write_raw(&mut self, columns: &[Option<Node>]) {
        let raw = &mut self.raw;
        raw.clear();
        let mut separator = b'{';
        for ((wanted, value), column) in self.columns.iter().zip(&self.values).zip(columns) {
            if !value.there {
                continue;
            }
            raw.text.push(separator);
            raw.write_text(wanted.name.as_bytes());
            raw.text.push(b':');
            if column.as_ref().is_some_and(Node::is_nested) {
                raw.text.extend_from_slice(&value.json.text);
            } else {
                raw.write_text(&value.json.text);
            }
            separator = b',';
        }
        if separator == b'{' {
            raw.text.push(separator);
        }
        raw.text.push(b'}');
    }

    fn pass_on(&mut self) -> Result<(), FileError> {
        if self.block.rows() == 0 {
            return Ok(());
        }
        let empty = Block::new(self.layout, self.import_id);
        let block = std::mem::replace(&mut self.block, empty);
        self.sink.take(block).map_err(FileError::Stopped)
    }
}

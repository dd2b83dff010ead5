//! Reads a Parquet file into blocks: its columns are decoded side by side, a few
//! values at a time, and written row by row.
//!
//! Nothing that a file says of itself is believed. A kilobyte can claim any number
//! of rows, or hold a text once and mean it a billion times; so rows end where
//! columns do, and what is written is counted.
//!
//! Where a file has columns that the table has not, rows wait a little until it is
//! known which of them may go to quarantine, with the whole record.

use super::super::block::{Block, Column, Layout};
use super::super::lines::LONGEST_LINE;
use super::super::typed::Kind;
use super::claims;
use super::error::FileError;
use super::nested::{Json, Node, open, write_field};
use super::others::{Other, Others};
use super::sink::Sink;
use bytes::Bytes;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{SchemaDescriptor, TypePtr};

/// A file whose columns are found.
pub(super) struct File<'n> {
    bytes: Bytes,
    reader: SerializedFileReader<Bytes>,
    columns: &'n [Wanted],
    /// Where each column comes from, if the file has it.
    sources: Vec<Option<Source>>,
    /// Its columns that are none of these.
    others: Vec<Other>,
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
        let others = others(&schema, &sources);
        Ok(Self {
            bytes: file,
            reader,
            columns,
            sources,
            others,
        })
    }

    /// Names in the file that are no column's, or a column's a second time.
    pub(super) fn ignored_columns(&self) -> Vec<String> {
        let names = self.others.iter().map(|other| other.field.name());
        names.map(str::to_owned).collect()
    }

    /// Reads all rows. `doubtful` says which rows of a block may go to quarantine.
    pub(super) fn read(
        &self,
        layout: Layout,
        import_id: &str,
        doubtful: &dyn Fn(&Block) -> Vec<bool>,
        sink: &mut dyn Sink,
    ) -> Result<(), FileError> {
        let mut filling = Filling {
            columns: self.columns,
            layout,
            import_id,
            block: Block::new(layout, import_id),
            waiting: Waiting::new(layout, import_id),
            waits: !self.others.is_empty(),
            doubtful,
            values: self.columns.iter().map(|_| Value::default()).collect(),
            raw: Json::default(),
            sink,
        };
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group)?;
            let pages = self.memory_of_pages(&*group, false);
            filling.sink.load(pages).map_err(FileError::Stopped)?;
            let all_pages = self.memory_of_pages(&*group, true);
            let mut others = Others::new(&self.others, &*group, all_pages);
            let mut columns = self
                .sources
                .iter()
                .map(|source| {
                    source
                        .as_ref()
                        .map(|source| {
                            open(&source.field, source.leaf, source.kind.as_ref(), &*group)
                        })
                        .transpose()
                })
                .collect::<Result<Vec<_>, _>>()?;
            for _ in 0..group.metadata().num_rows() {
                filling.row(&mut columns, &mut others)?;
            }
            filling.settle(&mut others)?;
            filling.waiting.before = 0;
            if !columns.iter().flatten().all(Node::is_at_end) {
                return Err(FileError::Ragged);
            }
        }
        filling.pass_on()
    }

    /// Bytes that the pages of a row group take at once, of the table's columns or of all.
    fn memory_of_pages(&self, group: &dyn RowGroupReader, all: bool) -> u64 {
        let schema = group.metadata().schema_descr();
        let is_read = |leaf: &usize| {
            let field = schema.get_column_root(*leaf).name();
            all || self.columns.iter().any(|column| column.name == field)
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
    Some(Source {
        field: TypePtr::clone(&fields[position]),
        leaf: first_leaf(schema, position)?,
        kind: column.kind.clone(),
    })
}

fn others(schema: &SchemaDescriptor, sources: &[Option<Source>]) -> Vec<Other> {
    let is_source = |leaf| sources.iter().flatten().any(|source| source.leaf == leaf);
    let fields = schema.root_schema().get_fields().iter().enumerate();
    let others = fields.filter_map(|(position, field)| {
        let leaf = first_leaf(schema, position)?;
        let field = TypePtr::clone(field);
        (!is_source(leaf)).then_some(Other { field, leaf })
    });
    others.collect()
}

fn first_leaf(schema: &SchemaDescriptor, position: usize) -> Option<usize> {
    (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == position)
}

fn close(record: &mut Json) {
    let end: &[u8] = if record.text.is_empty() { b"{}" } else { b"}" };
    record.text.extend_from_slice(end);
}

/// The value of a column in the row that is being read.
#[derive(Default)]
struct Value {
    json: Json,
    there: bool,
}

/// Rows that wait for a look at their values.
struct Waiting {
    block: Block,
    rows: Vec<WaitingRow>,
    /// Rows of the group before these.
    before: usize,
}

struct WaitingRow {
    /// Its record, as far as the table's columns go.
    record: Json,
    /// The column that makes a record of it that no row comes of.
    binary: Option<usize>,
}

impl Waiting {
    fn new(layout: Layout, import_id: &str) -> Self {
        Self {
            block: Block::new(layout, import_id),
            rows: Vec::new(),
            before: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= MOST_WAITING || self.block.size() >= WAITING_BYTES
    }
}

/// Rows that wait at once, and the bytes with which no further one does.
const MOST_WAITING: usize = 256;
const WAITING_BYTES: usize = 64 * 1024;

/// A block that is being filled.
struct Filling<'f> {
    columns: &'f [Wanted],
    layout: Layout,
    import_id: &'f str,
    block: Block,
    waiting: Waiting,
    waits: bool,
    doubtful: &'f dyn Fn(&Block) -> Vec<bool>,
    values: Vec<Value>,
    /// The row as it is.
    raw: Json,
    sink: &'f mut dyn Sink,
}

impl Filling<'_> {
    fn row(
        &mut self,
        columns: &mut [Option<Node>],
        others: &mut Others<'_>,
    ) -> Result<(), FileError> {
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
        if self.waits {
            return self.wait(binary, others);
        }
        close(&mut self.raw);
        match binary {
            None => add(&mut self.block, &self.values, &self.raw.text),
            Some(index) => self.reject(index),
        }
        self.pass_on_if_full()
    }

    /// Keeps a row until it is known whether it may go to quarantine.
    fn wait(&mut self, binary: Option<usize>, others: &mut Others<'_>) -> Result<(), FileError> {
        add(&mut self.waiting.block, &self.values, b"");
        let record = std::mem::take(&mut self.raw);
        self.waiting.rows.push(WaitingRow { record, binary });
        if self.waiting.is_full() {
            self.settle(others)?;
        }
        Ok(())
    }

    /// Takes the rows that wait, those in doubt with their whole records.
    fn settle(&mut self, others: &mut Others<'_>) -> Result<(), FileError> {
        let empty = Waiting::new(self.layout, self.import_id);
        let Waiting {
            block,
            rows,
            before,
        } = std::mem::replace(&mut self.waiting, empty);
        self.waiting.before = before + rows.len();
        if rows.is_empty() {
            return Ok(());
        }
        let doubtful = (self.doubtful)(&block);
        let mut columns: Vec<_> = block.columns.iter().map(Column::values).collect();
        for (index, WaitingRow { record, binary }) in rows.into_iter().enumerate() {
            self.raw = record;
            if binary.is_some() || doubtful[index] {
                others.add(before + index, &mut self.raw, self.sink)?;
            }
            close(&mut self.raw);
            let values = columns.iter_mut().map(|column| column.next().flatten());
            match binary {
                None => {
                    let values = values.enumerate();
                    values.for_each(|(column, value)| self.block.value(column, value));
                    self.block.end_row(&self.raw.text);
                }
                Some(index) => {
                    values.for_each(drop);
                    self.reject(index);
                }
            }
            self.pass_on_if_full()?;
        }
        Ok(())
    }

    /// Keeps a row as it is.
    fn reject(&mut self, binary: usize) {
        let name = &self.columns[binary].name;
        let reason =
            format!("column `{name}`: bytes that are not valid UTF-8, in a list or structure");
        self.block.reject(&self.raw.text, &reason);
    }

    /// The row as it is, as an object of its columns that may get more.
    fn write_raw(&mut self, columns: &[Option<Node>]) {
        self.raw.clear();
        for ((wanted, value), column) in self.columns.iter().zip(&self.values).zip(columns) {
            if value.there {
                let is_nested = column.as_ref().is_some_and(Node::is_nested);
                write_field(&mut self.raw, &wanted.name, is_nested, &value.json.text);
            }
        }
    }

    fn pass_on_if_full(&mut self) -> Result<(), FileError> {
        let size = self.block.size();
        if self.sink.is_full(size).map_err(FileError::Stopped)? {
            self.pass_on()?;
        }
        Ok(())
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

fn add(block: &mut Block, values: &[Value], raw: &[u8]) {
    for (column, value) in values.iter().enumerate() {
        let text = value.there.then_some(value.json.text.as_slice());
        block.value(column, text);
    }
    block.end_row(raw);
}

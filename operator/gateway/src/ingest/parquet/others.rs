//! The columns of a file that are none of the table's. They are read for the rows that may go to
//! quarantine, which keeps whole records, and for no other.

use super::super::lines::LONGEST_LINE;
use super::error::FileError;
use super::nested::{Json, Node, open, write_field};
use super::sink::Sink;
use crate::error_code::ErrorCode;
use parquet::file::reader::RowGroupReader;
use parquet::schema::types::TypePtr;

/// A column of the file: its field, and the first of its leaves.
pub(super) struct Other {
    pub(super) field: TypePtr,
    pub(super) leaf: usize,
}

/// Those of a row group.
pub(super) struct Others<'g> {
    columns: &'g [Other],
    group: &'g dyn RowGroupReader,
    /// Bytes of pages that are read at once: with these columns.
    pages: u64,
    state: State,
    value: Json,
}

enum State {
    /// No row was asked for.
    Unread,
    /// They stand at this row of the group.
    Open { nodes: Vec<Node>, row: usize },
    /// What they hold cannot be read, or takes more memory than a file may have.
    Unreadable,
}

impl<'g> Others<'g> {
    pub(super) fn new(columns: &'g [Other], group: &'g dyn RowGroupReader, pages: u64) -> Self {
        Self {
            columns,
            group,
            pages,
            state: State::Unread,
            value: Json::default(),
        }
    }

    /// Adds the values of a row to the object of its record. Rows are asked for in their order.
    /// Where they cannot be read, the record stays without them: the table needs none of them.
    pub(super) fn add(
        &mut self,
        row: usize,
        record: &mut Json,
        sink: &mut dyn Sink,
    ) -> Result<(), FileError> {
        if matches!(self.state, State::Unread) {
            self.state = self.open(sink)?;
        }
        let length = record.text.len();
        if let State::Open { nodes, row: at } = &mut self.state {
            let read = read(nodes, at, row, &mut self.value, self.columns, record);
            if read.is_err() {
                record.text.truncate(length);
                self.state = State::Unreadable;
            }
        }
        Ok(())
    }

    fn open(&self, sink: &mut dyn Sink) -> Result<State, FileError> {
        match sink.load(self.pages) {
            Ok(()) => {}
            // The same whenever the file is sent.
            Err(error) if error.code() == ErrorCode::BodyTooLarge => return Ok(State::Unreadable),
            Err(error) => return Err(FileError::Stopped(error)),
        }
        let columns = self.columns.iter();
        let nodes = columns.map(|other| open(&other.field, other.leaf, None, self.group));
        Ok(match nodes.collect() {
            Ok(nodes) => State::Open { nodes, row: 0 },
            Err(_) => State::Unreadable,
        })
    }
}

/// Passes over rows up to one, and writes that.
fn read(
    nodes: &mut [Node],
    at: &mut usize,
    row: usize,
    value: &mut Json,
    columns: &[Other],
    record: &mut Json,
) -> Result<(), FileError> {
    for node in nodes.iter_mut() {
        for _ in *at..row {
            node.pass_row()?;
        }
    }
    *at = row + 1;
    for (node, other) in nodes.iter_mut().zip(columns) {
        let left = LONGEST_LINE.saturating_sub(record.text.len());
        if node.take_row(value, left)? {
            if value.text.len() > left {
                return Err(FileError::LongRow);
            }
            write_field(record, other.field.name(), node.is_nested(), &value.text);
        }
    }
    Ok(())
}

//! How much a query read, wrote and gave, as `X-ClickHouse-Summary` tells it.

use std::time::Duration;

/// What a result tells about the work behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    pub(crate) read_rows: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_rows: u64,
    pub(crate) written_bytes: u64,
    pub(crate) result_rows: u64,
    pub(crate) result_bytes: u64,
}

impl Statistics {
    /// Of an INSERT a server says that its result is what it has written,
    pub(crate) fn of_insert(self) -> Self {
        Self {
            result_rows: self.written_rows,
            result_bytes: self.written_bytes,
            ..self
        }
    }

    /// and of one with data, that it has read as much.
    pub(crate) fn of_insert_with_data(self) -> Self {
        Self {
            read_rows: self.written_rows,
            read_bytes: self.written_bytes,
            ..self.of_insert()
        }
    }

    /// The numbers as strings, which is how a server writes them.
    pub(crate) fn summary(self, elapsed: Duration) -> String {
        let Self {
            read_rows,
            read_bytes,
            written_rows,
            written_bytes,
            result_rows,
            result_bytes,
        } = self;
        let elapsed = elapsed.as_nanos();
        format!(
            "{{\"read_rows\":\"{read_rows}\",\"read_bytes\":\"{read_bytes}\",\
             \"written_rows\":\"{written_rows}\",\"written_bytes\":\"{written_bytes}\",\
             \"total_rows_to_read\":\"0\",\"result_rows\":\"{result_rows}\",\
             \"result_bytes\":\"{result_bytes}\",\"elapsed_ns\":\"{elapsed}\"}}"
        )
    }
}

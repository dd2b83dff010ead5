//! How much a query read, wrote and gave, as `X-ClickHouse-Summary` tells it.

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

    pub(crate) fn add(&mut self, other: Statistics) {
        self.read_rows += other.read_rows;
        self.read_bytes += other.read_bytes;
        self.written_rows += other.written_rows;
        self.written_bytes += other.written_bytes;
        self.result_rows += other.result_rows;
        self.result_bytes += other.result_bytes;
    }
}

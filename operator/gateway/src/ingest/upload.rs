//! One request's rows: split into blocks as they come, and stored block by block
//! while the next is being split.

use super::block::Block;
use super::body::PlainBody;
use super::csv::{CsvSplitter, Dialect};
use super::lines::{Feeder, Splitter};
use super::ndjson::NdJsonSplitter;
use super::queue::Stored;
use super::store::StoreError;
use super::{Intake, Memory};
use crate::error::{ApiError, ErrorCode, Progress};
use crate::metrics::{Metrics, RowCounts, Tenant};
use crate::upstream::Replica;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout};

/// How much is split before the size of the block is looked at, at most.
const LONGEST_STRIDE: usize = 32 * 1024;
/// In a wide table a record of two bytes takes some for every column; a block grows by
/// about this much between two looks, where a stride can be as short as that.
const STRIDE_GROWTH: usize = 1024 * 1024;
const SHORTEST_STRIDE: usize = 1024;
/// When a client sends nothing for so long, what it has sent goes on without more.
const PAUSE: Duration = Duration::from_secs(1);
/// Memory that is held for so long is given back, and waited for again.
pub(super) const TURN: Duration = Duration::from_secs(5);
/// How long to wait for memory: longer than a turn, or those in the queue would never get one.
const PATIENCE: Duration = Duration::from_secs(15);

/// What became of a request's rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) import_id: String,
    /// Rows that are stored, in the table or in quarantine.
    pub(super) rows: u64,
    /// Those in quarantine, if that could be told.
    pub(super) quarantined: Option<u64>,
    /// Names in a CSV header or a Parquet file that are no column's.
    pub(super) ignored_columns: Vec<String>,
}

/// Whose rows an upload has, and where they are counted.
#[derive(Clone)]
pub(super) struct Import<'a> {
    /// Marks them in quarantine.
    pub(super) id: String,
    pub(super) tenant: Tenant<'a>,
    pub(super) metrics: &'a Metrics,
}

impl Intake {
    /// Takes the rows of a CSV file.
    pub(super) async fn take_csv(
        &self,
        body: PlainBody,
        import: Import<'_>,
    ) -> Result<Taken, ApiError> {
        let names = self
            .parts
            .published
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let splitter = CsvSplitter::new(Dialect::new(&self.parts.published.csv), names);
        let (mut taken, splitter) = self.take(body, import, splitter).await?;
        taken.ignored_columns = splitter.ignored_columns().to_vec();
        Ok(taken)
    }

    /// Takes NDJSON.
    pub(super) async fn take_ndjson(
        &self,
        body: PlainBody,
        import: Import<'_>,
    ) -> Result<Taken, ApiError> {
        let splitter =
            NdJsonSplitter::new(Arc::clone(&self.paths), self.parts.published.columns.len());
        Ok(self.take(body, import, splitter).await?.0)
    }

    async fn take<S: Splitter>(
        &self,
        body: PlainBody,
        import: Import<'_>,
        splitter: S,
    ) -> Result<(Taken, S), ApiError> {
        let mut upload = Upload::new(self, import);
        let mut feeder = Feeder::new(splitter);
        let result = upload.run(body, &mut feeder).await;
        let taken = upload.finish(result).await?;
        Ok((taken, feeder.into_splitter()))
    }
}

/// A request's rows on their way.
pub(super) struct Upload<'a> {
    intake: &'a Intake,
    import: Import<'a>,
    /// How much is split before the size of the block is looked at.
    stride: usize,
    block: Block,
    /// Reserved for the block, and for the record that is not whole yet.
    memory: Option<OwnedSemaphorePermit>,
    /// Since when it is held.
    since: Instant,
    /// The block that is being stored, and its rows.
    in_flight: Option<(oneshot::Receiver<Result<Stored, StoreError>>, u64)>,
    acknowledged: u64,
    /// Sent, without an answer that tells what became of them.
    unconfirmed: u64,
    /// Of all blocks but the one that is being filled.
    submitted: u64,
    quarantined: Option<u64>,
    /// The replica that counts them.
    counted_at: Option<Arc<Replica>>,
}

impl<'a> Upload<'a> {
    pub(super) fn new(intake: &'a Intake, import: Import<'a>) -> Self {
        let layout = intake.store.layout();
        Self {
            stride: stride(layout.smallest_row(&import.id)),
            block: Block::new(layout, &import.id),
            memory: None,
            since: Instant::now(),
            intake,
            import,
            in_flight: None,
            acknowledged: 0,
            unconfirmed: 0,
            submitted: 0,
            quarantined: Some(0),
            counted_at: None,
        }
    }

    async fn run<S: Splitter>(
        &mut self,
        mut body: PlainBody,
        feeder: &mut Feeder<S>,
    ) -> Result<(), ApiError> {
        while let Some(piece) = self.next(&mut body, feeder.carried()).await? {
            for part in piece.chunks(self.stride) {
                self.hold(feeder.carried()).await?;
                feeder.feed(part, &mut self.block);
                if self.is_full(feeder.carried()) {
                    self.submit().await?;
                }
            }
        }
        feeder.finish(&mut self.block);
        self.submit().await
    }

    /// The next bytes. A client that pauses does not keep others from memory.
    async fn next(
        &mut self,
        body: &mut PlainBody,
        carried: usize,
    ) -> Result<Option<Bytes>, ApiError> {
        loop {
            match timeout(PAUSE, body.next()).await {
                Ok(piece) => return piece,
                Err(_) => self.submit().await?,
            }
            if carried > Memory::UNIT {
                self.hold(carried).await?;
            }
        }
    }

    /// Sees to it that memory is reserved, and given back now and then to those who wait.
    async fn hold(&mut self, carried: usize) -> Result<(), ApiError> {
        if self.since.elapsed() > TURN {
            self.submit().await?;
        }
        if self.memory.is_none() {
            // Nobody waits for memory while holding some.
            self.memory = Some(self.intake.settings.memory.reserve(carried).await?);
            self.since = Instant::now();
        }
        Ok(())
    }

    /// Whether the block should go: it is large enough, or there is no memory to let it grow.
    fn is_full(&mut self, carried: usize) -> bool {
        let size = self.block.size();
        let fits = self
            .memory
            .as_mut()
            .is_some_and(|held| self.intake.settings.memory.grow(held, size + carried));
        size >= self.intake.settings.block_bytes || !fits
    }

    async fn submit(&mut self) -> Result<(), ApiError> {
        let empty = Block::new(self.intake.store.layout(), &self.import.id);
        let block = std::mem::replace(&mut self.block, empty);
        let memory = self.memory.take();
        self.store(block, memory).await
    }

    /// Hands a block over when the one before it is stored, so that what is
    /// acknowledged is always the start of the body.
    pub(super) async fn store(
        &mut self,
        block: Block,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<(), ApiError> {
        if block.rows() == 0 {
            return Ok(());
        }
        let rows = block.rows() as u64;
        self.submitted += rows;
        self.settle().await?;
        self.in_flight = Some((self.intake.queue.submit(block, memory), rows));
        Ok(())
    }

    /// Waits for what was sent, whatever happened: the client learns how far its rows are safe.
    pub(super) async fn finish(mut self, result: Result<(), ApiError>) -> Result<Taken, ApiError> {
        let settled = self.settle().await;
        match result.and(settled) {
            Ok(()) => Ok(Taken {
                import_id: std::mem::take(&mut self.import.id),
                rows: self.acknowledged,
                quarantined: self.quarantined,
                ignored_columns: Vec::new(),
            }),
            Err(error) => Err(error.progress(Progress {
                import_id: std::mem::take(&mut self.import.id),
                acknowledged_rows: self.acknowledged,
            })),
        }
    }

    /// Waits for the block that is being stored.
    async fn settle(&mut self) -> Result<(), ApiError> {
        // It stays in flight until its outcome is there: the client may leave before.
        let Some((outcome, rows)) = &mut self.in_flight else {
            return Ok(());
        };
        let rows = *rows;
        let outcome = outcome.await.unwrap_or(Err(StoreError::Unsure));
        self.in_flight = None;
        let stored = outcome.map_err(|error| {
            if matches!(error, StoreError::Unsure) {
                self.unconfirmed += rows;
            }
            error.explain()
        })?;
        self.acknowledged += rows;
        // A count is of the whole import so far, so the last one is the one that counts,
        // unless it comes from another replica, which may not have all of it yet.
        match stored {
            Stored::Whole => {}
            Stored::Quarantined(count, replica) => {
                let counted = self.counted_at.get_or_insert_with(|| Arc::clone(&replica));
                self.quarantined = Arc::ptr_eq(counted, &replica).then_some(count);
            }
            Stored::Uncounted => self.quarantined = None,
        }
        Ok(())
    }
}

impl Drop for Upload<'_> {
    /// Counts every row once, whether the upload came to its end, failed, or was left by its client.
    fn drop(&mut self) {
        let in_flight = self.in_flight.as_ref().map_or(0, |(_, rows)| *rows);
        let unconfirmed = self.unconfirmed + in_flight;
        let read = self.submitted + self.block.rows() as u64;
        let quarantined = self.quarantined.unwrap_or(0).min(self.acknowledged);
        let counts = RowCounts {
            stored: self.acknowledged - quarantined,
            quarantined,
            failed: read.saturating_sub(self.acknowledged + unconfirmed),
            unconfirmed,
        };
        self.import.metrics.rows(self.import.tenant, counts);
    }
}

impl Memory {
    /// Waits a while for room for so many bytes, after those who came before.
    pub(super) async fn reserve(&self, size: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        self.reserve_within(PATIENCE, size).await
    }

    async fn reserve_within(
        &self,
        patience: Duration,
        size: usize,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        // What is larger than all of it takes all of it.
        let units = size.clamp(1, self.bytes.max(1)).div_ceil(Self::UNIT);
        let units = Arc::clone(&self.units).acquire_many_owned(units as u32);
        match timeout(patience, units).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(ApiError::new(
                ErrorCode::IngestionFailed,
                "the gateway's memory for uploads is in use: try again",
            )
            .retry_after(Duration::from_secs(2))),
        }
    }

    /// Makes a reservation cover a size, if there is room for it.
    pub(super) fn grow(&self, held: &mut OwnedSemaphorePermit, size: usize) -> bool {
        let missing = size.div_ceil(Self::UNIT).saturating_sub(held.num_permits());
        if missing == 0 {
            return true;
        }
        match Arc::clone(&self.units).try_acquire_many_owned(missing as u32) {
            Ok(more) => {
                held.merge(more);
                true
            }
            Err(_) => false,
        }
    }
}

/// For rows that take so many bytes at least; the shortest record has two, with its line end.
fn stride(smallest_row: usize) -> usize {
    let records = STRIDE_GROWTH / smallest_row;
    (2 * records).clamp(SHORTEST_STRIDE, LONGEST_STRIDE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_id::RequestId;

    #[tokio::test]
    async fn memory_is_waited_for_and_not_for_ever() {
        let memory = Memory::new(4 * Memory::UNIT);
        let patience = Duration::from_millis(20);
        let mut held = memory.reserve(3 * Memory::UNIT).await.unwrap();
        assert!(memory.grow(&mut held, 4 * Memory::UNIT));
        assert!(!memory.grow(&mut held, 4 * Memory::UNIT + 1));
        let refused = memory.reserve_within(patience, 1).await.unwrap_err();
        let refused = refused.into_response(&RequestId::new());
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "2");
        drop(held);
        // What is larger than all of it gets all of it.
        let all = memory.reserve_within(patience, usize::MAX).await.unwrap();
        assert_eq!(all.num_permits(), 4);
    }
}

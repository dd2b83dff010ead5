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
use crate::error::{ApiError, Progress};
use crate::upstream::Replica;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What became of a request's rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) import_id: String,
    /// Rows that are stored, in the table or in quarantine.
    pub(super) rows: u64,
    /// Those in quarantine, if that could be told.
    pub(super) quarantined: Option<u64>,
    /// Names in a CSV header that are no column's.
    pub(super) ignored_columns: Vec<String>,
}

impl Intake {
    /// Takes the rows of a CSV file.
    pub(super) async fn take_csv(
        &self,
        body: PlainBody,
        import_id: String,
    ) -> Result<Taken, ApiError> {
        let names = self
            .parts
            .published
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let splitter = CsvSplitter::new(Dialect::new(&self.parts.published.csv), names);
        let (mut taken, splitter) = self.take(body, import_id, splitter).await?;
        taken.ignored_columns = splitter.ignored_columns().to_vec();
        Ok(taken)
    }

    /// Takes NDJSON.
    pub(super) async fn take_ndjson(
        &self,
        body: PlainBody,
        import_id: String,
    ) -> Result<Taken, ApiError> {
        let splitter =
            NdJsonSplitter::new(Arc::clone(&self.paths), self.parts.published.columns.len());
        Ok(self.take(body, import_id, splitter).await?.0)
    }

    async fn take<S: Splitter>(
        &self,
        body: PlainBody,
        import_id: String,
        splitter: S,
    ) -> Result<(Taken, S), ApiError> {
        let mut upload = Upload::new(self, import_id).await;
        let mut feeder = Feeder::new(splitter);
        let result = upload.run(body, &mut feeder).await;
        let taken = upload.finish(result).await?;
        Ok((taken, feeder.into_splitter()))
    }
}

/// A request's rows on their way.
pub(super) struct Upload<'a> {
    intake: &'a Intake,
    import_id: String,
    block: Block,
    /// Reserved for the block.
    memory: Option<OwnedSemaphorePermit>,
    /// The block that is being stored, and its rows.
    in_flight: Option<(oneshot::Receiver<Result<Stored, StoreError>>, u64)>,
    acknowledged: u64,
    quarantined: Option<u64>,
    /// The replica that counts them.
    counted_at: Option<Arc<Replica>>,
}

impl<'a> Upload<'a> {
    pub(super) async fn new(intake: &'a Intake, import_id: String) -> Self {
        Self {
            block: Block::new(intake.store.columns().len(), &import_id),
            memory: Some(intake.settings.memory.reserve().await),
            intake,
            import_id,
            in_flight: None,
            acknowledged: 0,
            quarantined: Some(0),
            counted_at: None,
        }
    }

    async fn run<S: Splitter>(
        &mut self,
        mut body: PlainBody,
        feeder: &mut Feeder<S>,
    ) -> Result<(), ApiError> {
        while let Some(piece) = body.next().await? {
            feeder.feed(&piece, &mut self.block);
            if self.is_full() {
                self.submit().await?;
            }
        }
        feeder.finish(&mut self.block);
        self.submit().await
    }

    /// Whether the block should go: it is large enough, or there is no memory to let it grow.
    fn is_full(&mut self) -> bool {
        let size = self.block.size();
        let fits = self
            .memory
            .as_mut()
            .is_some_and(|held| self.intake.settings.memory.grow(held, size));
        size >= self.intake.settings.block_bytes || !fits
    }

    async fn submit(&mut self) -> Result<(), ApiError> {
        let empty = Block::new(self.intake.store.columns().len(), &self.import_id);
        let block = std::mem::replace(&mut self.block, empty);
        self.store(block).await
    }

    /// Hands a block over when the one before it is stored, so that what is
    /// acknowledged is always the start of the body.
    pub(super) async fn store(&mut self, block: Block) -> Result<(), ApiError> {
        if block.rows() == 0 {
            return Ok(());
        }
        self.settle().await?;
        let rows = block.rows() as u64;
        // Given away before more is asked for: nobody waits for memory while holding some.
        self.in_flight = Some((self.intake.queue.submit(block, self.memory.take()), rows));
        self.memory = Some(self.intake.settings.memory.reserve().await);
        Ok(())
    }

    /// Waits for what was sent, whatever happened: the client learns how far its rows are safe.
    pub(super) async fn finish(mut self, result: Result<(), ApiError>) -> Result<Taken, ApiError> {
        let settled = self.settle().await;
        match result.and(settled) {
            Ok(()) => Ok(Taken {
                import_id: self.import_id,
                rows: self.acknowledged,
                quarantined: self.quarantined,
                ignored_columns: Vec::new(),
            }),
            Err(error) => Err(error.progress(Progress {
                import_id: self.import_id,
                acknowledged_rows: self.acknowledged,
            })),
        }
    }

    /// Waits for the block that is being stored.
    async fn settle(&mut self) -> Result<(), ApiError> {
        let Some((outcome, rows)) = self.in_flight.take() else {
            return Ok(());
        };
        let outcome = outcome.await.unwrap_or(Err(StoreError::Unsure));
        let stored = outcome.map_err(|error| error.explain())?;
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

impl Memory {
    /// Waits for room for a small block.
    pub(super) async fn reserve(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.units).acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Makes a reservation cover a size, if there is room for it.
    pub(super) fn grow(&self, held: &mut OwnedSemaphorePermit, size: usize) -> bool {
        let missing = size.div_ceil(Self::UNIT).saturating_sub(held.num_permits());
        match Arc::clone(&self.units).try_acquire_many_owned(missing as u32) {
            Ok(more) => {
                held.merge(more);
                true
            }
            Err(_) => false,
        }
    }
}

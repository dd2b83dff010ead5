//! Which rows of an import are safe: stored block by block, in their order, so that what is
//! acknowledged is always the start of the body.

use super::block::Block;
use super::deduplication_token::DeduplicationToken;
use super::queue::{Queue, Stored};
use super::store::StoreError;
use crate::error::ApiError;
use crate::memory::Reservation;
use crate::metrics::RowCounts;
use crate::upstream::Replica;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What is known of the rows that were handed over.
pub(super) struct Acknowledgements {
    queue: Arc<Queue>,
    /// The block that is being stored, and its rows.
    in_flight: Option<(oneshot::Receiver<Result<Stored, StoreError>>, u64)>,
    submitted: u64,
    acknowledged: u64,
    /// Sent, without an answer that tells what became of them.
    unconfirmed: u64,
    quarantined: Option<u64>,
    /// The replica that counts them.
    counted_at: Option<Arc<Replica>>,
}

impl Acknowledgements {
    /// Of an import whose blocks go into this queue.
    pub(super) fn new(queue: &Arc<Queue>) -> Self {
        Self {
            queue: Arc::clone(queue),
            in_flight: None,
            submitted: 0,
            acknowledged: 0,
            unconfirmed: 0,
            quarantined: Some(0),
            counted_at: None,
        }
    }

    /// Rows that are stored, in the table or in quarantine.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Those in quarantine, if that could be told.
    pub(super) fn quarantined(&self) -> Option<u64> {
        self.quarantined
    }

    /// Hands a block over when the one before it is stored.
    pub(super) async fn submit(
        &mut self,
        block: Block,
        token: Option<DeduplicationToken>,
        memory: Reservation,
    ) -> Result<(), ApiError> {
        let rows = block.rows() as u64;
        self.submitted += rows;
        self.settle().await?;
        self.in_flight = Some((self.queue.submit(block, token, memory), rows));
        Ok(())
    }

    /// Waits for the block that is being stored.
    pub(super) async fn settle(&mut self) -> Result<(), ApiError> {
        // It stays in flight until its outcome is there: the client may leave before.
        let Some((outcome, rows)) = &mut self.in_flight else {
            return Ok(());
        };
        let rows = *rows;
        let outcome = outcome.await.unwrap_or(Err(StoreError::Unknown));
        self.in_flight = None;
        let stored = outcome.map_err(|error| {
            if matches!(error, StoreError::Unknown) {
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

    /// Counts every row once, with so many that were read and not handed over.
    pub(super) fn counts(&self, unsubmitted: u64) -> RowCounts {
        let in_flight = self.in_flight.as_ref().map_or(0, |(_, rows)| *rows);
        let unconfirmed = self.unconfirmed + in_flight;
        let read = self.submitted + unsubmitted;
        let quarantined = self.quarantined.unwrap_or(0).min(self.acknowledged);
        RowCounts {
            stored: self.acknowledged - quarantined,
            quarantined,
            failed: read.saturating_sub(self.acknowledged + unconfirmed),
            unconfirmed,
        }
    }
}

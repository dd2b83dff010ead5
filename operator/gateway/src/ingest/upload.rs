//! One request's rows: split into blocks as they come, and stored block by block
//! while the next is being split.

use super::Intake;
use super::block::Block;
use super::body::PlainBody;
use super::csv::{CsvSplitter, Dialect};
use super::cut::Cut;
use super::import_id::ImportId;
use super::lines::Splitter;
use super::ndjson::NdJsonSplitter;
use super::queue::Stored;
use super::splitting::{LARGE_PIECE, Splitting};
use super::store::StoreError;
use crate::budgets::Shares;
use crate::error::{ApiError, Progress};
use crate::memory::Held;
use crate::metrics::{Metrics, RowCounts, Tenant};
use crate::upstream::Replica;
use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// When a client sends nothing for so long, what it has sent goes on without more.
const PAUSE: Duration = Duration::from_secs(1);
/// Rows do not wait longer than this for more of their body.
const TURN: Duration = Duration::from_secs(5);
/// Of a body that is not small, this much is split at a time, if it comes without a break.
const BATCH: usize = 2 * LARGE_PIECE;
const BREAK: Duration = Duration::from_millis(2);

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
    pub(super) id: ImportId,
    pub(super) tenant: Tenant<'a>,
    /// What of the gateway its workspace may use.
    pub(super) shares: &'a Shares,
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

    async fn take<S: Splitter + Send + 'static>(
        &self,
        body: PlainBody,
        import: Import<'_>,
        splitter: S,
    ) -> Result<(Taken, S), ApiError> {
        let mut upload = Upload::new(self, import);
        let result = upload.run(body, splitter).await;
        upload.finish(result).await
    }
}

/// A request's rows on their way.
pub(super) struct Upload<'a> {
    intake: &'a Intake,
    import: Import<'a>,
    cut: Cut,
    /// Bytes of the body so far.
    seen: usize,
    /// Why the body ends before its end.
    broken: Option<ApiError>,
    /// When a block was handed over last.
    since: Instant,
    /// The block that is being stored, and its rows.
    in_flight: Option<(oneshot::Receiver<Result<Stored, StoreError>>, u64)>,
    acknowledged: u64,
    /// Sent, without an answer that tells what became of them.
    unconfirmed: u64,
    /// Of all blocks but the one that is being filled.
    submitted: u64,
    /// Of that one.
    filling: u64,
    quarantined: Option<u64>,
    /// The replica that counts them.
    counted_at: Option<Arc<Replica>>,
}

impl<'a> Upload<'a> {
    pub(super) fn new(intake: &'a Intake, import: Import<'a>) -> Self {
        Self {
            cut: Cut::new(&import.id, intake.settings.block_bytes),
            since: Instant::now(),
            seen: 0,
            broken: None,
            intake,
            import,
            in_flight: None,
            acknowledged: 0,
            unconfirmed: 0,
            submitted: 0,
            filling: 0,
            quarantined: Some(0),
            counted_at: None,
        }
    }

    async fn run<S: Splitter + Send + 'static>(
        &mut self,
        mut body: PlainBody,
        splitter: S,
    ) -> Result<S, ApiError> {
        let (layout, share) = (self.intake.store.layout(), &self.import.shares.rows);
        let begun = Splitting::begin(splitter, layout, &self.cut, share);
        let mut splitting = begun.await?;
        while let Some(mut piece) = self.next(&mut body, &mut splitting).await? {
            while piece.has_remaining() {
                let used;
                (splitting, used) = splitting.split(piece.clone(), self.import.shares).await?;
                piece.advance(used);
                self.filling = splitting.rows();
                while splitting.is_full() && splitting.rows() > 0 {
                    self.submit(&mut splitting).await?;
                    if splitting.ends_anywhere() {
                        break;
                    }
                }
                if splitting.ends_anywhere() && self.since.elapsed() > TURN {
                    self.submit(&mut splitting).await?;
                }
                // What became of it can be more than there was room for.
                splitting.room().await?;
            }
        }
        splitting.finish();
        self.filling = splitting.rows();
        while splitting.rows() > 0 {
            self.submit(&mut splitting).await?;
        }
        Ok(splitting.into_splitter())
    }

    /// The next bytes. While a client pauses, what it has sent goes on.
    async fn next<S: Splitter>(
        &mut self,
        body: &mut PlainBody,
        splitting: &mut Splitting<S>,
    ) -> Result<Option<Bytes>, ApiError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let piece = loop {
            match timeout(PAUSE, body.next()).await {
                Ok(piece) => break piece?,
                Err(_) if splitting.ends_anywhere() => self.submit(splitting).await?,
                Err(_) => {}
            }
        };
        let Some(piece) = piece else {
            return Ok(None);
        };
        self.seen += piece.len();
        if self.seen < LARGE_PIECE || piece.len() >= BATCH {
            self.make_room(splitting, piece.len()).await?;
            return Ok(Some(piece));
        }
        self.make_room(splitting, BATCH).await?;
        let mut batch = BytesMut::from(piece);
        while batch.len() < BATCH {
            match timeout(BREAK, body.next()).await {
                Ok(Ok(Some(more))) => batch.extend_from_slice(&more),
                Ok(Ok(None)) | Err(_) => break,
                Ok(Err(error)) => {
                    // What came before it goes first.
                    self.broken = Some(error);
                    break;
                }
            }
        }
        Ok(Some(batch.freeze()))
    }

    /// Makes room for so many more bytes, if need be by handing over what is there.
    async fn make_room<S: Splitter>(
        &mut self,
        splitting: &mut Splitting<S>,
        bytes: usize,
    ) -> Result<(), ApiError> {
        if !splitting.make_room(bytes) {
            if splitting.ends_anywhere() {
                self.submit(splitting).await?;
            }
            splitting.wait_for_room(bytes).await?;
        }
        Ok(())
    }

    async fn submit<S: Splitter>(&mut self, splitting: &mut Splitting<S>) -> Result<(), ApiError> {
        self.since = Instant::now();
        if splitting.rows() == 0 {
            return Ok(());
        }
        let (block, memory) = splitting.take_block();
        self.filling = splitting.rows();
        self.store(block, memory).await
    }

    /// Hands a block over when the one before it is stored, so that what is
    /// acknowledged is always the start of the body.
    pub(super) async fn store(&mut self, block: Block, memory: Held) -> Result<(), ApiError> {
        let rows = block.rows() as u64;
        self.submitted += rows;
        self.settle().await?;
        let token = self.cut.next();
        self.in_flight = Some((self.intake.queue.submit(block, token, memory), rows));
        Ok(())
    }

    /// Waits for what was sent, whatever happened: the client learns how far its rows are safe.
    pub(super) async fn finish<T>(
        mut self,
        result: Result<T, ApiError>,
    ) -> Result<(Taken, T), ApiError> {
        let settled = self.settle().await;
        match result.and_then(|value| settled.map(|()| value)) {
            Ok(value) => {
                let taken = Taken {
                    import_id: self.import.id.as_str().to_owned(),
                    rows: self.acknowledged,
                    quarantined: self.quarantined,
                    ignored_columns: Vec::new(),
                };
                Ok((taken, value))
            }
            Err(error) => Err(error.progress(Progress {
                import_id: self.import.id.as_str().to_owned(),
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
}

impl Drop for Upload<'_> {
    /// Counts every row once, whether the upload came to its end, failed, or was left by its client.
    fn drop(&mut self) {
        let in_flight = self.in_flight.as_ref().map_or(0, |(_, rows)| *rows);
        let unconfirmed = self.unconfirmed + in_flight;
        let read = self.submitted + self.filling;
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

//! One request's rows: split into blocks as they come, and stored block by block
//! while the next is being split.
//!
//! Three parts do the work, and this one chains them: the reader knows the body, the splitting has
//! the block that is being filled and the memory for it, and the acknowledgements know which rows
//! are safe.

use super::acknowledgements::Acknowledgements;
use super::block::Block;
use super::body_reader::{BATCH, BodyReader, Read};
use super::csv::{CsvSplitter, Dialect};
use super::cut::Cut;
use super::import_id::ImportId;
use super::intake::Intake;
use super::lines::Splitter;
use super::ndjson::NdJsonSplitter;
use super::plain_body::PlainBody;
use super::splitting::Splitting;
use crate::budgets::Shares;
use crate::error::{ApiError, Progress};
use crate::event::{Recorder, Waiting};
use crate::memory::Reservation;
use bytes::{Buf, Bytes};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Rows do not wait longer than this for more of their body.
const TURN: Duration = Duration::from_secs(5);

/// What became of a request's rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImportSummary {
    pub(crate) import_id: String,
    /// Rows that are stored, in the table or in quarantine.
    pub(crate) rows: u64,
    /// Those in quarantine, if that could be told.
    pub(crate) quarantined: Option<u64>,
    /// Names in a CSV header or a Parquet file that are no column's.
    pub(crate) ignored_columns: Vec<String>,
}

/// Whose rows an upload has, and who records what becomes of them.
pub(crate) struct Import<'a> {
    /// Marks them in quarantine.
    pub(crate) id: ImportId,
    /// What of the gateway its workspace may use.
    pub(crate) shares: &'a Shares,
    pub(crate) recorder: &'a mut Recorder,
}

impl Intake {
    /// Takes the rows of a CSV file.
    pub(crate) async fn take_csv(
        &self,
        body: PlainBody,
        import: Import<'_>,
    ) -> Result<ImportSummary, ApiError> {
        let published = &self.destination.published;
        let names = published.columns.iter().map(|column| column.name.clone());
        let splitter = CsvSplitter::new(Dialect::new(&published.csv), names.collect());
        let (mut taken, splitter) = self.take(body, import, splitter).await?;
        taken.ignored_columns = splitter.ignored_columns().to_vec();
        Ok(taken)
    }

    /// Takes NDJSON.
    pub(crate) async fn take_ndjson(
        &self,
        body: PlainBody,
        import: Import<'_>,
    ) -> Result<ImportSummary, ApiError> {
        let columns = self.destination.published.columns.len();
        let splitter = NdJsonSplitter::new(Arc::clone(&self.paths), columns);
        Ok(self.take(body, import, splitter).await?.0)
    }

    async fn take<S: Splitter + Send + 'static>(
        &self,
        body: PlainBody,
        import: Import<'_>,
        splitter: S,
    ) -> Result<(ImportSummary, S), ApiError> {
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
    acknowledgements: Acknowledgements,
    /// Rows that are split and not handed over.
    filling: u64,
    /// When a block was handed over last.
    since: Instant,
}

impl<'a> Upload<'a> {
    pub(super) fn new(intake: &'a Intake, import: Import<'a>) -> Self {
        Self {
            cut: Cut::new(&import.id, intake.settings.block_bytes),
            acknowledgements: Acknowledgements::new(&intake.queue),
            filling: 0,
            since: Instant::now(),
            intake,
            import,
        }
    }

    async fn run<S: Splitter + Send + 'static>(
        &mut self,
        body: PlainBody,
        splitter: S,
    ) -> Result<S, ApiError> {
        let (layout, share) = (self.intake.store.layout(), &self.import.shares.rows);
        let mut splitting = Splitting::begin(splitter, layout, &self.cut, share).await?;
        let mut reader = BodyReader::new(body);
        while let Some(mut piece) = self.next(&mut reader, &mut splitting).await? {
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

    /// The next bytes, for which there is room then. While a client pauses, what it has sent goes on.
    async fn next<S: Splitter>(
        &mut self,
        reader: &mut BodyReader,
        splitting: &mut Splitting<S>,
    ) -> Result<Option<Bytes>, ApiError> {
        let piece = loop {
            self.import.recorder.waits_for(Waiting::Client);
            let read = reader.next().await;
            self.import.recorder.waits_for(Waiting::Gateway);
            match read? {
                Read::Piece(piece) => break piece,
                Read::Pause if splitting.ends_anywhere() => self.submit(splitting).await?,
                Read::Pause => {}
                Read::End => return Ok(None),
            }
        };
        if !reader.is_batched(&piece) {
            self.make_room(splitting, piece.len()).await?;
            return Ok(Some(piece));
        }
        self.make_room(splitting, BATCH).await?;
        self.import.recorder.waits_for(Waiting::Client);
        let batch = reader.batch(piece).await;
        self.import.recorder.waits_for(Waiting::Gateway);
        Ok(Some(batch))
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

    /// Hands a block over when the one before it is stored.
    pub(super) async fn store(
        &mut self,
        block: Block,
        memory: Reservation,
    ) -> Result<(), ApiError> {
        let token = self.cut.next();
        self.import.recorder.waits_for(Waiting::ClickHouse);
        let submitted = self.acknowledgements.submit(block, token, memory).await;
        self.import.recorder.waits_for(Waiting::Gateway);
        submitted
    }

    /// Waits for what was sent, whatever happened: the client learns how far its rows are safe.
    pub(super) async fn finish<T>(
        mut self,
        result: Result<T, ApiError>,
    ) -> Result<(ImportSummary, T), ApiError> {
        self.import.recorder.waits_for(Waiting::ClickHouse);
        let settled = self.acknowledgements.settle().await;
        self.import.recorder.waits_for(Waiting::Gateway);
        let import_id = self.import.id.as_str().to_owned();
        let rows = self.acknowledgements.acknowledged();
        match result.and_then(|value| settled.map(|()| value)) {
            Ok(value) => {
                let taken = ImportSummary {
                    import_id,
                    rows,
                    quarantined: self.acknowledgements.quarantined(),
                    ignored_columns: Vec::new(),
                };
                Ok((taken, value))
            }
            Err(error) => Err(error.progress(Progress {
                import_id,
                acknowledged_rows: rows,
            })),
        }
    }
}

impl Drop for Upload<'_> {
    /// Whether the upload came to its end, failed, or was left by its client.
    fn drop(&mut self) {
        let counts = self.acknowledgements.counts(self.filling);
        self.import.recorder.rows(counts);
    }
}

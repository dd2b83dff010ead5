//! Parquet: a file is taken into memory, for its index stands at its end, and
//! read column by column into blocks of text like every other format, so that
//! the landing table judges its values like all others.

mod claims;
mod error;
mod file;
mod leaf;
mod nested;
mod others;
mod pages;
mod sink;
mod text;

use super::block::Block;
use super::cut::Cut;
use super::intake::Intake;
use super::plain_body::PlainBody;
use super::typed::Known;
use super::upload::{Import, ImportSummary, Upload};
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::event::Waiting;
use crate::memory::{InUse, PATIENCE, Reservation, Share};
use bytes::{Bytes, BytesMut};
use error::FileError;
use file::{File, Wanted};
use sink::Sink;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

impl Intake {
    /// Takes the rows of a Parquet file.
    pub(crate) async fn take_parquet(
        &self,
        body: PlainBody,
        import: Import<'_>,
    ) -> Result<ImportSummary, ApiError> {
        let limit = body.limit();
        import.recorder.waits_for(Waiting::Client);
        let collected = collect(body, &import.shares.files).await;
        import.recorder.waits_for(Waiting::Gateway);
        let (file, file_memory) = collected?;
        let columns = &self.destination.published.columns;
        let wanted = columns.iter().map(|column| Wanted {
            name: column.name.clone(),
            kind: Known::of(&column.column_type).map(|known| known.kind),
        });
        let wanted: Vec<Wanted> = wanted.collect();
        // One block waits while another is stored and a third is being filled.
        let (sender, mut blocks) = mpsc::channel(1);
        let mut outlet = Outlet {
            cut: Cut::new(&import.id, self.settings.block_bytes),
            limit,
            written: 0,
            memory: Arc::clone(&import.shares.rows),
            held: None,
            most: import.shares.files.largest(),
            file_length: file.len(),
            file_held: file_memory,
            sender,
            runtime: Handle::current(),
        };
        let (id, store) = (import.id.as_str().to_owned(), Arc::clone(&self.store));
        let reading = tokio::task::spawn_blocking(move || {
            let file = File::open(file, &wanted)?;
            let doubtful = |block: &Block| store.doubtful(block);
            file.read(store.layout(), &id, &doubtful, &mut outlet)?;
            Ok(file.ignored_columns())
        });
        let mut upload = Upload::new(self, import);
        let mut result = Ok(());
        while let Some((block, memory)) = blocks.recv().await {
            result = upload.store(block, memory).await;
            if result.is_err() {
                break;
            }
        }
        drop(blocks);
        // The library panics at some files that are not well formed.
        let read = reading.await.unwrap_or(Err(FileError::NotUnderstood));
        let read = read.map_err(FileError::explain);
        let (read, ignored_columns) = match read {
            Ok(ignored_columns) => (Ok(()), ignored_columns),
            Err(error) => (Err(error), Vec::new()),
        };
        let (mut taken, ()) = upload.finish(result.and(read)).await?;
        taken.ignored_columns = ignored_columns;
        Ok(taken)
    }
}

/// The whole file, and its place in memory.
async fn collect(
    mut body: PlainBody,
    share: &Arc<Share>,
) -> Result<(Bytes, Reservation), ApiError> {
    let mut held = share.reserve(0).await?;
    let mut file = BytesMut::new();
    while let Some(piece) = body.next().await? {
        let size = file.len() + piece.len();
        let limit = share.largest();
        if size > limit {
            return Err(ApiError::new(
                ErrorCode::BodyTooLarge,
                format!(
                    "a Parquet file is taken into memory, and may have {limit} bytes: send it in parts, or as NDJSON or CSV"
                ),
            ));
        }
        // Waiting for more while holding some would let two large files wait for each other.
        held.grow(size)?;
        file.extend_from_slice(&piece);
    }
    Ok((file.freeze(), held))
}

/// Takes blocks from the thread that reads a file.
struct Outlet {
    /// Where a block ends.
    cut: Cut,
    /// Bytes that the rows may have, as the workspace's limit says, and those they have so far.
    limit: u64,
    written: u64,
    memory: Arc<Share>,
    /// Reserved for the block that is being filled.
    held: Option<Reservation>,
    /// The most that the file and its pages may take.
    most: usize,
    file_length: usize,
    /// Memory of the file, which is for its pages too.
    file_held: Reservation,
    sender: mpsc::Sender<(Block, Reservation)>,
    runtime: Handle,
}

impl Outlet {
    /// What is reserved for the block that is being filled.
    fn held(&mut self) -> Result<&mut Reservation, ApiError> {
        if self.held.is_none() {
            let held = self.memory.reserve_within(PATIENCE, self.cut.reserved());
            self.held = Some(self.runtime.block_on(held)?);
        }
        self.held.as_mut().ok_or_else(|| InUse.into())
    }
}

impl Sink for Outlet {
    fn is_full(&mut self, size: usize) -> Result<bool, ApiError> {
        let (fixed, full) = (self.cut.is_fixed(), self.cut.full());
        let runtime = self.runtime.clone();
        let held = self.held()?;
        let fits = held.cover(if fixed { size.max(full) } else { size });
        if fixed && !fits {
            // It ends at the same row, however long there is no room for more.
            runtime.block_on(held.room())?;
        }
        Ok(size >= full || !(fixed || fits))
    }

    fn load(&mut self, pages: u64) -> Result<(), ApiError> {
        let pages = usize::try_from(pages).unwrap_or(usize::MAX);
        let size = self.file_length.saturating_add(pages);
        if size > self.most {
            return Err(pages_too_large(pages, self.most));
        }
        Ok(self.file_held.grow(size)?)
    }

    fn take(&mut self, block: Block) -> Result<(), ApiError> {
        self.written += block.text_bytes() as u64;
        if self.written > self.limit {
            return Err(rows_too_large(self.limit));
        }
        self.held()?.cover(block.size());
        let held = self.held.take().ok_or(InUse)?;
        self.cut.next();
        // Who does not want it has a reason of its own.
        self.sender
            .blocking_send((block, held))
            .map_err(|_| InUse.into())
    }
}

impl FileError {
    fn explain(self) -> ApiError {
        let code = match self {
            Self::Stopped(error) => return error,
            Self::LongRow => ErrorCode::BodyTooLarge,
            Self::Parquet(_) | Self::Ragged | Self::NotUnderstood | Self::NoColumn => {
                ErrorCode::BodyInvalid
            }
        };
        ApiError::new(code, self.to_string())
    }
}

fn pages_too_large(pages: usize, limit: usize) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!(
            "pages of the file take {pages} bytes at once when they are decompressed, and may have {limit} with the file itself: write it with smaller pages or fewer columns, or send it as NDJSON or CSV"
        ),
    )
}

fn rows_too_large(limit: u64) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!(
            "the rows of the file are larger than {limit} bytes, the workspace's limits.bodySize: send it in parts"
        ),
    )
}

#[cfg(test)]
mod tests;

//! Parquet: a file is taken into memory, for its index stands at its end, and
//! read column by column into blocks of text like every other format, so that
//! the landing table judges its values like all others.

mod claims;
mod file;
mod leaf;
mod nested;
mod pages;
mod text;

use super::block::Block;
use super::body::PlainBody;
use super::upload::{Import, TURN, Taken, Upload};
use super::{Intake, Memory};
use crate::error::{ApiError, ErrorCode};
use bytes::{Bytes, BytesMut};
use file::{File, FileError, Sink};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

impl Intake {
    /// Takes the rows of a Parquet file.
    pub(super) async fn take_parquet(
        &self,
        body: PlainBody,
        import: Import<'_>,
    ) -> Result<Taken, ApiError> {
        let limit = body.limit();
        let (file, file_memory) = self.collect(body).await?;
        let columns = &self.parts.published.columns;
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        // One block waits while another is stored and a third is being filled.
        let (sender, mut blocks) = mpsc::channel(1);
        let mut outlet = Outlet {
            full: self.settings.block_bytes,
            limit,
            written: 0,
            memory: Arc::clone(&self.settings.memory),
            held: None,
            files: Arc::clone(&self.settings.files),
            file_length: file.len(),
            file_held: file_memory,
            sender,
            runtime: Handle::current(),
        };
        let (id, layout) = (import.id.clone(), self.store.layout());
        let reading = tokio::task::spawn_blocking(move || {
            let file = File::open(file, &names)?;
            file.read(layout, &id, &mut outlet)?;
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
        let mut taken = upload.finish(result.and(read)).await?;
        taken.ignored_columns = ignored_columns;
        Ok(taken)
    }

    /// The whole file, and its place in memory.
    async fn collect(
        &self,
        mut body: PlainBody,
    ) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
        let memory = &self.settings.files;
        let mut held = memory.reserve(0).await?;
        let mut since = Instant::now();
        let mut file = BytesMut::new();
        while let Some(piece) = body.next().await? {
            let size = file.len() + piece.len();
            if size > memory.bytes() {
                let limit = memory.bytes();
                return Err(ApiError::new(
                    ErrorCode::BodyTooLarge,
                    format!(
                        "a Parquet file is taken into memory, and may have {limit} bytes: send it in parts, or as NDJSON or CSV"
                    ),
                ));
            }
            // A file that comes slowly lets others go first now and then.
            if since.elapsed() > TURN {
                drop(held);
                held = memory.reserve(size).await?;
                since = Instant::now();
            }
            // Waiting for more while holding some would let two large files wait for each other.
            if !memory.grow(&mut held, size) {
                return Err(out_of_memory());
            }
            file.extend_from_slice(&piece);
        }
        Ok((file.freeze(), held))
    }
}

/// Takes blocks from the thread that reads a file.
struct Outlet {
    /// A block goes when it is this large.
    full: usize,
    /// Bytes that the rows may have, as the workspace's limit says, and those they have so far.
    limit: u64,
    written: u64,
    memory: Arc<Memory>,
    /// Reserved for the block that is being filled.
    held: Option<OwnedSemaphorePermit>,
    /// Memory of the file, which is for its pages too.
    files: Arc<Memory>,
    file_length: usize,
    file_held: OwnedSemaphorePermit,
    sender: mpsc::Sender<(Block, Option<OwnedSemaphorePermit>)>,
    runtime: Handle,
}

impl Outlet {
    fn reserve(&self, size: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        self.runtime.block_on(self.memory.reserve(size))
    }

    /// Makes the reservation cover a size, if there is room for it.
    fn grow(&mut self, size: usize) -> bool {
        let held = self.held.as_mut();
        held.is_some_and(|held| self.memory.grow(held, size))
    }
}

impl Sink for Outlet {
    fn is_full(&mut self, size: usize) -> Result<bool, ApiError> {
        if self.held.is_none() {
            self.held = Some(self.reserve(0)?);
        }
        Ok(size >= self.full || !self.grow(size))
    }

    fn load(&mut self, pages: u64) -> Result<(), ApiError> {
        let pages = usize::try_from(pages).unwrap_or(usize::MAX);
        let size = self.file_length.saturating_add(pages);
        if size > self.files.bytes() {
            return Err(pages_too_large(pages, self.files.bytes()));
        }
        if !self.files.grow(&mut self.file_held, size) {
            return Err(out_of_memory());
        }
        Ok(())
    }

    fn take(&mut self, block: Block) -> Result<(), ApiError> {
        let size = block.size();
        self.written += size as u64;
        if self.written > self.limit {
            return Err(rows_too_large(self.limit));
        }
        if !self.grow(size) {
            self.held = None;
            self.held = Some(self.reserve(size)?);
        }
        let sent = self.sender.blocking_send((block, self.held.take()));
        // Who does not want it has a reason of its own.
        sent.map_err(|_| out_of_memory())
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

fn out_of_memory() -> ApiError {
    ApiError::new(
        ErrorCode::IngestionFailed,
        "the gateway's memory for Parquet files is in use: try again",
    )
    .retry_after(Duration::from_secs(2))
}

#[cfg(test)]
mod tests;

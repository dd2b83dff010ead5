//! Parquet: a file is taken into memory, for its index stands at its end, and
//! read column by column into blocks of text like every other format, so that
//! the landing table judges its values like all others.

mod file;
mod text;

use super::Intake;
use super::block::Block;
use super::body::PlainBody;
use super::upload::{Taken, Upload};
use crate::error::{ApiError, ErrorCode};
use bytes::{Bytes, BytesMut};
use file::FileError;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

impl Intake {
    /// Takes the rows of a Parquet file.
    pub(super) async fn take_parquet(
        &self,
        body: PlainBody,
        import_id: String,
    ) -> Result<Taken, ApiError> {
        let (file, _memory) = self.collect(body).await?;
        let names: Vec<String> = self
            .parts
            .published
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        // One block waits while another is stored and a third is being filled.
        let (sender, mut blocks) = mpsc::channel(1);
        let full = self.settings.block_bytes;
        let id = import_id.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut emit = |block: Block| sender.blocking_send(block).is_ok();
            file::read(file, &names, &id, full, &mut emit)
        });
        let mut upload = Upload::new(self, import_id);
        let mut result = Ok(());
        while let Some(block) = blocks.recv().await {
            result = upload.store(block, None).await;
            if result.is_err() {
                break;
            }
        }
        drop(blocks);
        // The library panics at some files that are not well formed.
        let read = reading.await.unwrap_or(Err(FileError::NotUnderstood));
        let read = read.map_err(|error| ApiError::new(ErrorCode::BodyInvalid, error.to_string()));
        upload.finish(result.and(read)).await
    }

    /// The whole file, and its place in memory.
    async fn collect(
        &self,
        mut body: PlainBody,
    ) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
        let memory = &self.settings.files;
        let mut held = memory.reserve(0).await?;
        let mut file = BytesMut::new();
        while let Some(piece) = body.next().await? {
            if file.len() + piece.len() > memory.bytes() {
                let limit = memory.bytes();
                return Err(ApiError::new(
                    ErrorCode::BodyTooLarge,
                    format!(
                        "a Parquet file is taken into memory, and may have {limit} bytes: send it in parts, or as NDJSON or CSV"
                    ),
                ));
            }
            // Waiting for more while holding some would let two large files wait for each other.
            if !memory.grow(&mut held, file.len() + piece.len()) {
                return Err(out_of_memory());
            }
            file.extend_from_slice(&piece);
        }
        Ok((file.freeze(), held))
    }
}

fn out_of_memory() -> ApiError {
    ApiError::new(
        ErrorCode::IngestionFailed,
        "the gateway's memory for Parquet files is in use: try again",
    )
    .retry_after(Duration::from_secs(2))
}

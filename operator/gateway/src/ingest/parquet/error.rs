//! Why a Parquet file cannot be read.

use super::super::lines::LONGEST_LINE;
use crate::error::ApiError;
use parquet::errors::ParquetError;

const LONGEST_REASON: usize = 200;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("the body is no Parquet file, or it is corrupt: {}", shortened(.0))]
    Parquet(#[from] ParquetError),
    #[error("the body is a Parquet file with columns of different lengths")]
    Ragged,
    #[error("the body is a Parquet file that is not understood")]
    NotUnderstood,
    #[error("the body is a Parquet file with none of the data source's columns")]
    NoColumn,
    #[error("the body is a Parquet file with a row of more than {LONGEST_LINE} bytes")]
    LongRow,
    /// Its rows are not wanted any more, for a reason of another's.
    #[error("the rest of the file is not wanted")]
    Stopped(ApiError),
}

fn shortened(error: &ParquetError) -> String {
    error.to_string().chars().take(LONGEST_REASON).collect()
}

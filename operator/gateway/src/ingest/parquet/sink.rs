//! Where the rows of a file go as they are read.

use super::super::block::Block;
use crate::error::ApiError;

/// Where rows go.
pub(super) trait Sink {
    /// Whether a block of this size should go now.
    fn is_full(&mut self, size: usize) -> Result<bool, ApiError>;

    /// Makes room for so many bytes of pages, which are read at once.
    fn load(&mut self, pages: u64) -> Result<(), ApiError>;

    /// Takes a block.
    fn take(&mut self, block: Block) -> Result<(), ApiError>;
}

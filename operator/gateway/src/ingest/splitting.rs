//! Splits a body's bytes into the rows of a block, and counts what they take meanwhile.

use super::block::{Block, Layout};
use super::cut::Cut;
use super::lines::{Feeder, Splitter};
use crate::budgets::Shares;
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::memory::{InUse, Reservation, Share};
use bytes::Bytes;
use std::sync::Arc;

/// Splitting this much takes longer than handing it to another thread.
pub(super) const LARGE_PIECE: usize = 64 * 1024;
/// How much is split before the size of the block is looked at, at most.
const LONGEST_STRIDE: usize = 32 * 1024;
/// In a wide table a record of two bytes takes some for every column; a block grows by
/// about this much between two looks, where a stride can be as short as that.
const STRIDE_GROWTH: usize = 1024 * 1024;
const SHORTEST_STRIDE: usize = 1024;

/// A body on its way into blocks.
pub(super) struct Splitting<S> {
    feeder: Feeder<S>,
    layout: Layout,
    cut: Cut,
    block: Block,
    /// How much is split before the size of the block is looked at.
    stride: usize,
    /// Counts the block, the record that is not whole yet, and the bytes that are being split.
    memory: Reservation,
    has_room: bool,
}

impl<S: Splitter> Splitting<S> {
    /// Begins with an empty block, as soon as there is memory for one.
    pub(super) async fn begin(
        splitter: S,
        layout: Layout,
        cut: &Cut,
        share: &Arc<Share>,
    ) -> Result<Self, InUse> {
        Ok(Self {
            feeder: Feeder::new(splitter),
            block: Block::begin(layout, cut),
            stride: stride(layout.smallest_row(cut.import_id())),
            cut: cut.clone(),
            layout,
            memory: share.reserve(cut.reserved()).await?,
            has_room: true,
        })
    }

    /// Whether blocks may end where memory or time asks for it.
    pub(super) fn ends_anywhere(&self) -> bool {
        !self.cut.is_fixed()
    }

    /// Whether a block should go: it is large enough, or there is no memory to let it grow and it may
    /// end anywhere.
    pub(super) fn is_full(&self) -> bool {
        if self.ends_anywhere() {
            !self.has_room || self.block.size() >= self.cut.full()
        } else {
            self.block.whole().next().is_some()
        }
    }

    /// Rows of the blocks so far.
    pub(super) fn rows(&self) -> u64 {
        let whole: usize = self.block.whole().map(Block::rows).sum();
        (whole + self.block.rows()) as u64
    }

    /// Splits bytes until the block is full or there is no room; says how many were used.
    fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        for part in bytes.chunks(self.stride) {
            self.feeder.feed(part, &mut self.block);
            used += part.len();
            self.count(bytes.len());
            if self.is_full() || !self.has_room {
                break;
            }
        }
        used
    }

    /// Splits what is left at the end of the body.
    pub(super) fn finish(&mut self) {
        self.feeder.finish(&mut self.block);
        self.count(0);
    }

    fn count(&mut self, bytes: usize) {
        self.has_room = self.memory.cover(self.held() + bytes);
    }

    /// Bytes that it takes between two pieces, and those that are kept for the block.
    fn held(&self) -> usize {
        let missing = self.block.reserved().saturating_sub(self.block.size());
        self.taken() + missing
    }

    /// Bytes that it takes between two pieces.
    fn taken(&self) -> usize {
        let whole: usize = self.block.whole().map(Block::size).sum();
        whole + self.block.size() + self.feeder.carried()
    }

    /// What it takes with so many bytes more: they themselves, and what becomes of them.
    fn needed(&self, bytes: usize) -> usize {
        self.held() + 2 * bytes
    }

    /// Makes room for so many more bytes; says whether there is any now.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        self.memory.grow(self.needed(bytes)).is_ok()
    }

    /// The same, as soon as there is some.
    pub(super) async fn wait_for_room(&mut self, bytes: usize) -> Result<(), InUse> {
        self.memory.grow_in_time(self.needed(bytes)).await
    }

    /// The block that is to go, with its memory; what else there is goes on being counted.
    pub(super) fn take_block(&mut self) -> (Block, Reservation) {
        let block = self.block.take_whole().unwrap_or_else(|| {
            let empty = Block::new(self.layout, self.cut.import_id());
            std::mem::replace(&mut self.block, empty)
        });
        let kept = self.taken();
        let memory = self.memory.split_off(kept);
        self.memory.cover(kept);
        (block, memory)
    }

    /// Waits until there is memory to go on.
    pub(super) async fn room(&mut self) -> Result<(), InUse> {
        if !self.has_room {
            self.memory.room().await?;
            self.has_room = true;
        }
        let held = self.held();
        if self.block.reserved() > 0 {
            self.memory.grow_in_time(held).await?;
        }
        Ok(())
    }

    pub(super) fn into_splitter(self) -> S {
        self.feeder.into_splitter()
    }
}

impl<S: Splitter + Send + 'static> Splitting<S> {
    /// Splits bytes until the block is full; says how many were used. Large pieces leave this thread,
    /// which has other clients, and take turns with those of the same workspace.
    pub(super) async fn split(
        mut self,
        bytes: Bytes,
        shares: &Shares,
    ) -> Result<(Self, usize), ApiError> {
        if bytes.len() < LARGE_PIECE {
            let used = self.feed(&bytes);
            return Ok((self, used));
        }
        let turn = Arc::clone(&shares.splitting).acquire_owned().await;
        let splitting = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let used = self.feed(&bytes);
            (self, used)
        });
        splitting.await.map_err(|error| {
            tracing::error!(%error, "split a body");
            ApiError::new(
                ErrorCode::IngestionFailed,
                "the body could not be split into rows",
            )
        })
    }
}

/// For rows that take so many bytes at least; the shortest record has two, with its line end.
fn stride(smallest_row: usize) -> usize {
    let records = STRIDE_GROWTH / smallest_row;
    (2 * records).clamp(SHORTEST_STRIDE, LONGEST_STRIDE)
}

#[cfg(test)]
mod tests {
    use super::super::block::testing::layout;
    use super::super::import_id::ImportId;
    use super::super::json_path::Paths;
    use super::super::ndjson::NdJsonSplitter;
    use super::*;
    use crate::memory::{Budget, STEP};
    use crate::request_id::RequestId;
    use http::HeaderMap;
    use prometheus_client::metrics::gauge::Gauge;
    use std::time::Duration;
    use tokio::time::timeout;

    const BUDGET: usize = 256 * STEP;

    async fn splitting(columns: usize, gauge: &Gauge) -> (Splitting<NdJsonSplitter>, Arc<Share>) {
        let names: Vec<String> = (0..columns).map(|number| format!("c{number}")).collect();
        let paths = Arc::new(Paths::by_name(names.iter().map(String::as_str)));
        let share = Budget::new(BUDGET, gauge.clone()).share();
        let splitter = NdJsonSplitter::new(paths, columns);
        let id = ImportId::of_request(&RequestId::new());
        let cut = Cut::new(&id, BUDGET / 8);
        let splitting = Splitting::begin(splitter, layout(columns), &cut, &share);
        (splitting.await.unwrap(), share)
    }

    #[tokio::test]
    async fn a_block_of_empty_rows_is_as_large_as_any() {
        for columns in [1, 20, 300] {
            let gauge = Gauge::default();
            let (mut splitting, _share) = splitting(columns, &gauge).await;
            let body = "{}\n".repeat(200_000);
            let used = splitting.feed(body.as_bytes());
            let (block, memory) = splitting.take_block();
            assert!(used < body.len());
            assert!(
                block.size() < BUDGET / 8 + 2 * STRIDE_GROWTH,
                "{}",
                block.size()
            );
            assert!(gauge.get() as usize >= block.size());
            drop(memory);
            assert!(gauge.get() as usize <= STEP);
        }
    }

    #[tokio::test]
    async fn a_record_that_is_not_whole_is_counted_until_it_is() {
        let gauge = Gauge::default();
        let (mut splitting, share) = splitting(1, &gauge).await;
        let part = "x".repeat(STEP);
        splitting.feed(b"{\"c0\": \"");
        for _ in 0..8 {
            assert_eq!(splitting.feed(part.as_bytes()), STEP);
        }
        drop(splitting.take_block());
        assert!(gauge.get() as usize >= 8 * STEP);
        // Beside much else of the workspace there is no room, and this one goes on when it is gone.
        let other = share.try_reserve(100 * STEP).unwrap();
        while !splitting.is_full() {
            splitting.feed(part.as_bytes());
        }
        {
            let mut waiting = std::pin::pin!(splitting.room());
            assert!(futures::poll!(waiting.as_mut()).is_pending());
            drop(other);
            assert!(waiting.await.is_ok());
        }
        splitting.feed(b"\"}\n");
        splitting.finish();
        assert_eq!(splitting.rows(), 1);
    }

    /// The rows of each block of a named import.
    async fn cut(body: &[u8], piece: usize, memory: usize) -> Result<Vec<usize>, InUse> {
        let id = ImportId::of(&HeaderMap::new(), Some("id"), &RequestId::new()).unwrap();
        let cut = Cut::new(&id, STEP);
        let share = Budget::new(memory, Gauge::default()).share();
        let paths = Arc::new(Paths::by_name(["a", "b"]));
        let splitter = NdJsonSplitter::new(paths, 2);
        let mut splitting = Splitting::begin(splitter, layout(2), &cut, &share).await?;
        let mut blocks = Vec::new();
        for mut piece in body.chunks(piece) {
            while !piece.is_empty() {
                let used = splitting.feed(piece);
                piece = &piece[used..];
                while splitting.is_full() {
                    blocks.push(splitting.take_block().0.rows());
                }
                splitting.room().await?;
            }
        }
        splitting.finish();
        while splitting.rows() > 0 {
            blocks.push(splitting.take_block().0.rows());
        }
        Ok(blocks)
    }

    #[tokio::test]
    async fn blocks_of_a_named_import_end_at_the_same_rows() {
        let rows = (0..60_000).map(|row| match row % 1000 {
            0 => format!("{{\"a\": \"{}\"}}\n", "x".repeat(90_000)),
            1..5 => format!("not JSON {row}\n"),
            _ => format!("{{\"a\": {row}, \"b\": \"text\"}}\n"),
        });
        let body: String = rows.collect();
        let expected = cut(body.as_bytes(), body.len(), 4 * BUDGET).await.unwrap();
        assert!(expected.len() > 4, "{expected:?}");
        assert_eq!(expected.iter().sum::<usize>(), 60_000);
        for (piece, memory) in [(777, BUDGET), (100_000, BUDGET), (1 << 20, 2 * BUDGET)] {
            let blocks = cut(body.as_bytes(), piece, memory).await.unwrap();
            assert_eq!(blocks, expected, "{piece} {memory}");
        }
        // Without room for a whole block there is none that ends before: it is waited for.
        let waiting = cut(body.as_bytes(), 777, 16 * STEP);
        assert!(timeout(Duration::from_millis(100), waiting).await.is_err());
    }
}

//! Where the rows of an import are cut into blocks.
//!
//! Usually where it is best for memory and time: a block may end because its client pauses. The
//! blocks of an import to which its client gave an id must end at the same rows whenever and
//! wherever it is sent again, for by their numbers and rows ClickHouse knows them again. They depend
//! on nothing but the rows.

use super::deduplication_token::DeduplicationToken;
use super::import_id::ImportId;

/// A first block that holds what one event or a few have, so that little memory is kept for each.
const FIRST: usize = 64 * 1024;
/// The largest blocks, of large imports.
const LARGEST: usize = 4 * 1024 * 1024;

/// The cuts of one import.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    import_id: ImportId,
    full: usize,
    block: u32,
}

impl Cut {
    /// Of an import whose blocks may have so many bytes, unless its client gave it an id.
    pub(super) fn new(import_id: &ImportId, full: usize) -> Self {
        Self {
            import_id: import_id.clone(),
            full,
            block: 0,
        }
    }

    /// Whether blocks end only where the rows say so.
    pub(super) fn is_fixed(&self) -> bool {
        self.import_id.is_given()
    }

    /// Bytes with which the block that is being filled ends.
    pub(super) fn full(&self) -> usize {
        if self.is_fixed() {
            (FIRST << (2 * self.block).min(16)).min(LARGEST)
        } else {
            self.full
        }
    }

    /// Bytes that are kept free for it before it begins: one that may not end before can do with that.
    pub(super) fn reserved(&self) -> usize {
        if self.is_fixed() { self.full() } else { 0 }
    }

    pub(super) fn import_id(&self) -> &str {
        self.import_id.as_str()
    }

    /// Goes on to the next block. The name of the one that ends, if it has one of its own.
    pub(super) fn next(&mut self) -> Option<DeduplicationToken> {
        let token = DeduplicationToken::of_import(self.import_id.as_str(), self.block);
        self.block += 1;
        self.is_fixed().then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_id::RequestId;
    use http::HeaderMap;

    #[test]
    fn blocks_of_a_named_import_grow_whatever_the_gateway_prefers() {
        let given = ImportId::of(&HeaderMap::new(), Some("id"), &RequestId::new()).unwrap();
        let mut cut = Cut::new(&given, 1);
        let mut sizes = Vec::new();
        for _ in 0..100 {
            sizes.push(cut.full() / 1024);
            assert!(cut.next().is_some());
        }
        assert_eq!(sizes[..5], [64, 256, 1024, 4096, 4096]);
        assert_eq!(sizes[99], 4096);
    }

    #[test]
    fn other_blocks_have_no_names() {
        let mut cut = Cut::new(&ImportId::of_request(&RequestId::new()), 7);
        assert_eq!(cut.full(), 7);
        assert!(cut.next().is_none());
    }
}

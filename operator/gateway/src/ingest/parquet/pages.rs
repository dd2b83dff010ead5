//! The pages of a column, each looked at before it is decoded: what would take far
//! more memory than its page has bytes is refused.

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescriptor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Values of lists that may be loaded and not yet written; also, values of a page
/// whose lengths are all decoded at once.
const MOST_VALUES: usize = 4 * 1024 * 1024;

pub(super) struct Pages {
    inner: Box<dyn PageReader>,
    has_lists: bool,
    has_missing: bool,
    /// Whether the column says that it has texts written as what differs from the one before.
    shared_prefixes: bool,
    /// Values of pages that were handed out, less those that were written.
    pub(super) loaded: Arc<AtomicUsize>,
}

impl Pages {
    pub(super) fn new(
        inner: Box<dyn PageReader>,
        column: &ColumnDescriptor,
        shared_prefixes: bool,
    ) -> Self {
        Self {
            inner,
            has_lists: column.max_rep_level() > 0,
            has_missing: column.max_def_level() > 0,
            shared_prefixes,
            loaded: Arc::default(),
        }
    }

    fn check(&self, page: &Page) -> Result<()> {
        if !page.is_data_page() {
            return Ok(());
        }
        let count = page.num_values() as usize;
        let loaded = self.loaded.fetch_add(count, Ordering::Relaxed) + count;
        if self.has_lists && loaded > MOST_VALUES {
            return Err(refused("a row or a page has lists of too many values"));
        }
        let lists_of_lengths = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            Encoding::DELTA_BYTE_ARRAY if self.shared_prefixes => 2,
            Encoding::DELTA_BYTE_ARRAY => {
                return Err(refused("a column does not name all of its encodings"));
            }
            _ => return Ok(()),
        };
        let values = self.values(page);
        let mut values = values.ok_or_else(|| refused("a page has no values"))?;
        for _ in 0..lists_of_lengths {
            let lengths = skip_numbers(&mut values);
            if lengths.is_none_or(|lengths| lengths > count.min(MOST_VALUES)) {
                return Err(refused("a page has more lengths than values"));
            }
        }
        Ok(())
    }

    /// The values of a page, without the levels before them.
    fn values<'p>(&self, page: &'p Page) -> Option<&'p [u8]> {
        match page {
            Page::DataPage {
                buf,
                def_level_encoding,
                rep_level_encoding,
                ..
            } => {
                let mut values: &[u8] = buf;
                let levels = [
                    (self.has_lists, rep_level_encoding),
                    (self.has_missing, def_level_encoding),
                ];
                for (_, encoding) in levels.into_iter().filter(|(there, _)| *there) {
                    // The other encoding is older than the ones that are asked about here.
                    if *encoding != Encoding::RLE {
                        return None;
                    }
                    let (length, rest) = values.split_first_chunk()?;
                    values = rest.get(u32::from_le_bytes(*length) as usize..)?;
                }
                Some(values)
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => after(buf, *def_levels_byte_len, *rep_levels_byte_len),
            Page::DictionaryPage { .. } => None,
        }
    }
}

fn after(bytes: &Bytes, definitions: u32, repetitions: u32) -> Option<&[u8]> {
    bytes.get(definitions as usize + repetitions as usize..)
}

fn refused(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}

/// Goes past numbers in `DELTA_BINARY_PACKED`; says how many they are.
fn skip_numbers(bytes: &mut &[u8]) -> Option<usize> {
    let block = number(bytes)?;
    let parts = number(bytes)?;
    let count = number(bytes)?;
    let _first = number(bytes)?;
    let in_part = block.checked_div(parts).filter(|count| *count > 0)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let _smallest = number(bytes)?;
        let (widths, rest) = bytes.split_at_checked(usize::try_from(parts).ok()?)?;
        *bytes = rest;
        for width in widths {
            if left == 0 {
                break;
            }
            let bits = in_part.checked_mul(u64::from(*width))?;
            *bytes = bytes.get(usize::try_from(bits / 8).ok()?..)?;
            left = left.saturating_sub(in_part);
        }
    }
    usize::try_from(count).ok()
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

//! What a file claims of itself, looked at before the library does.
//!
//! The library makes room for what it is told: for the children of a group, for
//! the entries of a dictionary, for the decompressed bytes of a page; and it goes
//! as deep into a schema as it is led. A file of a kilobyte can ask for more than
//! there is, which would end the process and with it everybody's requests.

use super::error::FileError;
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;

/// Groups within groups. Each list takes two of them.
const DEEPEST: usize = 100;
/// What a value of a dictionary takes apart from its bytes, at most.
const DICTIONARY_ENTRY: u64 = 32;
/// The length of the index, and `PAR1`.
const END: usize = 8;

// Fields of Parquet's structures, by their numbers, and Thrift's types.
const FILE_SCHEMA: i64 = 2;
const ELEMENT_CHILDREN: i64 = 5;
const PAGE_UNCOMPRESSED: i64 = 2;
const PAGE_COMPRESSED: i64 = 3;
const PAGE_DICTIONARY: i64 = 7;
const DICTIONARY_VALUES: i64 = 1;
const INT32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Refuses a schema that is too deep, or has groups of more children than elements.
pub(super) fn check_schema(file: &[u8]) -> Result<(), FileError> {
    // What is no index at all, the library says better.
    let Some((rest, end)) = file.split_last_chunk::<END>() else {
        return Ok(());
    };
    let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]) as usize;
    let Some(start) = rest.len().checked_sub(length) else {
        return Ok(());
    };
    let mut is_sound = true;
    let _ = Thrift(&rest[start..]).structure(&mut |thrift, field, kind| {
        if field == FILE_SCHEMA && kind == LIST {
            is_sound &= thrift.is_schema_sound()?;
            return Some(());
        }
        thrift.skip(kind, 0)
    });
    if is_sound {
        Ok(())
    } else {
        Err(FileError::NotUnderstood)
    }
}

/// Bytes that the pages of a column take at once when they are read, at most.
pub(super) fn memory_of(chunk: &ColumnChunkMetaData, file: &[u8]) -> u64 {
    let (start, length) = chunk.byte_range();
    let is_compressed = chunk.compression() != Compression::UNCOMPRESSED;
    let mut dictionary = 0;
    let mut largest = 0;
    let mut pages = bytes_at(file, start, length);
    // What has no head here has none for the library, which says so.
    while let Some(page) = Page::next(&mut pages) {
        let decompressed = if is_compressed { page.uncompressed } else { 0 };
        match page.dictionary_entries {
            Some(entries) => dictionary = decompressed + entries * DICTIONARY_ENTRY,
            None => largest = decompressed.max(largest),
        }
    }
    dictionary + largest
}

fn bytes_at(file: &[u8], start: u64, length: u64) -> &[u8] {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let rest = file.get(start..).unwrap_or_default();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    &rest[..rest.len().min(length)]
}

/// The head of a page.
#[derive(Default)]
struct Page {
    uncompressed: u64,
    compressed: u64,
    dictionary_entries: Option<u64>,
}

impl Page {
    /// Takes a page off the front.
    fn next(bytes: &mut &[u8]) -> Option<Self> {
        let mut thrift = Thrift(bytes);
        let mut page = Self::default();
        thrift.structure(&mut |thrift, field, kind| {
            match (field, kind) {
                (PAGE_UNCOMPRESSED, INT32) => page.uncompressed = thrift.size()?,
                (PAGE_COMPRESSED, INT32) => page.compressed = thrift.size()?,
                (PAGE_DICTIONARY, STRUCT) => {
                    thrift.structure(&mut |thrift, field, kind| {
                        if (field, kind) == (DICTIONARY_VALUES, INT32) {
                            page.dictionary_entries = Some(thrift.size()?);
                            return Some(());
                        }
                        thrift.skip(kind, 1)
                    })?;
                }
                (_, kind) => thrift.skip(kind, 0)?,
            }
            Some(())
        })?;
        let compressed = usize::try_from(page.compressed).ok()?;
        *bytes = thrift.0.get(compressed..)?;
        Some(page)
    }
}

/// Thrift's compact protocol. Nothing when the bytes do not follow it.
struct Thrift<'b>(&'b [u8]);

impl Thrift<'_> {
    /// Reads the fields of a structure: their numbers and types are given to
    /// `field`, which takes their values.
    fn structure(&mut self, field: &mut dyn FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut number = 0;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Some(());
            }
            number = match head >> 4 {
                0 => self.signed()?,
                more => number + i64::from(more),
            };
            field(self, number, kind)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match kind {
            // True and false, which have no value of their own.
            1 | 2 => Some(()),
            3 => self.bytes(1),
            4..=6 => self.unsigned().map(drop),
            7 => self.bytes(8),
            8 => {
                let length = self.unsigned()?;
                self.bytes(usize::try_from(length).ok()?)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth + 1))
            }
            11 => {
                let count = self.unsigned()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth + 1)?;
                    self.skip_element(kinds & 0x0f, depth + 1)
                })
            }
            STRUCT => self.structure(&mut |thrift, _, kind| thrift.skip(kind, depth + 1)),
            _ => None,
        }
    }

    /// In lists and maps, true and false are a byte.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            1 | 2 => self.bytes(1),
            kind => self.skip(kind, depth),
        }
    }

    fn is_schema_sound(&mut self) -> Option<bool> {
        let (count, kind) = self.list()?;
        // How many children are still to come of each group around.
        let mut open: Vec<u64> = Vec::new();
        for index in 0..count {
            let mut children = 0;
            if kind != STRUCT {
                return None;
            }
            self.structure(&mut |thrift, field, kind| {
                if (field, kind) == (ELEMENT_CHILDREN, INT32) {
                    children = thrift.size()?;
                    return Some(());
                }
                thrift.skip(kind, 0)
            })?;
            if let Some(siblings) = open.last_mut() {
                *siblings -= 1;
            }
            if children > 0 {
                open.push(children);
            }
            if children > count - index || open.len() > DEEPEST {
                return Some(false);
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Some(true)
    }

    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.unsigned()?,
            few => few.into(),
        };
        Some((count, head & 0x0f))
    }

    /// A number that says how many or how much.
    fn size(&mut self) -> Option<u64> {
        u64::try_from(self.signed()?).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn bytes(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }
}

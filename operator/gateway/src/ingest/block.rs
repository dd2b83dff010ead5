//! Rows on their way into a landing table, column by column, as ClickHouse's
//! `Native` format wants them: it takes such a block as it is, without parsing.

use super::buffer::Buffer;
use super::cut::Cut;
use super::pieces::{Pieces, read_number, write_number};
use aviary_crds::published::PublishedColumn;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::VecDeque;

/// The columns that every landing table has after those of its data source.
pub(crate) const RAW_COLUMN: &str = "c__row";
pub(crate) const ERROR_COLUMN: &str = "c__error";
pub(crate) const IMPORT_COLUMN: &str = "c__import_id";

/// The type of every other column there.
const TEXT_TYPE: &str = "Nullable(String)";

/// Bytes of the largest length.
const LONGEST_NUMBER: usize = 10;
/// Bytes of two counts, and of the names and types of the columns above.
const OWN_HEAD: usize = 128;

/// What the blocks of a data source have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    columns: usize,
    /// Bytes of names and types, once for each encoded block.
    head: usize,
    typed: TypedSize,
}

/// Bytes that rows take beside their texts while they become typed ones, at most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TypedSize {
    /// Those of each row.
    pub(crate) row: usize,
    /// Those of each byte of its texts.
    pub(crate) growth: usize,
}

/// Rows of one or more requests.
#[derive(Debug)]
pub(crate) struct Block {
    layout: Layout,
    pub(super) columns: Vec<Column>,
    /// Bytes of these: asked for after every row, and a table may have a thousand columns.
    column_bytes: usize,
    raw: Texts,
    errors: Texts,
    /// Whose rows: so many of the first import, so many of the next.
    imports: Vec<(String, usize)>,
    rows: usize,
    /// Where its rows say themselves where it ends.
    series: Option<Box<Series>>,
}

/// Blocks that end by their rows.
#[derive(Debug)]
struct Series {
    cut: Cut,
    /// Those that are whole, in order.
    whole: VecDeque<Block>,
}

/// A `Nullable(String)` column.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// 1 where there is no value.
    pub(super) nulls: Buffer,
    pub(super) texts: Texts,
}

/// Texts, each after its length.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Texts(pub(super) Buffer);

impl Layout {
    /// Of a data source with these columns, whose typed rows take so much.
    pub(crate) fn new(columns: &[PublishedColumn], typed: TypedSize) -> Self {
        let names = columns.iter().map(|column| {
            let sent_type = column.column_type.len().max(TEXT_TYPE.len());
            column.name.len() + sent_type + 2 * LONGEST_NUMBER
        });
        Self {
            columns: columns.len(),
            head: OWN_HEAD + names.sum::<usize>(),
            typed,
        }
    }

    /// Bytes that the smallest row takes.
    pub(crate) fn smallest_row(&self, import_id: &str) -> usize {
        // A null and an empty text for each column, and two empty texts.
        2 * self.columns + 2 + self.row_overhead(import_id)
    }

    /// Bytes that a row takes beside its texts: an import's id in the landing, or typed values.
    fn row_overhead(&self, import_id: &str) -> usize {
        self.typed.row.max(import_id.len() + LONGEST_NUMBER)
    }
}

impl Block {
    /// An empty block for the rows of one import.
    pub(crate) fn new(layout: Layout, import_id: &str) -> Self {
        Self {
            columns: (0..layout.columns).map(|_| Column::default()).collect(),
            column_bytes: 0,
            layout,
            raw: Texts::default(),
            errors: Texts::default(),
            imports: vec![(import_id.to_owned(), 0)],
            rows: 0,
            series: None,
        }
    }

    /// An empty block for the first rows of an import. If its blocks end by its rows alone, it is
    /// left and the next one begun after the row that fills it, in the middle of whatever is being
    /// split.
    pub(super) fn begin(layout: Layout, cut: &Cut) -> Self {
        let series = cut.is_fixed().then(|| {
            Box::new(Series {
                cut: cut.clone(),
                whole: VecDeque::new(),
            })
        });
        Self {
            series,
            ..Self::new(layout, cut.import_id())
        }
    }

    /// The blocks before this one, which are whole.
    pub(super) fn whole(&self) -> impl Iterator<Item = &Self> {
        self.series.iter().flat_map(|series| &series.whole)
    }

    /// Takes the first of them.
    pub(super) fn take_whole(&mut self) -> Option<Self> {
        self.series.as_mut()?.whole.pop_front()
    }

    /// Bytes that are kept free for it.
    pub(super) fn reserved(&self) -> usize {
        self.series
            .as_ref()
            .map_or(0, |series| series.cut.reserved())
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of its texts, which are there as columns or as records that could not be split.
    pub(crate) fn text_bytes(&self) -> usize {
        self.column_bytes.max(self.raw.0.len())
    }

    /// Bytes it takes at most, until it is stored: as it is, and as it will be encoded.
    pub(crate) fn size(&self) -> usize {
        let imports = self.imports.iter();
        let overhead: usize = imports
            .map(|(import_id, rows)| rows * self.layout.row_overhead(import_id))
            .sum();
        let columns = self.column_bytes * (1 + self.layout.typed.growth);
        self.layout.head + columns + self.raw.0.len() + self.errors.0.len() + overhead
    }

    /// The imports whose rows it holds.
    pub(crate) fn imports(&self) -> impl Iterator<Item = &str> {
        self.imports.iter().map(|(import_id, _)| import_id.as_str())
    }

    /// Adds the value of a column to the row that is being added. Every column
    /// gets one, in any order, and then comes [`Self::end_row`].
    pub(crate) fn value(&mut self, column: usize, value: Option<&[u8]>) {
        self.column_bytes += self.columns[column].push(value);
    }

    /// Ends a row. `raw` is the record as it was sent, for the case that the row goes to
    /// quarantine: it has fields, too, that are no column's.
    pub(crate) fn end_row(&mut self, raw: &[u8]) {
        self.raw.push(raw);
        self.errors.push(b"");
        self.count_row();
    }

    /// Adds a record that cannot be split into values, as it is, and why.
    pub(crate) fn reject(&mut self, raw: &[u8], reason: &str) {
        for column in &mut self.columns {
            self.column_bytes += column.push(None);
        }
        self.raw.push(raw);
        self.errors.push(reason.as_bytes());
        self.count_row();
    }

    fn count_row(&mut self) {
        self.rows += 1;
        if let Some((_, count)) = self.imports.last_mut() {
            *count += 1;
        }
        let full = self.series.as_ref().map(|series| series.cut.full());
        if full.is_some_and(|full| self.size() >= full) {
            self.end();
        }
    }

    /// Leaves the block, which is whole, and begins the next.
    fn end(&mut self) {
        let Some(mut series) = self.series.take() else {
            return;
        };
        let mut next = Self::new(self.layout, series.cut.import_id());
        std::mem::swap(self, &mut next);
        series.cut.next();
        series.whole.push_back(next);
        self.series = Some(series);
    }

    /// Takes the rows of another block of the same table.
    pub(crate) fn append(&mut self, other: Self) {
        for (column, more) in self.columns.iter_mut().zip(other.columns) {
            column.nulls.open().extend_from_slice(&more.nulls);
            column.texts.0.open().extend_from_slice(&more.texts.0);
        }
        self.column_bytes += other.column_bytes;
        self.raw.0.open().extend_from_slice(&other.raw.0);
        self.errors.0.open().extend_from_slice(&other.errors.0);
        self.imports.extend(other.imports);
        self.rows += other.rows;
    }

    /// Whether each row is a record that could not be split into values.
    pub(super) fn rejected(&self) -> impl Iterator<Item = bool> {
        self.errors.iter().map(|reason| !reason.is_empty())
    }

    /// The rows that are to be kept, and the imports that have any of them.
    pub(super) fn filtered(&self, keep: &[bool]) -> Self {
        let mut rest = keep;
        let imports = self.imports.iter().filter_map(|(import_id, count)| {
            let (own, others) = rest.split_at(*count);
            rest = others;
            let kept = own.iter().filter(|keep| **keep).count();
            (kept > 0).then(|| (import_id.clone(), kept))
        });
        let columns = self.columns.iter().map(|column| column.filtered(keep));
        let columns: Vec<Column> = columns.collect();
        Self {
            layout: self.layout,
            imports: imports.collect(),
            column_bytes: columns.iter().map(Column::bytes).sum(),
            columns,
            raw: self.raw.filtered(keep),
            errors: self.errors.filtered(keep),
            rows: keep.iter().filter(|keep| **keep).count(),
            series: None,
        }
    }

    /// The block, out of its place.
    pub(super) fn take(&mut self) -> Self {
        let empty = Self::new(self.layout, "");
        std::mem::replace(self, empty)
    }

    /// How many rows it has of an import.
    pub(super) fn rows_of(&self, import_id: &str) -> usize {
        let own = self.imports.iter().filter(|(known, _)| known == import_id);
        own.map(|(_, rows)| rows).sum()
    }

    /// The rows before a row, and those from it on.
    pub(super) fn split_at(&self, row: usize) -> (Self, Self) {
        let mut keep: Vec<bool> = (0..self.rows).map(|at| at < row).collect();
        let first = self.filtered(&keep);
        keep.iter_mut().for_each(|keep| *keep = !*keep);
        (first, self.filtered(&keep))
    }

    /// Changes what is said of each row; see [`judged`](aviary_crds::published::judged).
    pub(super) fn say(&mut self, change: impl Fn(&[u8]) -> Cow<'_, [u8]>) {
        let mut errors = Texts::default();
        self.errors
            .iter()
            .for_each(|said| errors.push(&change(said)));
        self.errors = errors;
    }

    /// Whether there are rows of which nothing is said.
    pub(super) fn has_unjudged(&self) -> bool {
        self.errors.iter().any(<[u8]>::is_empty)
    }

    /// The block in `Native` format. It keeps its rows, and shares their bytes.
    pub(crate) fn encode(&mut self, columns: &[PublishedColumn]) -> Vec<Bytes> {
        let mut pieces = Pieces::default();
        pieces.number(self.columns.len() + 3);
        pieces.number(self.rows);
        for (name, column) in columns.iter().zip(&mut self.columns) {
            pieces.text(&name.name);
            pieces.text(TEXT_TYPE);
            pieces.bytes(column.nulls.share());
            pieces.bytes(column.texts.0.share());
        }
        let own = [
            (RAW_COLUMN, &mut self.raw),
            (ERROR_COLUMN, &mut self.errors),
        ];
        for (name, texts) in own {
            pieces.text(name);
            pieces.text("String");
            pieces.bytes(texts.0.share());
        }
        pieces.text(IMPORT_COLUMN);
        pieces.text("String");
        for (import_id, count) in &self.imports {
            for _ in 0..*count {
                pieces.text(import_id);
            }
        }
        pieces.finish()
    }
}

impl Column {
    /// Adds a value; how many bytes that takes.
    fn push(&mut self, value: Option<&[u8]>) -> usize {
        self.nulls.open().push(value.is_none().into());
        let before = self.texts.0.len();
        self.texts.push(value.unwrap_or_default());
        1 + self.texts.0.len() - before
    }

    fn bytes(&self) -> usize {
        self.nulls.len() + self.texts.0.len()
    }

    /// The values that are to be kept.
    pub(super) fn filtered(&self, keep: &[bool]) -> Self {
        let kept = self.nulls.iter().zip(keep).filter(|(_, keep)| **keep);
        Self {
            nulls: kept.map(|(null, _)| *null).collect::<Vec<_>>().into(),
            texts: self.texts.filtered(keep),
        }
    }
}

impl Column {
    /// The values, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let values = self.nulls.iter().zip(self.texts.iter());
        values.map(|(null, text)| (*null == 0).then_some(text))
    }
}

impl Texts {
    /// The texts, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut bytes = &self.0[..];
        std::iter::from_fn(move || {
            let length = read_number(&mut bytes)?;
            let (text, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            Some(text)
        })
    }

    /// The texts that are to be kept.
    pub(super) fn filtered(&self, keep: &[bool]) -> Self {
        let mut kept = Self::default();
        for (text, _) in self.iter().zip(keep).filter(|(_, keep)| **keep) {
            kept.push(text);
        }
        kept
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        let bytes = self.0.open();
        write_number(bytes, text.len());
        bytes.extend_from_slice(text);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Reads a block back.

    use super::{Block, Layout, Texts, TypedSize};

    /// Of columns of which nothing is known but how many they are.
    pub(crate) fn layout(columns: usize) -> Layout {
        Layout {
            columns,
            head: 0,
            typed: TypedSize::default(),
        }
    }

    /// A row as it was added.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Row {
        Values(Vec<Option<Vec<u8>>>),
        Rejected { raw: Vec<u8>, reason: String },
    }

    impl Row {
        pub(crate) fn values(values: &[Option<&str>]) -> Self {
            Self::Values(
                values
                    .iter()
                    .map(|value| value.map(|value| value.as_bytes().to_vec()))
                    .collect(),
            )
        }

        pub(crate) fn rejected(raw: &str, reason: &str) -> Self {
            Self::Rejected {
                raw: raw.as_bytes().to_vec(),
                reason: reason.to_owned(),
            }
        }
    }

    /// The records of its rows, as they were sent.
    pub(crate) fn records(block: &Block) -> Vec<String> {
        let records = block.raw.iter();
        records
            .map(|record| String::from_utf8_lossy(record).into_owned())
            .collect()
    }

    pub(crate) fn rows(block: &Block) -> Vec<Row> {
        let texts = |texts: &Texts| texts.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let raw = texts(&block.raw);
        let errors = texts(&block.errors);
        let columns: Vec<Vec<Vec<u8>>> = block
            .columns
            .iter()
            .map(|column| texts(&column.texts))
            .collect();
        assert!(
            columns
                .iter()
                .chain([&raw, &errors])
                .all(|column| column.len() == block.rows)
        );
        (0..block.rows)
            .map(|row| {
                if errors[row].is_empty() {
                    let values = block.columns.iter().zip(&columns).map(|(column, texts)| {
                        (column.nulls[row] == 0).then(|| texts[row].clone())
                    });
                    Row::Values(values.collect())
                } else {
                    let reason = String::from_utf8(errors[row].clone()).unwrap();
                    Row::Rejected {
                        raw: raw[row].clone(),
                        reason,
                    }
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Row, layout, rows};
    use super::*;
    use proptest::collection::vec;
    use proptest::{option, prelude::*};

    fn column(name: &str) -> PublishedColumn {
        PublishedColumn {
            name: name.to_owned(),
            column_type: "Int32".to_owned(),
            allowed: Vec::new(),
            json_path: format!("$.{name}"),
            has_default: false,
        }
    }

    #[test]
    fn a_block_is_encoded_as_native() {
        let mut block = Block::new(layout(1), "i");
        block.value(0, Some(b"ab"));
        block.end_row(b"ab,c");
        block.reject(b"x,y", "why");
        let encoded: Vec<u8> = block.encode(&[column("n")]).concat();
        let expected = [
            b"\x04\x02".as_slice(),
            b"\x01n\x10Nullable(String)\x00\x01\x02ab\x00",
            b"\x06c__row\x06String\x04ab,c\x03x,y",
            b"\x08c__error\x06String\x00\x03why",
            b"\x0cc__import_id\x06String\x01i\x01i",
        ];
        assert_eq!(encoded, expected.concat());
    }

    #[test]
    fn blocks_are_joined_in_order() {
        let long = vec![b'z'; 300];
        let mut first = Block::new(layout(2), "a");
        first.value(1, None);
        first.value(0, Some(&long));
        first.end_row(b"");
        let mut second = Block::new(layout(2), "b");
        second.reject(b"?", "no");
        first.append(second);
        assert_eq!(first.rows(), 2);
        assert_eq!(first.imports().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            rows(&first),
            [
                Row::Values(vec![Some(long), None]),
                Row::rejected("?", "no")
            ]
        );
    }

    proptest! {
        #[test]
        fn a_block_takes_no_more_than_it_says(
            rows in vec(vec(option::of(".{0,200}"), 3), 0..40),
            rejected in vec(".{1,300}", 0..40),
            import_ids in vec("[a-z0-9-]{0,200}", 1..4),
        ) {
            let columns = ["n", "a rather long name", "\u{e9}"].map(column);
            let mut block = Block::new(Layout::new(&columns, TypedSize::default()), "first");
            for import_id in &import_ids {
                let mut more = Block::new(Layout::new(&columns, TypedSize::default()), import_id);
                for row in &rows {
                    for (column, value) in row.iter().enumerate() {
                        more.value(column, value.as_ref().map(String::as_bytes));
                    }
                    more.end_row(b"?");
                }
                for raw in &rejected {
                    more.reject(raw.as_bytes(), "why");
                }
                block.append(more);
            }
            let size = block.size();
            let (first, second) = block.split_at(block.rows() / 2);
            for part in [&block, &first, &second] {
                let summed: usize = part.columns.iter().map(Column::bytes).sum();
                prop_assert_eq!(part.column_bytes, summed);
            }
            let encoded = block.encode(&columns).concat().len();
            prop_assert!(encoded <= size, "{encoded} > {size}");
        }
    }

    #[test]
    fn an_empty_row_is_counted_as_it_will_be_sent() {
        let columns = ["a", "b", "c"].map(column);
        let layout = Layout::new(&columns, TypedSize::default());
        let import_id = "0198c0de-0000-7000-8000-000000000000";
        let mut block = Block::new(layout, import_id);
        let empty = block.size();
        for _ in 0..1000 {
            (0..3).for_each(|column| block.value(column, None));
            block.end_row(b"");
        }
        assert_eq!(block.size() - empty, 1000 * layout.smallest_row(import_id));
        let size = block.size();
        let encoded = block.encode(&columns).concat().len();
        // Near enough that blocks are about as large as they should be.
        assert!(
            (encoded..encoded * 5 / 4).contains(&size),
            "{size} for {encoded}"
        );
    }
}

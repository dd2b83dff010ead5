//! The fast path: fields that are certain to convert become typed columns here,
//! and their rows go straight into the table.
//!
//! The landing table's views decide what a text means. Here only spellings are
//! taken of which there is no doubt what they decide; rows with any other field
//! are left for the landing, so the result is the same and only the way shorter.
//! Whether it is the same, `tests/real/fast_path.rs` asks ClickHouse.

mod composite;
mod kind;
mod number;
mod scalar;
mod time;
mod values;

use super::block::{Block, Column, TypedSize};
use super::pieces::Pieces;
use aviary_crds::published::PublishedColumn;
pub(super) use kind::{Kind, Known, Member};
use values::{Mark, Values};

/// The columns of a table, if every one of them has a type that is known here and
/// takes all values of it.
#[derive(Debug)]
pub(super) struct TypedTable(Vec<TypedColumn>);

#[derive(Debug, PartialEq, Eq)]
struct TypedColumn {
    name: String,
    kind: Kind,
    /// The type without what ClickHouse adds as it reads.
    sent_type: String,
}

/// What a block's texts became.
enum Converted {
    /// Texts are their own values. Where there is none, it is NULL or the row is left.
    Same {
        nullable: bool,
    },
    Values(Values),
}

/// A block, taken apart.
pub(super) struct Sorted {
    /// Rows for the table in `Native` format, if there are any.
    pub(super) typed: Option<Vec<bytes::Bytes>>,
    /// Rows for the landing.
    pub(super) rest: Rest,
}

/// What of a block is left for the landing.
#[derive(Debug)]
pub(super) enum Rest {
    Nothing,
    Some(Box<Block>),
    /// The block as it is.
    All,
}

impl TypedTable {
    pub(super) fn of(columns: &[PublishedColumn]) -> Option<Self> {
        columns
            .iter()
            .map(TypedColumn::of)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Bytes that a row takes beside its texts while it is made a typed one, at most,
    /// and those that each byte of its texts takes.
    pub(super) fn row_bytes(&self) -> TypedSize {
        let nested = self.0.iter().any(|column| column.kind.has_elements());
        TypedSize {
            row: self.0.iter().map(|column| column.kind.width()).sum(),
            growth: if nested { composite::MOST_GROWTH } else { 0 },
        }
    }

    /// Which rows of a block are not certain.
    pub(super) fn doubtful(&self, block: &Block) -> Vec<bool> {
        self.convert(block).0
    }

    fn convert(&self, block: &Block) -> (Vec<bool>, Vec<Converted>) {
        let mut doubtful: Vec<bool> = block.rejected().collect();
        let columns = self.0.iter().zip(&block.columns);
        let values = columns.map(|(column, texts)| column.convert(texts, &mut doubtful));
        let values = values.collect();
        (doubtful, values)
    }

    /// Takes the rows that are certain out of a block, which keeps them all.
    pub(super) fn sort(&self, block: &mut Block) -> Sorted {
        let (doubtful, mut values) = self.convert(block);
        let doubts = doubtful.iter().filter(|doubtful| **doubtful).count();
        if doubts == block.rows() {
            return Sorted {
                typed: None,
                rest: if doubts > 0 { Rest::All } else { Rest::Nothing },
            };
        }
        let certain = block.rows() - doubts;
        if doubts == 0 {
            return Sorted {
                typed: Some(self.encode(values, &mut block.columns, certain)),
                rest: Rest::Nothing,
            };
        }
        let keep: Vec<bool> = doubtful.iter().map(|doubtful| !doubtful).collect();
        for column in &mut values {
            if let Converted::Values(values) = column {
                values.retain(&keep);
            }
        }
        let mut texts: Vec<Column> = block
            .columns
            .iter()
            .map(|column| column.filtered(&keep))
            .collect();
        Sorted {
            typed: Some(self.encode(values, &mut texts, certain)),
            rest: Rest::Some(Box::new(block.filtered(&doubtful))),
        }
    }

    fn encode(
        &self,
        columns: Vec<Converted>,
        texts: &mut [Column],
        rows: usize,
    ) -> Vec<bytes::Bytes> {
        let mut pieces = Pieces::default();
        pieces.number(self.0.len());
        pieces.number(rows);
        for ((column, converted), texts) in self.0.iter().zip(columns).zip(texts) {
            pieces.text(&column.name);
            pieces.text(&column.sent_type);
            match converted {
                Converted::Values(values) => values.encode(&mut pieces),
                Converted::Same { nullable } => {
                    if nullable {
                        pieces.bytes(texts.nulls.share());
                    }
                    pieces.bytes(texts.texts.0.share());
                }
            }
        }
        pieces.finish()
    }
}

impl TypedColumn {
    fn of(column: &PublishedColumn) -> Option<Self> {
        if !column.allowed.is_empty() {
            return None;
        }
        let Known { kind, sent_type } = Known::of(&column.column_type)?;
        Some(Self {
            name: column.name.clone(),
            kind,
            sent_type,
        })
    }

    /// Converts every text, and marks the rows whose text is not certain.
    fn convert(&self, column: &Column, doubtful: &mut [bool]) -> Converted {
        match &self.kind {
            Kind::Text => {
                for (doubtful, null) in doubtful.iter_mut().zip(column.nulls.iter()) {
                    *doubtful |= *null != 0;
                }
                return Converted::Same { nullable: false };
            }
            Kind::Nullable(inner) if **inner == Kind::Text => {
                return Converted::Same { nullable: true };
            }
            _ => {}
        }
        let mut values = Values::with_capacity(&self.kind, doubtful.len());
        let mut mark = Mark::default();
        let fields = column.texts.iter().zip(column.nulls.iter()).zip(doubtful);
        for ((text, null), doubtful) in fields {
            let text = (*null == 0).then_some(text);
            *doubtful |= !values.push_field(&self.kind, text, &mut mark);
        }
        Converted::Values(values)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Layout;
    use super::super::block::testing::{Row, layout, rows};
    use super::*;

    fn columns(types: &[&str]) -> Vec<PublishedColumn> {
        let numbered = types.iter().enumerate();
        numbered
            .map(|(index, column_type)| PublishedColumn {
                name: format!("c{index}"),
                column_type: (*column_type).to_owned(),
                allowed: Vec::new(),
                json_path: format!("$.c{index}"),
                has_default: false,
            })
            .collect()
    }

    fn block(rows: &[&[Option<&str>]]) -> Block {
        let mut block = Block::new(layout(rows[0].len()), "i");
        for row in rows {
            for (column, value) in row.iter().enumerate() {
                block.value(column, value.map(str::as_bytes));
            }
            block.end_row(b"");
        }
        block
    }

    /// The value of one field, if it is certain.
    fn value(column_type: &str, text: &str) -> Option<Vec<u8>> {
        let table = TypedTable::of(&columns(&[column_type])).unwrap();
        let pieces = table.sort(&mut block(&[&[Some(text)]])).typed?.concat();
        // The numbers of columns and rows, the name and the type, each after its length.
        let head = 2 + 3 + 1 + table.0[0].sent_type.len();
        Some(pieces[head..].to_vec())
    }

    #[test]
    fn only_certain_spellings_have_a_value() {
        let seconds = |seconds: u32| Some(seconds.to_le_bytes().to_vec());
        for (column_type, text, expected) in [
            ("Int8", "-128", Some(vec![0x80])),
            ("Int32", "+1", None),
            ("Int32", "1.0", Some(vec![1, 0, 0, 0])),
            ("Float64", "-12.5", Some((-12.5_f64).to_le_bytes().to_vec())),
            ("Float64", "1e3", None),
            ("Float64", "nan", None),
            ("Float64", ".5", None),
            ("Float32", "0.1", Some(0.1_f32.to_le_bytes().to_vec())),
            ("Decimal(9, 2)", "1.5", Some(vec![150, 0, 0, 0])),
            ("Bool", "true", Some(vec![1])),
            ("Bool", "True", None),
            ("Date", "1970-01-02", Some(vec![1, 0])),
            ("Date", "2013-02-29", None),
            ("Date", "2149-06-07", None),
            ("Date", "2013-2-01", None),
            ("Date32", "1969-12-31", Some(vec![255; 4])),
            ("DateTime", "2013-01-01T05:00:00Z", seconds(1_357_016_400)),
            ("DateTime('UTC')", "2013-01-01 24:00:00", None),
            ("DateTime", "1357016400", seconds(1_357_016_400)),
            (
                "DateTime",
                "2013-01-01T05:00:00.269Z",
                seconds(1_357_016_400),
            ),
            (
                "DateTime64(3, 'UTC')",
                "1970-01-01 00:00:01.25",
                Some(1250_i64.to_le_bytes().to_vec()),
            ),
            ("DateTime64(9)", "2300-01-01 00:00:00", None),
            ("FixedString(3)", "ab", Some(b"ab\0".to_vec())),
            ("FixedString(3)", "abcd", None),
            (
                "UUID",
                "00112233-4455-6677-8899-aAbBcCdDeEfF",
                Some(hex::decode("7766554433221100ffeeddccbbaa9988").unwrap()),
            ),
            ("UUID", "00112233445566778899aabbccddeeff", None),
            ("IPv4", "1.2.3.4", Some(vec![4, 3, 2, 1])),
            ("IPv4", "1.2.3.04", None),
            ("IPv6", "::1", Some((1_u128).to_be_bytes().to_vec())),
            ("Enum8('a' = 1, 'b' = -2)", "b", Some(vec![0xfe])),
            ("Enum16('a' = 1)", "a", Some(vec![1, 0])),
            ("Enum8('a' = 1)", "A", None),
            ("Nullable(UInt8)", "7", Some(vec![0, 7])),
        ] {
            assert_eq!(value(column_type, text), expected, "{column_type} {text}");
        }
    }

    #[test]
    fn a_table_with_a_type_of_another_kind_has_no_fast_path() {
        let known = |column_type| TypedTable::of(&columns(&["Int32", column_type])).is_some();
        assert!(known("LowCardinality(Nullable(String))"));
        for unknown in ["JSON", "BFloat16", "Array(JSON)"] {
            assert!(!known(unknown), "{unknown}");
        }
        let mut sign = columns(&["Int8"]);
        sign[0].allowed = vec![1, -1];
        assert!(TypedTable::of(&sign).is_none());
    }

    #[test]
    fn doubtful_rows_are_left_for_the_landing() {
        let table = TypedTable::of(&columns(&["UInt8", "Nullable(String)"])).unwrap();
        let mut mixed = block(&[
            &[Some("1"), Some("a")],
            &[Some("x"), Some("b")],
            &[None, None],
            &[Some("2"), None],
        ]);
        mixed.reject(b"raw", "why");
        let Sorted { typed, rest } = table.sort(&mut mixed);
        let expected = [
            b"\x02\x02".as_slice(),
            b"\x02c0\x05UInt8\x01\x02",
            b"\x02c1\x10Nullable(String)\x00\x01\x01a\x00",
        ];
        assert_eq!(typed.unwrap().concat(), expected.concat());
        let Rest::Some(rest) = rest else {
            panic!("some are doubtful");
        };
        assert_eq!(
            rows(&rest),
            [
                Row::values(&[Some("x"), Some("b")]),
                Row::values(&[None, None]),
                Row::rejected("raw", "why"),
            ]
        );
        assert_eq!(rest.imports().collect::<Vec<_>>(), ["i"]);
    }

    #[test]
    fn imports_without_doubtful_rows_are_not_asked_about() {
        let table = TypedTable::of(&columns(&["UInt8"])).unwrap();
        let mut first = Block::new(layout(1), "clean");
        first.value(0, Some(b"1"));
        first.end_row(b"");
        let mut second = Block::new(layout(1), "dirty");
        second.value(0, Some(b"?"));
        second.end_row(b"");
        first.append(second);
        let Rest::Some(rest) = table.sort(&mut first).rest else {
            panic!("some are doubtful");
        };
        assert_eq!(rest.imports().collect::<Vec<_>>(), ["dirty"]);
        let clean = table.sort(&mut block(&[&[Some("7")]]));
        assert!(clean.typed.is_some() && matches!(clean.rest, Rest::Nothing));
        assert!(
            table
                .sort(&mut Block::new(layout(1), "empty"))
                .typed
                .is_none()
        );
    }

    #[test]
    fn typed_rows_are_no_larger_than_their_block_says() {
        let columns = columns(&["Nullable(Int64)"; 20]);
        let table = TypedTable::of(&columns).unwrap();
        let mut block = Block::new(Layout::new(&columns, table.row_bytes()), "i");
        for _ in 0..1000 {
            (0..20).for_each(|column| block.value(column, None));
            block.end_row(b"");
        }
        let size = block.size();
        let typed = table.sort(&mut block).typed.unwrap().concat().len();
        assert!(typed <= size, "{typed} > {size}");
    }

    #[test]
    fn nested_values_are_no_larger_than_their_block_says() {
        let columns = columns(&["Array(Int64)", "Map(String, Array(UInt8))"]);
        let table = TypedTable::of(&columns).unwrap();
        let mut block = Block::new(Layout::new(&columns, table.row_bytes()), "i");
        for _ in 0..100 {
            block.value(0, Some(b"[1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0]"));
            block.value(1, Some(b"{'':[],'a':[],'b':[1]}"));
            block.end_row(b"");
        }
        let size = block.size();
        let typed = table.sort(&mut block).typed.unwrap().concat().len();
        assert!(typed <= size, "{typed} > {size}");
    }
}

//! The fast path: fields that are certain to convert become typed columns here,
//! and their rows go straight into the table.
//!
//! The landing table's views decide what a text means. Here only spellings are
//! taken of which there is no doubt what they decide; rows with any other field
//! are left for the landing, so the result is the same and only the way shorter.
//! Whether it is the same, `tests/real/fast_path.rs` asks ClickHouse.

use super::block::{Block, Column, Pieces};
use aviary_crds::published::PublishedColumn;

/// The columns of a table, if every one of them has a type that is known here and
/// takes all values of it.
#[derive(Debug)]
pub(super) struct TypedTable(Vec<TypedColumn>);

#[derive(Debug, PartialEq, Eq)]
struct TypedColumn {
    name: String,
    kind: Kind,
    nullable: bool,
    /// The type without `LowCardinality`, which ClickHouse adds as it reads.
    sent_type: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Signed {
        bytes: usize,
    },
    Unsigned {
        bytes: usize,
    },
    Single,
    Double,
    Bool,
    Date,
    /// Seconds since 1970, in UTC.
    DateTime,
    /// So many digits after the seconds.
    DateTime64 {
        digits: u32,
    },
}

/// A block, taken apart.
pub(super) struct Sorted {
    /// Rows for the table in `Native` format, if there are any.
    pub(super) typed: Option<Vec<bytes::Bytes>>,
    /// Rows for the landing, if there are any.
    pub(super) rest: Option<Block>,
}

impl TypedTable {
    pub(super) fn of(columns: &[PublishedColumn]) -> Option<Self> {
        columns
            .iter()
            .map(TypedColumn::of)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Bytes that a row takes beside its texts while it is made a typed one, at most.
    pub(super) fn row_bytes(&self) -> usize {
        self.0.iter().map(|column| column.kind.width()).sum()
    }

    /// Takes the rows that are certain out of a block.
    pub(super) fn sort(&self, mut block: Block) -> Sorted {
        let mut doubtful: Vec<bool> = block.rejected().collect();
        let mut values: Vec<Values> = self
            .0
            .iter()
            .zip(&block.columns)
            .map(|(column, texts)| column.values(texts, &mut doubtful))
            .collect();
        let doubts = doubtful.iter().filter(|doubtful| **doubtful).count();
        if doubts == block.rows() {
            return Sorted {
                typed: None,
                rest: (doubts > 0).then_some(block),
            };
        }
        let certain = block.rows() - doubts;
        if doubts == 0 {
            let texts = std::mem::take(&mut block.columns);
            return Sorted {
                typed: Some(self.encode(values, texts, certain)),
                rest: None,
            };
        }
        let keep: Vec<bool> = doubtful.iter().map(|doubtful| !doubtful).collect();
        for column in &mut values {
            column.retain(&keep);
        }
        let texts = block
            .columns
            .iter()
            .map(|column| column.filtered(&keep))
            .collect();
        Sorted {
            typed: Some(self.encode(values, texts, certain)),
            rest: Some(block.filtered(&doubtful)),
        }
    }

    fn encode(&self, values: Vec<Values>, texts: Vec<Column>, rows: usize) -> Vec<bytes::Bytes> {
        let mut pieces = Pieces::default();
        pieces.number(self.0.len());
        pieces.number(rows);
        for ((column, values), texts) in self.0.iter().zip(values).zip(texts) {
            pieces.text(&column.name);
            pieces.text(&column.sent_type);
            if column.nullable {
                pieces.bytes(texts.nulls);
            }
            pieces.bytes(match values {
                Values::Texts => texts.texts.0,
                Values::Fixed { bytes, .. } => bytes,
            });
        }
        pieces.finish()
    }
}

/// The typed values of a column.
enum Values {
    /// The texts themselves.
    Texts,
    /// So many bytes each, least significant first.
    Fixed { width: usize, bytes: Vec<u8> },
}

impl Values {
    fn retain(&mut self, keep: &[bool]) {
        if let Self::Fixed { width, bytes } = self {
            let kept = bytes.chunks_exact(*width).zip(keep);
            *bytes = kept
                .filter(|(_, keep)| **keep)
                .flat_map(|(value, _)| value)
                .copied()
                .collect();
        }
    }
}

impl TypedColumn {
    fn of(column: &PublishedColumn) -> Option<Self> {
        if !column.allowed.is_empty() {
            return None;
        }
        let inside = |text: &'_ str, wrapper: &str| -> Option<String> {
            let inner = text.strip_prefix(wrapper)?.strip_suffix(')')?;
            Some(inner.to_owned())
        };
        let stored = column.column_type.clone();
        let sent_type = inside(&stored, "LowCardinality(").unwrap_or(stored);
        let inner = inside(&sent_type, "Nullable(");
        let kind = Kind::of(inner.as_deref().unwrap_or(&sent_type))?;
        Some(Self {
            name: column.name.clone(),
            kind,
            nullable: inner.is_some(),
            sent_type,
        })
    }

    /// Converts every text, and marks the rows whose text is not certain.
    fn values(&self, column: &Column, doubtful: &mut [bool]) -> Values {
        match self.kind {
            Kind::Text => {
                if !self.nullable {
                    for (doubtful, null) in doubtful.iter_mut().zip(&column.nulls) {
                        *doubtful |= *null != 0;
                    }
                }
                Values::Texts
            }
            Kind::Signed { bytes: 1 } => self.fixed(column, doubtful, |text| {
                Some(i8::try_from(signed(text)?).ok()?.to_le_bytes())
            }),
            Kind::Signed { bytes: 2 } => self.fixed(column, doubtful, |text| {
                Some(i16::try_from(signed(text)?).ok()?.to_le_bytes())
            }),
            Kind::Signed { bytes: 4 } => self.fixed(column, doubtful, |text| {
                Some(i32::try_from(signed(text)?).ok()?.to_le_bytes())
            }),
            Kind::Signed { .. } => {
                self.fixed(column, doubtful, |text| Some(signed(text)?.to_le_bytes()))
            }
            Kind::Unsigned { bytes: 1 } => self.fixed(column, doubtful, |text| {
                Some(u8::try_from(unsigned(text)?).ok()?.to_le_bytes())
            }),
            Kind::Unsigned { bytes: 2 } => self.fixed(column, doubtful, |text| {
                Some(u16::try_from(unsigned(text)?).ok()?.to_le_bytes())
            }),
            Kind::Unsigned { bytes: 4 } => self.fixed(column, doubtful, |text| {
                Some(u32::try_from(unsigned(text)?).ok()?.to_le_bytes())
            }),
            Kind::Unsigned { .. } => {
                self.fixed(column, doubtful, |text| Some(unsigned(text)?.to_le_bytes()))
            }
            Kind::Single => self.fixed(column, doubtful, |text| {
                let value: f32 = decimal(text)?.parse().ok()?;
                value.is_finite().then(|| value.to_le_bytes())
            }),
            Kind::Double => self.fixed(column, doubtful, |text| {
                let value: f64 = decimal(text)?.parse().ok()?;
                value.is_finite().then(|| value.to_le_bytes())
            }),
            Kind::Bool => self.fixed(column, doubtful, |text| match text {
                b"true" => Some([1]),
                b"false" => Some([0]),
                _ => None,
            }),
            Kind::Date => self.fixed(column, doubtful, |text| {
                Some(u16::try_from(day(text)?).ok()?.to_le_bytes())
            }),
            Kind::DateTime => self.fixed(column, doubtful, |text| {
                let (seconds, fraction) = point_in_time(text)?;
                let whole = fraction.is_empty().then_some(seconds)?;
                Some(u32::try_from(whole).ok()?.to_le_bytes())
            }),
            Kind::DateTime64 { digits } => self.fixed(column, doubtful, |text| {
                let (seconds, fraction) = point_in_time(text)?;
                Some(ticks(seconds, fraction, digits)?.to_le_bytes())
            }),
        }
    }

    fn fixed<const WIDTH: usize>(
        &self,
        column: &Column,
        doubtful: &mut [bool],
        read: impl Fn(&[u8]) -> Option<[u8; WIDTH]>,
    ) -> Values {
        let mut bytes = Vec::with_capacity(doubtful.len() * WIDTH);
        let fields = column.texts.iter().zip(&column.nulls).zip(doubtful);
        for ((text, null), doubtful) in fields {
            let value = if *null == 0 {
                read(text)
            } else {
                self.nullable.then_some([0; WIDTH])
            };
            *doubtful |= value.is_none();
            bytes.extend_from_slice(&value.unwrap_or([0; WIDTH]));
        }
        Values::Fixed {
            width: WIDTH,
            bytes,
        }
    }
}

impl Kind {
    /// Bytes of a value; texts stay where they are.
    fn width(self) -> usize {
        match self {
            Self::Text => 0,
            Self::Signed { bytes } | Self::Unsigned { bytes } => bytes,
            Self::Bool => 1,
            Self::Date => 2,
            Self::Single | Self::DateTime => 4,
            Self::Double | Self::DateTime64 { .. } => 8,
        }
    }

    fn of(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "String" => Self::Text,
            "Int8" => Self::Signed { bytes: 1 },
            "Int16" => Self::Signed { bytes: 2 },
            "Int32" => Self::Signed { bytes: 4 },
            "Int64" => Self::Signed { bytes: 8 },
            "UInt8" => Self::Unsigned { bytes: 1 },
            "UInt16" => Self::Unsigned { bytes: 2 },
            "UInt32" => Self::Unsigned { bytes: 4 },
            "UInt64" => Self::Unsigned { bytes: 8 },
            "Float32" => Self::Single,
            "Float64" => Self::Double,
            "Bool" => Self::Bool,
            "Date" => Self::Date,
            // Texts without an offset are in the column's zone, which is UTC if none is given.
            "DateTime" | "DateTime('UTC')" => Self::DateTime,
            _ => {
                let arguments = type_name.strip_prefix("DateTime64(")?.strip_suffix(')')?;
                let digits = match arguments.split_once(',') {
                    Some((digits, zone)) if zone.trim() == "'UTC'" => digits,
                    Some(_) => return None,
                    None => arguments,
                };
                Self::DateTime64 {
                    digits: digits.trim().parse().ok().filter(|digits| *digits <= 9)?,
                }
            }
        })
    }
}

/// Digits, as many as cannot overflow.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + u64::from(digit))
    })
}

fn unsigned(text: &[u8]) -> Option<u64> {
    digits(text)
}

fn signed(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', rest @ ..] => Some(-digits(rest)?.cast_signed()),
        _ => Some(digits(text)?.cast_signed()),
    }
}

/// A number with an optional fraction and no exponent, for the standard library to round.
fn decimal(text: &[u8]) -> Option<&str> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, fraction) = match memchr::memchr(b'.', unsigned) {
        Some(point) => (&unsigned[..point], Some(&unsigned[point + 1..])),
        None => (unsigned, None),
    };
    let all_digits =
        |text: &[u8]| !text.is_empty() && text.len() <= 40 && text.iter().all(u8::is_ascii_digit);
    let plain = all_digits(whole) && fraction.is_none_or(all_digits);
    plain.then(|| std::str::from_utf8(text).ok()).flatten()
}

/// `YYYY-MM-DD` as days since 1970.
fn day(text: &[u8]) -> Option<i64> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    let year = digits(&[y1, y2, y3, y4])? as i64;
    let month = digits(&[m1, m2])? as i64;
    let day = digits(&[d1, d2])? as i64;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=2149).contains(&year) || !(1..=last).contains(&day) {
        return None;
    }
    // Years that begin in March put the leap day at the end, where it moves no other day.
    let shifted = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468)
}

/// `YYYY-MM-DD hh:mm:ss[.fraction]`, with `T` for the space or `Z` at the end, as
/// seconds since 1970 and the digits of the fraction.
fn point_in_time(text: &[u8]) -> Option<(i64, &[u8])> {
    let text = text.strip_suffix(b"Z").unwrap_or(text);
    let (date, time) = text.split_at_checked(10)?;
    let (&[b'T' | b' ', h1, h2, b':', m1, m2, b':', s1, s2], fraction) =
        time.split_first_chunk::<9>()?
    else {
        return None;
    };
    let fraction = match fraction {
        [] => fraction,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => digits,
        _ => return None,
    };
    let hour = digits(&[h1, h2]).filter(|hour| *hour < 24)? as i64;
    let minute = digits(&[m1, m2]).filter(|minute| *minute < 60)? as i64;
    let second = digits(&[s1, s2]).filter(|second| *second < 60)? as i64;
    Some((
        day(date)? * 86400 + hour * 3600 + minute * 60 + second,
        fraction,
    ))
}

/// A point in time in units of the column's last digit; more digits than it has are not certain.
fn ticks(seconds: i64, fraction: &[u8], precision: u32) -> Option<i64> {
    let missing = precision.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let fraction = if fraction.is_empty() {
        0
    } else {
        digits(fraction)?.cast_signed() * 10_i64.pow(missing)
    };
    seconds
        .checked_mul(10_i64.pow(precision))?
        .checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::super::block::Layout;
    use super::super::block::testing::{Row, layout, rows};
    use super::*;
    use jiff::civil::date;

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
            block.end_row();
        }
        block
    }

    /// The value of one field, if it is certain.
    fn value(column_type: &str, text: &str) -> Option<Vec<u8>> {
        let column = TypedColumn::of(&columns(&[column_type])[0]).unwrap();
        let block = block(&[&[Some(text)]]);
        let mut doubtful = vec![false];
        let values = column.values(&block.columns[0], &mut doubtful);
        let Values::Fixed { bytes, .. } = values else {
            panic!("{column_type} is text");
        };
        (!doubtful[0]).then_some(bytes)
    }

    #[test]
    fn only_certain_spellings_have_a_value() {
        for (column_type, text, expected) in [
            ("Int8", "-128", Some(vec![0x80])),
            ("Int8", "128", None),
            ("Int32", "+1", None),
            ("Int32", "1.0", None),
            ("Int32", "", None),
            ("Int64", "-5", Some((-5_i64).to_le_bytes().to_vec())),
            ("Int64", "9223372036854775808", None),
            ("UInt16", "65535", Some(vec![0xff, 0xff])),
            ("UInt16", "-1", None),
            ("Float64", "-12.5", Some((-12.5_f64).to_le_bytes().to_vec())),
            ("Float64", "1e3", None),
            ("Float64", "nan", None),
            ("Float64", ".5", None),
            ("Float32", "0.1", Some(0.1_f32.to_le_bytes().to_vec())),
            ("Bool", "true", Some(vec![1])),
            ("Bool", "True", None),
            ("Date", "1970-01-02", Some(vec![1, 0])),
            ("Date", "2013-02-29", None),
            ("Date", "2149-06-07", None),
            ("Date", "2013-2-01", None),
            (
                "DateTime",
                "2013-01-01T05:00:00Z",
                Some(1_357_016_400_u32.to_le_bytes().to_vec()),
            ),
            ("DateTime('UTC')", "2013-01-01 24:00:00", None),
            ("DateTime", "2013-01-01 05:00:00.5", None),
            ("DateTime", "1357016400", None),
            (
                "DateTime64(3, 'UTC')",
                "1970-01-01 00:00:01.25",
                Some(1250_i64.to_le_bytes().to_vec()),
            ),
            ("DateTime64(3)", "1970-01-01 00:00:01.2501", None),
            ("DateTime64(9)", "2300-01-01 00:00:00", None),
        ] {
            assert_eq!(value(column_type, text), expected, "{column_type} {text}");
        }
    }

    #[test]
    fn days_are_counted_as_the_calendar_has_them() {
        let mut expected = date(1970, 1, 1);
        for count in 0..65_536_i64 {
            assert_eq!(day(expected.to_string().as_bytes()), Some(count));
            expected = expected.tomorrow().unwrap();
        }
    }

    #[test]
    fn a_table_with_a_type_of_another_kind_has_no_fast_path() {
        let known = |column_type| TypedTable::of(&columns(&["Int32", column_type])).is_some();
        assert!(known("LowCardinality(Nullable(String))"));
        for unknown in [
            "Decimal(9, 2)",
            "Array(String)",
            "DateTime('Europe/Vienna')",
            "DateTime64(3, 'Asia/Tokyo')",
            "Int128",
            "SimpleAggregateFunction(sum, Int64)",
        ] {
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
        let Sorted { typed, rest } = table.sort(mixed);
        let expected = [
            b"\x02\x02".as_slice(),
            b"\x02c0\x05UInt8\x01\x02",
            b"\x02c1\x10Nullable(String)\x00\x01\x01a\x00",
        ];
        assert_eq!(typed.unwrap().concat(), expected.concat());
        let rest = rest.unwrap();
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
        first.end_row();
        let mut second = Block::new(layout(1), "dirty");
        second.value(0, Some(b"?"));
        second.end_row();
        first.append(second);
        let rest = table.sort(first).rest.unwrap();
        assert_eq!(rest.imports().collect::<Vec<_>>(), ["dirty"]);
        let clean = table.sort(block(&[&[Some("7")]]));
        assert!(clean.typed.is_some() && clean.rest.is_none());
        assert!(table.sort(Block::new(layout(1), "empty")).typed.is_none());
    }

    #[test]
    fn typed_rows_are_no_larger_than_their_block_says() {
        let columns = columns(&["Nullable(Int64)"; 20]);
        let table = TypedTable::of(&columns).unwrap();
        let mut block = Block::new(Layout::new(&columns, table.row_bytes()), "i");
        for _ in 0..1000 {
            (0..20).for_each(|column| block.value(column, None));
            block.end_row();
        }
        let size = block.size();
        let typed = table.sort(block).typed.unwrap().concat().len();
        assert!(typed <= size, "{typed} > {size}");
    }
}

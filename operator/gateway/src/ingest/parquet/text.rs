//! Values of a Parquet file as the text that ClickHouse reads.

use super::super::typed::Kind;
use half::f16;
use jiff::Timestamp;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::data_type::Int96;
use parquet::schema::types::ColumnDescriptor;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How the values of a column are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// As they are.
    Plain,
    Unsigned,
    /// Days since 1970.
    Date,
    /// So many of these a second since 1970, in UTC or in no particular zone.
    Timestamp {
        per_second: i64,
        utc: bool,
    },
    /// So many digits after the point.
    Decimal {
        scale: usize,
    },
    Uuid,
    Float16,
    /// Least significant byte first.
    WideInteger {
        signed: bool,
    },
    Ipv4,
    Ipv6,
}

const NANOSECONDS: i64 = 1_000_000_000;
/// Bytes of a decimal; the widest type of ClickHouse has 32.
const LONGEST_DECIMAL: usize = 128;
/// Digits after its point.
const MOST_DECIMALS: usize = 1024;

impl Style {
    /// Parquet has no name for some of ClickHouse's types; what it writes for them is known
    /// by the column of the table for which it is read.
    pub(super) fn of(column: &ColumnDescriptor, target: Option<&Kind>) -> Self {
        let is_raw = |length: usize| {
            column.physical_type() == PhysicalType::FIXED_LEN_BYTE_ARRAY
                && column.type_length() == length as i32
                && column.logical_type_ref().is_none()
                && column.converted_type() == ConvertedType::NONE
        };
        match target {
            Some(Kind::Signed { bytes }) if is_raw(*bytes) => Self::WideInteger { signed: true },
            Some(Kind::Unsigned { bytes }) if is_raw(*bytes) => Self::WideInteger { signed: false },
            Some(Kind::Ipv6) if is_raw(16) => Self::Ipv6,
            Some(Kind::Ipv4) if column.physical_type() == PhysicalType::INT32 => Self::Ipv4,
            _ => Self::annotated(column),
        }
    }

    fn annotated(column: &ColumnDescriptor) -> Self {
        let scale = column.type_scale().max(0) as usize;
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Timestamp(timestamp)), _) => Self::Timestamp {
                per_second: match timestamp.unit {
                    TimeUnit::MILLIS => 1_000,
                    TimeUnit::MICROS => 1_000_000,
                    TimeUnit::NANOS => NANOSECONDS,
                },
                utc: timestamp.is_adjusted_to_u_t_c,
            },
            (Some(LogicalType::Decimal(_)), _) | (_, ConvertedType::DECIMAL) => {
                Self::Decimal { scale }
            }
            (Some(LogicalType::Integer(integer)), _) if !integer.is_signed => Self::Unsigned,
            (Some(LogicalType::Date), _) | (_, ConvertedType::DATE) => Self::Date,
            (Some(LogicalType::Uuid), _) => Self::Uuid,
            (Some(LogicalType::Float16), _) => Self::Float16,
            (_, ConvertedType::TIMESTAMP_MILLIS) => Self::Timestamp {
                per_second: 1_000,
                utc: true,
            },
            (_, ConvertedType::TIMESTAMP_MICROS) => Self::Timestamp {
                per_second: 1_000_000,
                utc: true,
            },
            (
                _,
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64,
            ) => Self::Unsigned,
            _ => Self::Plain,
        }
    }

    pub(super) fn int32(self, value: i32, text: &mut Vec<u8>) {
        match self {
            Self::Unsigned => write(text, value.cast_unsigned()),
            Self::Ipv4 => write(text, Ipv4Addr::from_bits(value.cast_unsigned())),
            other => other.int64(value.into(), text),
        }
    }

    pub(super) fn int64(self, value: i64, text: &mut Vec<u8>) {
        match self {
            Self::Unsigned => write(text, value.cast_unsigned()),
            Self::Date => date(value, text),
            Self::Timestamp { per_second, utc } => timestamp(
                i128::from(value) * i128::from(NANOSECONDS / per_second),
                utc,
                text,
            ),
            Self::Decimal { scale } => decimal(&value.to_be_bytes(), scale, text),
            Self::Plain
            | Self::Uuid
            | Self::Float16
            | Self::WideInteger { .. }
            | Self::Ipv4
            | Self::Ipv6 => write(text, value),
        }
    }

    pub(super) fn bytes(self, value: &[u8], text: &mut Vec<u8>) {
        match (self, value) {
            (Self::Decimal { scale }, _) => decimal(value, scale, text),
            (Self::Float16, &[low, high]) => {
                float(f16::from_le_bytes([low, high]).into(), text);
            }
            (Self::Uuid, _) if value.len() == 16 => {
                let uuid = uuid::Uuid::from_slice(value).unwrap_or_default();
                write(text, uuid.hyphenated());
            }
            (Self::WideInteger { signed }, _) => {
                let mut digits = value.to_vec();
                if !signed {
                    digits.push(0);
                }
                digits.reverse();
                decimal(&digits, 0, text);
            }
            (Self::Ipv6, _) => match <[u8; 16]>::try_from(value) {
                Ok(bytes) => write(text, Ipv6Addr::from(bytes)),
                Err(_) => text.extend_from_slice(value),
            },
            _ => text.extend_from_slice(value),
        }
    }
}

pub(super) fn boolean(value: bool, text: &mut Vec<u8>) {
    text.extend_from_slice(if value { b"true" } else { b"false" });
}

pub(super) fn int96(value: &Int96, text: &mut Vec<u8>) {
    timestamp(i128::from(value.to_nanos()), true, text);
}

/// What is so large that it may stand for another whole number has an exponent, by
/// which columns of whole numbers know it.
pub(super) fn float(value: f32, text: &mut Vec<u8>) {
    if value.is_finite() && value.abs() > (1_u32 << f32::MANTISSA_DIGITS) as f32 {
        write(text, format_args!("{value:e}"));
    } else {
        write(text, format_args!("{value:?}"));
    }
}

pub(super) fn double(value: f64, text: &mut Vec<u8>) {
    if value.is_finite() && value.abs() > (1_u64 << f64::MANTISSA_DIGITS) as f64 {
        write(text, format_args!("{value:e}"));
    } else {
        write(text, format_args!("{value:?}"));
    }
}

fn write(text: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to memory does not fail.
    let _ = write!(text, "{value}");
}

fn date(days: i64, text: &mut Vec<u8>) {
    match Timestamp::from_second(days.saturating_mul(86_400)) {
        Ok(midnight) => write(text, midnight.to_zoned(jiff::tz::TimeZone::UTC).date()),
        // Beyond the year 9999 there is no such text; the number is refused as what it is.
        Err(_) => write(text, days),
    }
}

/// With a `Z` where the time is one in UTC: without, ClickHouse takes it as one
/// of the column's zone.
fn timestamp(nanoseconds: i128, utc: bool, text: &mut Vec<u8>) {
    match Timestamp::from_nanosecond(nanoseconds) {
        Ok(instant) => {
            let moment = instant.to_zoned(jiff::tz::TimeZone::UTC).datetime();
            write(
                text,
                format_args!(
                    "{} {}{}",
                    moment.date(),
                    moment.time(),
                    if utc { "Z" } else { "" }
                ),
            );
        }
        Err(_) => write(text, nanoseconds),
    }
}

/// A number in two's complement, most significant byte first. What is far beyond
/// every type's digits is written as its bytes: to find so many would take for ever.
fn decimal(bytes: &[u8], scale: usize, text: &mut Vec<u8>) {
    if bytes.len() > LONGEST_DECIMAL || scale > MOST_DECIMALS {
        write(text, format_args!("0x{}", hex::encode(bytes)));
        return;
    }
    let negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    let mut magnitude = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
        text.push(b'-');
    }
    let mut digits = digits(magnitude);
    while digits.len() <= scale {
        digits.push(b'0');
    }
    digits.reverse();
    let point = digits.len() - scale;
    text.extend_from_slice(&digits[..point]);
    if scale > 0 {
        text.push(b'.');
        text.extend_from_slice(&digits[point..]);
    }
}

/// The decimal digits of a number, least significant first.
fn digits(mut magnitude: Vec<u8>) -> Vec<u8> {
    let mut digits = Vec::new();
    while magnitude.iter().any(|&byte| byte != 0) {
        let mut remainder = 0_u16;
        for byte in &mut magnitude {
            let dividend = (remainder << 8) | u16::from(*byte);
            *byte = (dividend / 10) as u8;
            remainder = dividend % 10;
        }
        digits.push(b'0' + remainder as u8);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn numbers_and_times() {
        assert_eq!(
            written(|text| Style::Unsigned.int32(-1, text)),
            "4294967295"
        );
        assert_eq!(written(|text| Style::Date.int32(-1, text)), "1969-12-31");
        assert_eq!(
            written(|text| Style::Date.int32(i32::MAX, text)),
            "2147483647"
        );
        let nanoseconds = Style::Timestamp {
            per_second: NANOSECONDS,
            utc: false,
        };
        assert_eq!(
            written(|text| nanoseconds.int64(1, text)),
            "1970-01-01 00:00:00.000000001"
        );
        assert_eq!(
            written(|text| nanoseconds.int64(0, text)),
            "1970-01-01 00:00:00"
        );
        assert_eq!(
            written(|text| Style::Uuid.bytes(&[0x11; 16], text)),
            "11111111-1111-1111-1111-111111111111"
        );
    }

    #[test]
    fn whole_floats_are_written_as_such_while_they_are_exact() {
        let exact = 9_007_199_254_740_992.0;
        assert_eq!(written(|text| double(3.0, text)), "3.0");
        assert_eq!(written(|text| double(-exact, text)), "-9007199254740992.0");
        assert_eq!(
            written(|text| double(exact + 2.0, text)),
            "9.007199254740994e15"
        );
        assert_eq!(written(|text| double(f64::NAN, text)), "NaN");
        assert_eq!(written(|text| double(f64::INFINITY, text)), "inf");
        assert_eq!(written(|text| float(16_777_216.0, text)), "16777216.0");
        assert_eq!(written(|text| float(16_777_218.0, text)), "1.6777218e7");
    }

    #[test]
    fn what_parquet_has_no_name_for() {
        let wide =
            |signed, bytes: &[u8]| written(|text| Style::WideInteger { signed }.bytes(bytes, text));
        assert_eq!(wide(true, &(-5_i128).to_le_bytes()), "-5");
        assert_eq!(wide(true, &i128::MIN.to_le_bytes()), i128::MIN.to_string());
        assert_eq!(wide(false, &u128::MAX.to_le_bytes()), u128::MAX.to_string());
        assert_eq!(wide(false, &[0; 32]), "0");
        assert_eq!(
            written(|text| Style::Ipv4.int32(-1, text)),
            "255.255.255.255"
        );
        let address = 1_u128.to_be_bytes();
        assert_eq!(written(|text| Style::Ipv6.bytes(&address, text)), "::1");
    }

    #[test]
    fn decimals() {
        let decimal =
            |value: i64, scale| written(|text| Style::Decimal { scale }.int64(value, text));
        assert_eq!(decimal(12345, 2), "123.45");
        assert_eq!(decimal(-5, 3), "-0.005");
        assert_eq!(decimal(0, 0), "0");
        assert_eq!(decimal(i64::MIN, 0), "-9223372036854775808");
        let wide = written(|text| Style::Decimal { scale: 1 }.bytes(&[0x7f; 32], text));
        assert_eq!(wide.len(), 78);
        let endless = vec![0x7f; 1 << 20];
        let long = written(|text| Style::Decimal { scale: 1 }.bytes(&endless, text));
        assert!(long.starts_with("0x7f7f") && long.len() == 2 + (2 << 20));
        let small = Style::Decimal { scale: 1 << 30 };
        assert_eq!(written(|text| small.bytes(&[1], text)), "0x01");
    }
}

//! One value's text as the bytes that `Native` has for it.

use super::kind::Kind;
use super::number::{float_text, write_decimal, write_integer};
use super::time::{DATE_YEARS, WIDE_YEARS, day, second, ticks};
use std::net::{Ipv4Addr, Ipv6Addr};
use uuid::Uuid;

/// Writes the value of a text if it is certain; otherwise writes nothing.
pub(super) fn write(kind: &Kind, text: &[u8], output: &mut Vec<u8>) -> Option<()> {
    match kind {
        Kind::Signed { bytes } => return write_integer(text, *bytes, true, output),
        Kind::Unsigned { bytes } => return write_integer(text, *bytes, false, output),
        Kind::Decimal {
            bytes,
            precision,
            scale,
        } => return write_decimal(text, *bytes, *precision, *scale, output),
        Kind::Single => {
            let value: f32 = float_text(text)?.parse().ok()?;
            put(output, value.is_finite().then(|| value.to_le_bytes())?);
        }
        Kind::Double => {
            let value: f64 = float_text(text)?.parse().ok()?;
            put(output, value.is_finite().then(|| value.to_le_bytes())?);
        }
        Kind::Bool => match text {
            b"true" => output.push(1),
            b"false" => output.push(0),
            _ => return None,
        },
        Kind::Date => put(
            output,
            u16::try_from(day(text, DATE_YEARS)?).ok()?.to_le_bytes(),
        ),
        Kind::Date32 => put(
            output,
            i32::try_from(day(text, WIDE_YEARS)?).ok()?.to_le_bytes(),
        ),
        Kind::DateTime { zone } => put(output, second(text, *zone)?.to_le_bytes()),
        Kind::DateTime64 { digits, zone } => {
            put(output, ticks(text, *digits, *zone)?.to_le_bytes());
        }
        Kind::Uuid => put(output, uuid(text)?),
        Kind::Ipv4 => {
            let address: Ipv4Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
            put(output, address.to_bits().to_le_bytes());
        }
        Kind::Ipv6 => {
            let address: Ipv6Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
            put(output, address.octets());
        }
        Kind::Enum { bytes, numbers } => {
            let number = numbers.get(text)?.to_le_bytes();
            output.extend_from_slice(&number[..*bytes]);
        }
        Kind::FixedText { length } => {
            let missing = length.checked_sub(text.len())?;
            output.extend_from_slice(text);
            output.extend(std::iter::repeat_n(0, missing));
        }
        Kind::Text | Kind::Nullable(_) | Kind::Array(_) | Kind::Map(_) | Kind::Tuple(_) => {
            return None;
        }
    }
    Some(())
}

fn put<const WIDTH: usize>(output: &mut Vec<u8>, value: [u8; WIDTH]) {
    output.extend_from_slice(&value);
}

/// Two halves, each with its least significant byte first.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    // Other forms, such as the one without dashes, are not certain.
    let value = (text.len() == 36).then(|| Uuid::try_parse_ascii(text).ok())??;
    let mut bytes = value.into_bytes();
    bytes[..8].reverse();
    bytes[8..].reverse();
    Some(bytes)
}

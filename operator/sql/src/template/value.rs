//! Values of parameters: is the text of a request a value of the type, what is
//! its canonical form, and how does ClickHouse want it as a bound parameter.

mod time;

use std::{borrow::Cow, cmp::Ordering};

use super::parameter::ScalarType;

/// The canonical form of a value, or nothing when the text is no value of the
/// type. Except for floats, equal values have equal canonical forms.
pub(super) fn canonical(kind: ScalarType, raw: &str) -> Option<Cow<'_, str>> {
    match kind {
        ScalarType::String => (!raw.contains('\0')).then_some(Cow::Borrowed(raw)),
        ScalarType::Integer { signed, bits } => integer(raw.trim(), signed, bits),
        ScalarType::Float32 => float(raw.trim(), |value| (value as f32).is_finite()),
        ScalarType::Float64 => float(raw.trim(), f64::is_finite),
        ScalarType::Boolean => boolean(raw.trim()),
        ScalarType::Uuid => uuid(raw.trim()),
        ScalarType::Date => time::day(raw.trim()).map(Cow::Owned),
        ScalarType::DateTime => time::second(raw.trim()).map(Cow::Owned),
        ScalarType::DateTime64 => time::microsecond(raw.trim()).map(Cow::Owned),
    }
}

/// What a value of the type looks like, for messages.
pub(super) fn expectation(kind: ScalarType) -> String {
    match kind {
        ScalarType::Integer { signed, bits } => {
            let maximum = maximum(signed, bits);
            if signed {
                format!("a whole number from -{} to {maximum}", minimum(bits))
            } else {
                format!("a whole number from 0 to {maximum}")
            }
        }
        ScalarType::Float32 | ScalarType::Float64 => "a finite number such as 1.5".to_owned(),
        ScalarType::String => "text without the NUL character".to_owned(),
        ScalarType::Date => "a date as YYYY-MM-DD, from 1970-01-01 to 2149-06-06".to_owned(),
        ScalarType::DateTime => {
            "a time as YYYY-MM-DD hh:mm:ss, in UTC or with an offset, from 1970-01-01 to 2106-02-07"
                .to_owned()
        }
        ScalarType::DateTime64 => {
            "a time as YYYY-MM-DD hh:mm:ss.ffffff, in UTC or with an offset, from 1900-01-01 to 2299-12-31"
                .to_owned()
        }
        ScalarType::Boolean => "true or false".to_owned(),
        ScalarType::Uuid => "a UUID such as 61f0c404-5cb3-11e7-907b-a6006ad3dba0".to_owned(),
    }
}

/// A value that every template type takes, for checks without a request.
pub(super) fn sample(kind: ScalarType) -> &'static str {
    match kind {
        ScalarType::Integer { .. } | ScalarType::Boolean => "1",
        ScalarType::Float32 | ScalarType::Float64 => "1.5",
        ScalarType::String => "x",
        ScalarType::Date => "2024-01-01",
        ScalarType::DateTime => "2024-01-01 00:00:00",
        ScalarType::DateTime64 => "2024-01-01 00:00:00.000000",
        ScalarType::Uuid => "61f0c404-5cb3-11e7-907b-a6006ad3dba0",
    }
}

/// The elements of a list that is written as one text, with commas between them.
/// An empty text is an empty list.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(move |_| !text.is_empty())
}

/// Writes a canonical value as ClickHouse reads the text of a bound parameter.
pub(super) fn write_scalar(kind: ScalarType, canonical: &str, output: &mut String) {
    match kind {
        ScalarType::String => escape_into(canonical, output),
        _ => output.push_str(canonical),
    }
}

/// Writes canonical elements as the text of a bound array parameter.
pub(super) fn write_element(kind: ScalarType, canonical: &str, output: &mut String) {
    output.push(if output.is_empty() { '[' } else { ',' });
    match kind {
        ScalarType::Integer { .. }
        | ScalarType::Float32
        | ScalarType::Float64
        | ScalarType::Boolean => output.push_str(canonical),
        _ => {
            output.push('\'');
            escape_into(canonical, output);
            output.push('\'');
        }
    }
}

/// Ends what [`write_element`] wrote.
pub(super) fn finish_array(output: &mut String) {
    output.push_str(if output.is_empty() { "[]" } else { "]" });
}

/// The escapes of ClickHouse's TabSeparated format, in which bound parameters
/// travel, and of its quoted texts inside arrays: one set serves both.
fn escape_into(text: &str, output: &mut String) {
    let mut copied = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'\\' => "\\\\",
            b'\'' => "\\'",
            b'\n' => "\\n",
            b'\t' => "\\t",
            b'\r' => "\\r",
            b'\0' => "\\0",
            _ => continue,
        };
        output.push_str(&text[copied..index]);
        output.push_str(escaped);
        copied = index + 1;
    }
    output.push_str(&text[copied..]);
}

/// How two canonical values of a type stand to each other.
pub(super) fn compare(kind: ScalarType, left: &str, right: &str) -> Ordering {
    match kind {
        ScalarType::Integer { .. } => compare_integers(left, right),
        ScalarType::Float32 | ScalarType::Float64 => {
            let number = |text: &str| text.parse::<f64>().unwrap_or_default();
            number(left).total_cmp(&number(right))
        }
        _ => left.cmp(right),
    }
}

/// Canonical integers have no leading zeros, so a longer one is greater.
fn compare_integers(left: &str, right: &str) -> Ordering {
    match (left.strip_prefix('-'), right.strip_prefix('-')) {
        (Some(left), Some(right)) => (right.len(), right).cmp(&(left.len(), left)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => (left.len(), left).cmp(&(right.len(), right)),
    }
}

/// Digits, and after a point only zeros: `3.0` is how programs write a whole number
/// that they hold as a float.
fn integer(raw: &str, signed: bool, bits: u16) -> Option<Cow<'_, str>> {
    let raw = match raw.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() => {
            zeros.bytes().all(|byte| byte == b'0').then_some(whole)?
        }
        _ => raw,
    };
    let (negative, digits) = match raw.as_bytes().first()? {
        b'-' => (true, &raw[1..]),
        b'+' => (false, &raw[1..]),
        _ => (false, raw),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = match digits.trim_start_matches('0') {
        "" => return Some(Cow::Borrowed("0")),
        significant => significant,
    };
    if negative && !signed {
        return None;
    }
    let limit = if negative {
        minimum(bits)
    } else {
        maximum(signed, bits)
    };
    if (digits.len(), digits) > (limit.len(), limit) {
        return None;
    }
    Some(match negative {
        true if raw.len() == digits.len() + 1 => Cow::Borrowed(raw),
        true => Cow::Owned(format!("-{digits}")),
        false => Cow::Borrowed(digits),
    })
}

/// The greatest magnitude of a negative integer of the width.
fn minimum(bits: u16) -> &'static str {
    match bits {
        8 => "128",
        16 => "32768",
        32 => "2147483648",
        64 => "9223372036854775808",
        128 => "170141183460469231731687303715884105728",
        _ => "57896044618658097711785492504343953926634992332820282019728792003956564819968",
    }
}

fn maximum(signed: bool, bits: u16) -> &'static str {
    match (signed, bits) {
        (true, 8) => "127",
        (true, 16) => "32767",
        (true, 32) => "2147483647",
        (true, 64) => "9223372036854775807",
        (true, 128) => "170141183460469231731687303715884105727",
        (true, _) => {
            "57896044618658097711785492504343953926634992332820282019728792003956564819967"
        }
        (false, 8) => "255",
        (false, 16) => "65535",
        (false, 32) => "4294967295",
        (false, 64) => "18446744073709551615",
        (false, 128) => "340282366920938463463374607431768211455",
        (false, _) => {
            "115792089237316195423570985008687907853269984665640564039457584007913129639935"
        }
    }
}

fn float(raw: &str, fits: impl Fn(f64) -> bool) -> Option<Cow<'_, str>> {
    // Rust's parser also takes words such as `inf` and `nan`.
    let plain = raw
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    let value: f64 = raw.parse().ok().filter(|_| plain)?;
    fits(value).then_some(Cow::Borrowed(raw))
}

fn boolean(raw: &str) -> Option<Cow<'_, str>> {
    let is_any = |words: [&str; 4]| words.iter().any(|word| raw.eq_ignore_ascii_case(word));
    if is_any(["1", "true", "yes", "on"]) {
        Some(Cow::Borrowed("1"))
    } else if is_any(["0", "false", "no", "off"]) {
        Some(Cow::Borrowed("0"))
    } else {
        None
    }
}

fn uuid(raw: &str) -> Option<Cow<'_, str>> {
    let well_formed = raw.len() == 36
        && raw.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if !well_formed {
        return None;
    }
    Some(if raw.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(raw.to_ascii_lowercase())
    } else {
        Cow::Borrowed(raw)
    })
}

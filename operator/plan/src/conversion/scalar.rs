//! Single values: numbers, times, texts of a kind. ClickHouse's own conversions are
//! almost strict; where they are not, the comment says what they let through.

use crate::column_type::{ColumnType, FloatWidth};
use aviary_sql::StringLiteral;

/// Texts that are a point in time: ISO 8601 with `T` or a space, with or without
/// seconds, fraction and offset, or seconds, milli-, micro- or nanoseconds since
/// 1970. Without this, ClickHouse's best-effort parser reads `5` as the fifth of
/// this month, `10:00` as a time in January, and carries `25:61` over.
const POINT_IN_TIME: &str = concat!(
    "^(?:19|2[0-2])[0-9]{2}-[0-9]{2}-[0-9]{2}",
    "(?:[ T](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,9})?)?",
    "(?: ?(?:Z|UTC|[+-](?:0[0-9]|1[0-4]):?(?:[0-5][0-9])?))?)?$",
    "|^[0-9]{9,10}(?:[.][0-9]{1,9})?$|^[0-9]{13}$|^[0-9]{16}$|^[0-9]{19}$"
);

/// A whole number that a program wrote which holds it as a float: nothing but zeros
/// after the point. An exponent is how such programs write what has lost digits.
const WHOLE_NUMBER: &str = "^([+-]?[0-9]+)[.]0+$";

/// A day that a program wrote which knows only points in time.
const MIDNIGHT: &str = "^([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]00:00:00(?:[.]0{1,9})?(?:Z|[+-]00:?00)?$";

/// An expression of the type `Nullable(value_type)` that is NULL where `text` is
/// NULL or not of the type.
pub(super) fn nullable(value_type: &ColumnType, text: &str) -> String {
    let type_name = value_type.to_string();
    let cast_of = |text: &str| format!("accurateCastOrNull({text}, {})", StringLiteral(&type_name));
    let cast = cast_of(text);
    match value_type {
        ColumnType::String => text.to_owned(),
        // Up to 64 bits out-of-range values are NULL. Wider ones wrap around, which
        // the digits that come back tell.
        ColumnType::Integer { bits: ..=64, .. } => cast_of(&first_group(text, WHOLE_NUMBER)),
        ColumnType::Integer { bits, .. } => {
            let always_fits = if *bits == 128 { 38 } else { 76 };
            let text = first_group(text, WHOLE_NUMBER);
            let cast = cast_of(&text);
            format!(
                "if(length({text}) <= {always_fits} OR toString({cast}) = {text}, {cast}, NULL)"
            )
        }
        // Overflow gives an infinity: it is a value only where the text says so.
        ColumnType::Float(FloatWidth::Brain16 | FloatWidth::Single | FloatWidth::Double) => {
            format!("if(isFinite({cast}) OR match({text}, '[fFyYnN]$'), {cast}, NULL)")
        }
        // Digits beyond the scale are cut off: only zeros may stand there. `.` is 0.
        ColumnType::Decimal { scale, .. } => {
            let plain = plain_decimal(*scale);
            format!(
                "if(match({text}, '{plain}') OR (match({text}, '[eE]') \
                 AND toFloat64OrNull({text}) = toFloat64({cast})), {cast}, NULL)"
            )
        }
        // The thirtieth of February becomes the first of March, and days out of
        // range the nearest one in it: the text that comes back tells.
        ColumnType::Date | ColumnType::Date32 => {
            let text = first_group(text, MIDNIGHT);
            let cast = cast_of(&text);
            format!("if(toString({cast}) = {text}, {cast}, NULL)")
        }
        // What is out of range becomes the nearest value in it, so the time is
        // parsed into the wider type first.
        ColumnType::DateTime { zone } => {
            let zone = StringLiteral(zone.as_deref().unwrap_or("UTC")).to_string();
            let parsed = format!("parseDateTime64BestEffortOrNull({text}, 3, {zone})");
            format!(
                "if(match({text}, '{POINT_IN_TIME}') AND toInt64({parsed}) BETWEEN 0 AND \
                 4294967295, toDateTime({parsed}, {zone}), NULL)"
            )
        }
        // With few digits the parser itself falls back to the narrower type.
        ColumnType::DateTime64 { precision, zone } => {
            let zone = StringLiteral(zone.as_deref().unwrap_or("UTC")).to_string();
            let digits = (*precision).max(3);
            let parsed = format!("parseDateTime64BestEffortOrNull({text}, {digits}, {zone})");
            let value = if digits == *precision {
                parsed
            } else {
                format!("toDateTime64({parsed}, {precision}, {zone})")
            };
            format!("if(match({text}, '{POINT_IN_TIME}'), {value}, NULL)")
        }
        // A name that the Enum does not have is an exception, `OrNull` or not.
        ColumnType::Enum { values, .. } => {
            let names: Vec<String> = values
                .iter()
                .map(|(name, _)| StringLiteral(name).to_string())
                .collect();
            let nullable_type = format!("Nullable({type_name})");
            format!(
                "CAST(if({text} IN ({}), {text}, NULL), {})",
                names.join(", "),
                StringLiteral(&nullable_type)
            )
        }
        ColumnType::FixedString(_)
        | ColumnType::Bool
        | ColumnType::Uuid
        | ColumnType::Ipv4
        | ColumnType::Ipv6
        | ColumnType::Json => cast,
        ColumnType::Nullable(inner)
        | ColumnType::LowCardinality(inner)
        | ColumnType::SimpleAggregate { stored: inner, .. } => nullable(inner, text),
        ColumnType::Array(_) | ColumnType::Map(..) | ColumnType::Tuple(_) => {
            unreachable!("composites are converted by `composite`")
        }
    }
}

/// What the pattern's first group has of a text, or the text where it does not match.
fn first_group(text: &str, pattern: &str) -> String {
    format!("replaceRegexpOne({text}, '{pattern}', '\\\\1')")
}

/// Digits, of which at most `scale` after the point are not zero.
fn plain_decimal(scale: u8) -> String {
    match scale {
        0 => "^[+-]?[0-9]+(?:[.]0*)?$".to_owned(),
        _ => format!("^[+-]?(?:[0-9]+(?:[.][0-9]{{0,{scale}}})?|[.][0-9]{{1,{scale}}})0*$"),
    }
}

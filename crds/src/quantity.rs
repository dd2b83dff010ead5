//! Durations, sizes and percentages as people write them in manifests:
//! `90d`, `1h30m`, `1Gi`, `500M`, `15%`.
//!
//! The text is kept as written, so that a manifest reads back as it was
//! applied. What the schema's pattern accepts, [`std::str::FromStr`] does too:
//! the digits are bounded so that no number overflows.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Text that is not a quantity, with the notation expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct QuantityError {
    text: String,
    expected: &'static str,
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $value:ty, $parse:path, $pattern:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            text: String,
            value: $value,
        }

        impl $name {
            /// The parsed value.
            pub fn get(&self) -> $value {
                self.value
            }
        }

        impl FromStr for $name {
            type Err = QuantityError;
            fn from_str(text: &str) -> Result<Self, QuantityError> {
                let value = $parse(text).ok_or_else(|| QuantityError {
                    text: text.chars().take(64).collect(),
                    expected: $expected,
                })?;
                Ok(Self { text: text.to_owned(), value })
            }
        }

        impl TryFrom<String> for $name {
            type Error = QuantityError;
            fn try_from(text: String) -> Result<Self, QuantityError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(quantity: $name) -> Self {
                quantity.text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.text)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "maxLength": 32 })
            }
        }
    };
}

quantity!(
    /// A span of time such as `10s`, `1h30m` or `90d`; units `ms s m h d w`, a day being 24 hours.
    Duration, std::time::Duration, parse_duration,
    r"^([0-9]{1,7}(ms|s|m|h|d|w))+$",
    "a duration such as `10s`, `1h30m` or `90d`"
);

quantity!(
    /// A number of bytes such as `512Mi`, `1Gi`, `20M` or `1048576`.
    ByteSize, u64, parse_bytes,
    r"^([0-9]{1,18}|[0-9]{1,15}(Ki|k)|[0-9]{1,12}(Mi|M)|[0-9]{1,9}(Gi|G)|[0-9]{1,6}(Ti|T)|[0-9]{1,3}(Pi|P))$",
    "a size such as `512Mi`, `1Gi` or `20M`"
);

quantity!(
    /// A share such as `15%`, from `0%` to `100%`.
    Percent, u8, parse_percent,
    r"^(100|[1-9]?[0-9])%$",
    "a percentage from `0%` to `100%`"
);

fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_length = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, tail) = after.split_at(unit_length);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(milliseconds)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| std::time::Duration::from_millis(total))
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn parse_percent(text: &str) -> Option<u8> {
    let digits = text.strip_suffix('%')?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let value: u8 = digits.parse().ok()?;
    (canonical && value <= 100 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(value)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("90d", 7_776_000_000),
            ("250ms", 250),
        ] {
            let parsed: Duration = text.parse().unwrap();
            assert_eq!(parsed.get().as_millis(), milliseconds, "{text}");
            assert_eq!(parsed.to_string(), text);
        }
        for bad in [
            "",
            "10",
            "s",
            "1y",
            "-1s",
            "1.5h",
            "99999999999999999999d",
            "9999999999999999999w",
        ] {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("1Ki", 1024), ("1k", 1000), ("2Gi", 2 << 30)] {
            assert_eq!(text.parse::<ByteSize>().unwrap().get(), bytes, "{text}");
        }
        for bad in ["", "Gi", "1Q", "1 Gi", "99999999999P"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    /// In status, sizes are signed 64-bit numbers.
    #[test]
    fn the_largest_that_the_schema_accepts_are_understood() {
        let longest = "9999999w".repeat(4);
        assert!(longest.parse::<Duration>().is_ok());
        for text in [
            "999999999999999999",
            "999999999999999Ki",
            "999999999999Mi",
            "999999999Gi",
            "999999Ti",
            "999Pi",
        ] {
            let bytes = text.parse::<ByteSize>().unwrap().get();
            assert!(i64::try_from(bytes).is_ok(), "{text}");
        }
    }

    #[test]
    fn percentages() {
        assert_eq!("0%".parse::<Percent>().unwrap().get(), 0);
        assert_eq!("100%".parse::<Percent>().unwrap().get(), 100);
        for bad in ["", "%", "101%", "05%", "+5%", "15"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_says_what_is_expected() {
        let error = "90".parse::<Duration>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`90` is not a duration such as `10s`, `1h30m` or `90d`"
        );
    }
}

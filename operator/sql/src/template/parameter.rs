//! A template's parameters as others see them: name, type, default and the words
//! for documentation.

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A parameter that a template takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// The name in the request.
    pub name: String,
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// The value when the request has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Whether a request without it fails, or the author says that it should be
    /// there.
    #[serde(default)]
    pub required: bool,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A value to show in documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
    /// The only values it takes; empty when all of the type will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "enum")]
    pub enumeration: Vec<Value>,
    /// A word about the form of the value, for documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// A value written in a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `True` or `False`.
    Boolean(bool),
    /// A whole number of up to 64 bits.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text, or a number too wide for the above.
    Text(String),
    /// Several values.
    List(Vec<Value>),
}

impl Display for Value {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(formatter, "{value}"),
            Self::Integer(value) => write!(formatter, "{value}"),
            Self::Float(value) => write!(formatter, "{value}"),
            Self::Text(value) => formatter.write_str(value),
            Self::List(values) => {
                for (index, value) in values.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    write!(formatter, "{separator}{value}")?;
                }
                Ok(())
            }
        }
    }
}

/// The type of a parameter, written as in templates: `Int32`, `Array(Date)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ParameterType {
    /// One value.
    Scalar(ScalarType),
    /// Any number of values.
    Array(ScalarType),
}

/// The type of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalarType {
    /// A whole number.
    Integer {
        /// Whether it may be negative.
        signed: bool,
        /// Its width: 8, 16, 32, 64, 128 or 256.
        bits: u16,
    },
    /// A number of single precision.
    Float32,
    /// A number of double precision.
    Float64,
    /// Text.
    String,
    /// A day.
    Date,
    /// A second.
    DateTime,
    /// A point in time down to the microsecond.
    DateTime64,
    /// True or false; a `UInt8` of 1 or 0 for ClickHouse, as in Tinybird.
    Boolean,
    /// A UUID.
    Uuid,
}

/// The type names of the template language. `Int`, `Integer`, `Bool` and `bool`
/// are other words for types in the list.
const TYPE_NAMES: [(&str, ScalarType); 24] = [
    ("String", ScalarType::String),
    ("Int8", integer(true, 8)),
    ("Int16", integer(true, 16)),
    ("Int32", integer(true, 32)),
    ("Int64", integer(true, 64)),
    ("Int128", integer(true, 128)),
    ("Int256", integer(true, 256)),
    ("UInt8", integer(false, 8)),
    ("UInt16", integer(false, 16)),
    ("UInt32", integer(false, 32)),
    ("UInt64", integer(false, 64)),
    ("UInt128", integer(false, 128)),
    ("UInt256", integer(false, 256)),
    ("Float32", ScalarType::Float32),
    ("Float64", ScalarType::Float64),
    ("Date", ScalarType::Date),
    ("DateTime", ScalarType::DateTime),
    ("DateTime64", ScalarType::DateTime64),
    ("Boolean", ScalarType::Boolean),
    ("UUID", ScalarType::Uuid),
    ("Int", integer(true, 64)),
    ("Integer", integer(true, 64)),
    ("Bool", ScalarType::Boolean),
    ("bool", ScalarType::Boolean),
];

/// What to offer to someone who wrote an unknown type.
pub(super) const SUPPORTED_TYPES: &str = "Int8 to Int256, UInt8 to UInt256, Float32, Float64, \
    String, Date, DateTime, DateTime64, Boolean, UUID, Array";

const fn integer(signed: bool, bits: u16) -> ScalarType {
    ScalarType::Integer { signed, bits }
}

impl ScalarType {
    /// Looks a type up by its name in templates.
    pub fn named(name: &str) -> Option<Self> {
        TYPE_NAMES
            .into_iter()
            .find_map(|(known, scalar)| (known == name).then_some(scalar))
    }

    /// The type that someone may have meant who wrote a name in the wrong case.
    pub(super) fn likely(name: &str) -> Option<&'static str> {
        TYPE_NAMES
            .into_iter()
            .map(|(known, _)| known)
            .find(|known| known.eq_ignore_ascii_case(name))
    }

    /// The name in templates.
    pub fn name(self) -> &'static str {
        TYPE_NAMES
            .into_iter()
            .find_map(|(name, scalar)| (scalar == self).then_some(name))
            .unwrap_or("String")
    }

    /// The type of the bound parameter in ClickHouse.
    pub fn clickhouse_name(self) -> &'static str {
        match self {
            Self::Boolean => "UInt8",
            // A time without an offset is one in UTC, as in rows, whatever the server's zone.
            Self::DateTime => "DateTime('UTC')",
            Self::DateTime64 => "DateTime64(6, 'UTC')",
            other => other.name(),
        }
    }
}

impl ParameterType {
    /// The type of one value of it.
    pub fn element(self) -> ScalarType {
        match self {
            Self::Scalar(scalar) | Self::Array(scalar) => scalar,
        }
    }

    /// The type of the bound parameter in ClickHouse.
    pub fn clickhouse_name(self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.clickhouse_name().to_owned(),
            Self::Array(element) => format!("Array({})", element.clickhouse_name()),
        }
    }
}

impl Display for ParameterType {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => formatter.write_str(scalar.name()),
            Self::Array(element) => write!(formatter, "Array({})", element.name()),
        }
    }
}

/// A text that names no parameter type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no parameter type; there are {SUPPORTED_TYPES}")]
pub struct UnknownType(String);

impl FromStr for ParameterType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let element = text
            .strip_prefix("Array(")
            .and_then(|rest| rest.strip_suffix(')'));
        let kind = match element {
            Some(element) => ScalarType::named(element).map(Self::Array),
            None => ScalarType::named(text).map(Self::Scalar),
        };
        kind.ok_or_else(|| UnknownType(text.to_owned()))
    }
}

impl TryFrom<String> for ParameterType {
    type Error = UnknownType;

    fn try_from(text: String) -> Result<Self, UnknownType> {
        text.parse()
    }
}

impl From<ParameterType> for String {
    fn from(kind: ParameterType) -> Self {
        kind.to_string()
    }
}

/// Names that requests use for other things than parameters.
const RESERVED_NAMES: [&str; 19] = [
    "__tb__csv_header",
    "__tb__semver",
    "debug",
    "debug_source_tables",
    "explain",
    "finalize_aggregations",
    "format",
    "job_timestamp",
    "output_format_json_quote_64bit_integers",
    "output_format_json_quote_denormals",
    "output_format_parquet_string_as_string",
    "pipeline",
    "playground",
    "q",
    "query_id",
    "release_replacements",
    "tag",
    "template_parameters",
    "token",
];

/// Whether requests use this name for something else than a parameter.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED_NAMES.contains(&name)
}

//! What types there are, and how ClickHouse writes them.

use aviary_sql::StringLiteral;
use std::fmt;

/// A type that rows can be ingested into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Any bytes.
    String,
    /// A fixed number of bytes, filled up with zeros.
    FixedString(u32),
    /// `Int8` to `Int256`, `UInt8` to `UInt256`.
    Integer {
        /// Whether it has negative values.
        signed: bool,
        /// 8 to 256.
        bits: u16,
    },
    /// `BFloat16`, `Float32` or `Float64`.
    Float(FloatWidth),
    /// Digits in all, and after the point.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `true` or `false`.
    Bool,
    /// Days from 1970 to 2149.
    Date,
    /// Days from 1900 to 2299.
    Date32,
    /// Seconds from 1970 to 2106.
    DateTime {
        /// The time zone of texts without one.
        zone: Option<String>,
    },
    /// Parts of a second from 1900 to 2299.
    DateTime64 {
        /// Digits after the second.
        precision: u8,
        /// The time zone of texts without one.
        zone: Option<String>,
    },
    /// 128 bits.
    Uuid,
    /// An address of four bytes.
    Ipv4,
    /// An address of sixteen bytes.
    Ipv6,
    /// One of named values, in the order of their numbers.
    Enum {
        /// `Enum16` rather than `Enum8`.
        wide: bool,
        /// Names and numbers.
        values: Vec<(String, i16)>,
    },
    /// A JSON object.
    Json,
    /// A value or NULL.
    Nullable(Box<ColumnType>),
    /// Stored through a dictionary.
    LowCardinality(Box<ColumnType>),
    /// Values in order.
    Array(Box<ColumnType>),
    /// Values by key.
    Map(Box<ColumnType>, Box<ColumnType>),
    /// A fixed number of values, named or not.
    Tuple(Vec<(Option<String>, ColumnType)>),
    /// A value that an `AggregatingMergeTree` combines.
    SimpleAggregate {
        /// How values are combined.
        function: String,
        /// What is stored.
        stored: Box<ColumnType>,
    },
}

/// How wide a float is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatWidth {
    /// `BFloat16`
    Brain16,
    /// `Float32`
    Single,
    /// `Float64`
    Double,
}

/// Why a text is not a type that rows can be ingested into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// Not a type at all, or with wrong arguments.
    #[error("`{text}` is not a ClickHouse type: {why}")]
    Malformed {
        /// The type as written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A type that ClickHouse has and data sources do not.
    #[error("`{text}` cannot be the type of a column here: {why}")]
    Unsupported {
        /// The type as written.
        text: String,
        /// What to use instead.
        why: String,
    },
}

impl ColumnType {
    /// Whether a column of this type can hold NULL.
    pub fn is_nullable(&self) -> bool {
        match self {
            Self::Nullable(_) => true,
            Self::LowCardinality(inner) => inner.is_nullable(),
            Self::SimpleAggregate { stored, .. } => stored.is_nullable(),
            _ => false,
        }
    }

    /// The type of a value that is there: without Nullable, LowCardinality and
    /// the aggregate function, which concern how it is stored.
    pub fn value_type(&self) -> &Self {
        match self {
            Self::Nullable(inner) | Self::LowCardinality(inner) => inner.value_type(),
            Self::SimpleAggregate { stored, .. } => stored.value_type(),
            other => other,
        }
    }

    /// Whether it is stored as values inside a value.
    pub fn is_composite(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Map(..) | Self::Tuple(_))
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => formatter.write_str("String"),
            Self::FixedString(length) => write!(formatter, "FixedString({length})"),
            Self::Integer { signed, bits } => {
                write!(formatter, "{}Int{bits}", if *signed { "" } else { "U" })
            }
            Self::Float(FloatWidth::Brain16) => formatter.write_str("BFloat16"),
            Self::Float(FloatWidth::Single) => formatter.write_str("Float32"),
            Self::Float(FloatWidth::Double) => formatter.write_str("Float64"),
            Self::Decimal { precision, scale } => {
                write!(formatter, "Decimal({precision}, {scale})")
            }
            Self::Bool => formatter.write_str("Bool"),
            Self::Date => formatter.write_str("Date"),
            Self::Date32 => formatter.write_str("Date32"),
            Self::DateTime { zone: None } => formatter.write_str("DateTime"),
            Self::DateTime { zone: Some(zone) } => {
                write!(formatter, "DateTime({})", StringLiteral(zone))
            }
            Self::DateTime64 {
                precision,
                zone: None,
            } => write!(formatter, "DateTime64({precision})"),
            Self::DateTime64 {
                precision,
                zone: Some(zone),
            } => write!(
                formatter,
                "DateTime64({precision}, {})",
                StringLiteral(zone)
            ),
            Self::Uuid => formatter.write_str("UUID"),
            Self::Ipv4 => formatter.write_str("IPv4"),
            Self::Ipv6 => formatter.write_str("IPv6"),
            Self::Enum { wide, values } => write_enum(formatter, *wide, values),
            Self::Json => formatter.write_str("JSON"),
            Self::Nullable(inner) => write!(formatter, "Nullable({inner})"),
            Self::LowCardinality(inner) => write!(formatter, "LowCardinality({inner})"),
            Self::Array(inner) => write!(formatter, "Array({inner})"),
            Self::Map(key, value) => write!(formatter, "Map({key}, {value})"),
            Self::Tuple(elements) => write_tuple(formatter, elements),
            Self::SimpleAggregate { function, stored } => {
                write!(formatter, "SimpleAggregateFunction({function}, {stored})")
            }
        }
    }
}

fn write_enum(
    formatter: &mut fmt::Formatter<'_>,
    wide: bool,
    values: &[(String, i16)],
) -> fmt::Result {
    formatter.write_str(if wide { "Enum16(" } else { "Enum8(" })?;
    for (index, (name, number)) in values.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(formatter, "{separator}{} = {number}", StringLiteral(name))?;
    }
    formatter.write_str(")")
}

fn write_tuple(
    formatter: &mut fmt::Formatter<'_>,
    elements: &[(Option<String>, ColumnType)],
) -> fmt::Result {
    formatter.write_str("Tuple(")?;
    for (index, (name, element)) in elements.iter().enumerate() {
        formatter.write_str(if index == 0 { "" } else { ", " })?;
        if let Some(name) = name {
            write!(formatter, "{name} ")?;
        }
        write!(formatter, "{element}")?;
    }
    formatter.write_str(")")
}

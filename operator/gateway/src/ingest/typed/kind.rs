//! ClickHouse's types as the fast path knows them, read from the text of a column's
//! type as the operator publishes it.

use std::collections::HashMap;

/// A type whose plain spellings are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    FixedText {
        length: usize,
    },
    Signed {
        bytes: usize,
    },
    Unsigned {
        bytes: usize,
    },
    Single,
    Double,
    Decimal {
        bytes: usize,
        precision: usize,
        scale: usize,
    },
    Bool,
    /// Days since 1970, in two bytes.
    Date,
    /// Days since 1970, in four bytes.
    Date32,
    /// Seconds since 1970.
    DateTime {
        zone: Zone,
    },
    /// So many digits after the seconds.
    DateTime64 {
        digits: u32,
        zone: Zone,
    },
    Uuid,
    Ipv4,
    Ipv6,
    Enum {
        bytes: usize,
        numbers: HashMap<Vec<u8>, i16>,
    },
    Nullable(Box<Self>),
    Array(Box<Self>),
    Map(Box<[Self; 2]>),
    Tuple(Vec<Member>),
}

/// What a time without an offset means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Utc,
    /// A zone whose rules are ClickHouse's to know.
    Other,
}

/// An element of a tuple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) kind: Kind,
}

/// A type, and the text of the one in which its values are sent: without
/// `LowCardinality` and `SimpleAggregateFunction`, which ClickHouse adds as it reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) kind: Kind,
    pub(super) sent_type: String,
}

impl Known {
    /// Nothing for types that have no way past the landing.
    pub(crate) fn of(type_text: &str) -> Option<Self> {
        let type_text = type_text.trim();
        let (name, arguments) = match type_text.split_once('(') {
            Some((name, rest)) => (name, split(rest.strip_suffix(')')?)),
            None => (type_text, Vec::new()),
        };
        match (name, arguments.as_slice()) {
            ("LowCardinality", [inner]) | ("SimpleAggregateFunction", [_, inner]) => {
                Self::of(inner)
            }
            ("Nullable", [inner]) => {
                let inside = [Self::of(inner)?];
                Some(Self::around(name, inside, |[inner]| {
                    Kind::Nullable(inner.into())
                }))
            }
            ("Array", [element]) => {
                let inside = [Self::of(element)?];
                Some(Self::around(name, inside, |[element]| {
                    Kind::Array(element.into())
                }))
            }
            ("Map", [key, value]) => {
                let inside = [Self::of(key)?, Self::of(value)?];
                Some(Self::around(name, inside, |inside| {
                    Kind::Map(inside.into())
                }))
            }
            ("Tuple", members) => Self::tuple(members),
            _ => Some(Self {
                kind: scalar(name, &arguments)?,
                sent_type: type_text.to_owned(),
            }),
        }
    }

    fn around<const COUNT: usize>(
        name: &str,
        inside: [Self; COUNT],
        kind: impl FnOnce([Kind; COUNT]) -> Kind,
    ) -> Self {
        let types = inside.each_ref().map(|known| known.sent_type.as_str());
        Self {
            sent_type: format!("{name}({})", types.join(", ")),
            kind: kind(inside.map(|known| known.kind)),
        }
    }

    fn tuple(members: &[&str]) -> Option<Self> {
        let mut known = Vec::with_capacity(members.len());
        let mut types = Vec::with_capacity(members.len());
        for member in members {
            let (name, inner) = named(member);
            let inner = Self::of(inner)?;
            types.push(match name {
                Some(name) => format!("{name} {}", inner.sent_type),
                None => inner.sent_type,
            });
            known.push(Member {
                name: name.map(|name| name.as_bytes().to_vec()),
                kind: inner.kind,
            });
        }
        Some(Self {
            kind: Kind::Tuple(known),
            sent_type: format!("Tuple({})", types.join(", ")),
        })
    }
}

impl Kind {
    /// Whether a value has any number of others inside.
    pub(super) fn has_elements(&self) -> bool {
        match self {
            Self::Array(_) | Self::Map(_) => true,
            Self::Nullable(inner) => inner.has_elements(),
            Self::Tuple(members) => members.iter().any(|member| member.kind.has_elements()),
            _ => false,
        }
    }

    /// Bytes of a value in `Native` format, without the elements of arrays and maps;
    /// texts are counted elsewhere.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Text => 0,
            Self::FixedText { length } => *length,
            Self::Signed { bytes }
            | Self::Unsigned { bytes }
            | Self::Decimal { bytes, .. }
            | Self::Enum { bytes, .. } => *bytes,
            Self::Bool => 1,
            Self::Date => 2,
            Self::Single | Self::Date32 | Self::DateTime { .. } | Self::Ipv4 => 4,
            Self::Double | Self::DateTime64 { .. } | Self::Array(_) | Self::Map(_) => 8,
            Self::Uuid | Self::Ipv6 => 16,
            Self::Nullable(inner) => 1 + inner.width(),
            Self::Tuple(members) => members.iter().map(|member| member.kind.width()).sum(),
        }
    }
}

/// Texts of a longer fixed length would take much more than is sent of them.
const LONGEST_FIXED: usize = 256;

fn scalar(name: &str, arguments: &[&str]) -> Option<Kind> {
    let integer = |bits: &str| {
        let bits: usize = bits.parse().ok()?;
        matches!(bits, 8 | 16 | 32 | 64 | 128 | 256).then_some(bits / 8)
    };
    Some(match (name, arguments) {
        ("String", []) => Kind::Text,
        ("FixedString", [length]) => Kind::FixedText {
            length: length
                .parse()
                .ok()
                .filter(|length| *length <= LONGEST_FIXED)?,
        },
        ("Float32", []) => Kind::Single,
        ("Float64", []) => Kind::Double,
        ("Decimal", [precision, scale]) => {
            let precision = precision.parse().ok()?;
            let bytes = match precision {
                0..=9 => 4,
                10..=18 => 8,
                19..=38 => 16,
                _ => 32,
            };
            let scale = scale.parse().ok()?;
            Kind::Decimal {
                bytes,
                precision,
                scale,
            }
        }
        ("Bool", []) => Kind::Bool,
        ("Date", []) => Kind::Date,
        ("Date32", []) => Kind::Date32,
        ("DateTime", zone) => Kind::DateTime { zone: zoned(zone) },
        ("DateTime64", [digits, zone @ ..]) => Kind::DateTime64 {
            digits: digits.parse().ok().filter(|digits| *digits <= 9)?,
            zone: zoned(zone),
        },
        ("UUID", []) => Kind::Uuid,
        ("IPv4", []) => Kind::Ipv4,
        ("IPv6", []) => Kind::Ipv6,
        ("Enum8", values) => enumeration(1, values)?,
        ("Enum16", values) => enumeration(2, values)?,
        (name, []) => match (name.strip_prefix("Int"), name.strip_prefix("UInt")) {
            (Some(bits), _) => Kind::Signed {
                bytes: integer(bits)?,
            },
            (_, Some(bits)) => Kind::Unsigned {
                bytes: integer(bits)?,
            },
            _ => return None,
        },
        _ => return None,
    })
}

/// Without a zone of its own, a column's texts are in UTC.
fn zoned(arguments: &[&str]) -> Zone {
    match arguments {
        [] | ["'UTC'"] => Zone::Utc,
        _ => Zone::Other,
    }
}

/// `'name' = 1, ...`. Names with escapes in them are left to ClickHouse.
fn enumeration(bytes: usize, values: &[&str]) -> Option<Kind> {
    let mut numbers = HashMap::with_capacity(values.len());
    for value in values {
        let (name, number) = value.rsplit_once('=')?;
        let name = name.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        let is_plain = !name.contains(['\\', '\'']);
        if is_plain {
            numbers.insert(name.as_bytes().to_vec(), number.trim().parse().ok()?);
        }
    }
    Some(Kind::Enum { bytes, numbers })
}

/// A tuple's element: `name Type`, or the type alone.
fn named(member: &str) -> (Option<&str>, &str) {
    let end = member.find([' ', '(']).unwrap_or(member.len());
    match member[end..].strip_prefix(' ') {
        Some(inner) => (Some(&member[..end]), inner),
        None => (None, member),
    }
}

/// The arguments of a type: what stands between commas outside of brackets and quotes.
fn split(arguments: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth, mut is_quoted, mut is_escaped) = (0, 0_usize, false, false);
    for (at, byte) in arguments.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'\'' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(arguments[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(arguments[start..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sent_without_what_concerns_their_storage() {
        for (type_text, sent) in [
            ("LowCardinality(Nullable(String))", "Nullable(String)"),
            ("SimpleAggregateFunction(sum, Int64)", "Int64"),
            (
                "Map(LowCardinality(String), Array(Decimal(9, 2)))",
                "Map(String, Array(Decimal(9, 2)))",
            ),
            (
                "Tuple(a Array(LowCardinality(String)), b Enum8('x, (' = 1, 'it\\'s' = 2))",
                "Tuple(a Array(String), b Enum8('x, (' = 1, 'it\\'s' = 2))",
            ),
            ("DateTime64(3, 'Asia/Tokyo')", "DateTime64(3, 'Asia/Tokyo')"),
        ] {
            assert_eq!(Known::of(type_text).unwrap().sent_type, sent);
        }
    }

    #[test]
    fn types_that_are_not_known_have_no_kind() {
        for type_text in [
            "JSON",
            "Nullable(JSON)",
            "BFloat16",
            "Array(Variant(String))",
            "Intern",
        ] {
            assert_eq!(Known::of(type_text), None, "{type_text}");
        }
    }

    #[test]
    fn members_have_names_or_none() {
        let Kind::Tuple(members) = Known::of("Tuple(a Int8, Map(String, Int8))").unwrap().kind
        else {
            panic!("a tuple is one");
        };
        assert_eq!(members[0].name.as_deref(), Some(b"a".as_slice()));
        assert_eq!(members[1].name, None);
        assert_eq!(members[1].kind.width(), 8);
    }
}

//! Reads a type from text. Strict: what it lets through, ClickHouse takes, and
//! [`ColumnType`] writes it back as ClickHouse does.

use super::types::{ColumnType, FloatWidth, TypeError};
use aviary_sql::is_plain_name;
use aviary_sql::scanner::{Scanner, TokenKind, Unterminated};

/// Nesting beyond this is a mistake, not a schema.
const MAXIMUM_DEPTH: usize = 12;

/// Aggregate functions whose state is a plain value, as ClickHouse lists them.
const SIMPLE_AGGREGATES: [&str; 12] = [
    "any",
    "anyLast",
    "groupArrayArray",
    "groupBitAnd",
    "groupBitOr",
    "groupBitXor",
    "groupUniqArrayArray",
    "max",
    "min",
    "sum",
    "sumMap",
    "sumWithOverflow",
];

impl ColumnType {
    /// Reads a type as people write it, `Decimal32(2)` and `Enum('a', 'b')` included.
    pub fn parse(text: &str) -> Result<Self, TypeError> {
        parse(text)
    }
}

fn parse(text: &str) -> Result<ColumnType, TypeError> {
    let malformed = |why: String| TypeError::Malformed {
        text: text.to_owned(),
        why,
    };
    let tokens = tokens(text).map_err(malformed)?;
    let mut parser = Parser {
        text,
        tokens,
        position: 0,
    };
    let parsed = parser.column_type(0)?;
    match parser.peek() {
        None => Ok(parsed),
        Some(_) => Err(parser.malformed("there is something after the type")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Number(i64),
    Text(String),
    Mark(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut scanned = Scanner::new(text).filter(|token| token.kind != TokenKind::Space);
    while let Some(token) = scanned.next() {
        let written = token.text(text);
        found.push(match token.kind {
            TokenKind::Symbol(mark @ ('(' | ')' | ',' | '=')) => Token::Mark(mark),
            TokenKind::Symbol('-') => {
                let end = scanned.next().unwrap_or(token).end;
                number(&text[token.start..end])?
            }
            TokenKind::Word if written.starts_with(|it: char| it.is_ascii_digit()) => {
                number(written)?
            }
            TokenKind::Word if !written.contains('$') => Token::Word(written.to_owned()),
            TokenKind::String if written.starts_with('\'') => match token.string(text) {
                Some(value) if !value.contains('\0') => Token::Text(value),
                Some(_) => return Err("NUL has no place in a type".to_owned()),
                None => return Err("texts in a type are UTF-8".to_owned()),
            },
            TokenKind::Unterminated(Unterminated::String) => {
                return Err("a quote is not closed".to_owned());
            }
            _ => {
                let first = written.chars().next().unwrap_or_default();
                return Err(format!("`{first}` has no place in a type"));
            }
        });
    }
    Ok(found)
}

fn number(digits: &str) -> Result<Token, String> {
    let number = digits.parse().map(Token::Number);
    number.map_err(|_| format!("`{digits}` is not a number"))
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    position: usize,
}

impl Parser<'_> {
    fn column_type(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        if depth > MAXIMUM_DEPTH {
            return Err(self.malformed("it is nested too deeply"));
        }
        let Some(Token::Word(word)) = self.next() else {
            return Err(self.malformed("the name of a type is missing"));
        };
        if let Some(integer) = integer(&word) {
            return Ok(integer);
        }
        match word.as_str() {
            "String" => Ok(ColumnType::String),
            "Bool" => Ok(ColumnType::Bool),
            "Date" => Ok(ColumnType::Date),
            "Date32" => Ok(ColumnType::Date32),
            "UUID" => Ok(ColumnType::Uuid),
            "IPv4" => Ok(ColumnType::Ipv4),
            "IPv6" => Ok(ColumnType::Ipv6),
            "JSON" => self.json(depth),
            "BFloat16" => Ok(ColumnType::Float(FloatWidth::Brain16)),
            "Float32" => Ok(ColumnType::Float(FloatWidth::Single)),
            "Float64" => Ok(ColumnType::Float(FloatWidth::Double)),
            "FixedString" => self.fixed_string(),
            "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => {
                self.decimal(&word)
            }
            "DateTime" | "DateTime32" => self.date_time(),
            "DateTime64" => self.date_time_64(),
            "Enum" | "Enum8" | "Enum16" => self.enumeration(&word),
            "Nullable" => self.nullable(depth),
            "LowCardinality" => self.low_cardinality(depth),
            "Array" => Ok(ColumnType::Array(Box::new(self.only_argument(depth)?))),
            "Map" => self.map(depth),
            "Tuple" => self.tuple(depth),
            "SimpleAggregateFunction" => self.simple_aggregate(depth),
            other => Err(self.unknown(other)),
        }
    }

    fn json(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        if depth > 1 || self.peek() == Some(&Token::Mark('(')) {
            return Err(self.unsupported("JSON stands alone or in Nullable, and without arguments"));
        }
        Ok(ColumnType::Json)
    }

    fn fixed_string(&mut self) -> Result<ColumnType, TypeError> {
        self.mark('(')?;
        let length = self.number(1, 0xFF_FFFF, "a length from 1")?;
        self.mark(')')?;
        Ok(ColumnType::FixedString(length as u32))
    }

    fn decimal(&mut self, word: &str) -> Result<ColumnType, TypeError> {
        let fixed_precision = match word {
            "Decimal32" => Some(9),
            "Decimal64" => Some(18),
            "Decimal128" => Some(38),
            "Decimal256" => Some(76),
            _ => None,
        };
        if let Some(precision) = fixed_precision {
            self.mark('(')?;
            let scale = self.number(0, precision, "a scale no larger than the precision")?;
            self.mark(')')?;
            return Ok(ColumnType::Decimal {
                precision: precision as u8,
                scale: scale as u8,
            });
        }
        if !self.take('(') {
            return Ok(ColumnType::Decimal {
                precision: 10,
                scale: 0,
            });
        }
        let precision = self.number(1, 76, "a precision from 1 to 76")?;
        let scale = if self.take(',') {
            self.number(0, precision, "a scale no larger than the precision")?
        } else {
            0
        };
        self.mark(')')?;
        Ok(ColumnType::Decimal {
            precision: precision as u8,
            scale: scale as u8,
        })
    }

    fn date_time(&mut self) -> Result<ColumnType, TypeError> {
        let mut zone = None;
        if self.take('(') {
            zone = Some(self.zone()?);
            self.mark(')')?;
        }
        Ok(ColumnType::DateTime { zone })
    }

    fn date_time_64(&mut self) -> Result<ColumnType, TypeError> {
        let (mut precision, mut zone) = (3, None);
        if self.take('(') {
            precision = self.number(0, 9, "a precision from 0 to 9")?;
            if self.take(',') {
                zone = Some(self.zone()?);
            }
            self.mark(')')?;
        }
        Ok(ColumnType::DateTime64 {
            precision: precision as u8,
            zone,
        })
    }

    fn zone(&mut self) -> Result<String, TypeError> {
        let plausible = |zone: &str| {
            !zone.is_empty()
                && zone
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b))
        };
        match self.next() {
            Some(Token::Text(zone)) if plausible(&zone) => Ok(zone),
            _ => Err(self.malformed("expected a time zone such as 'UTC' or 'Europe/Berlin'")),
        }
    }

    fn enumeration(&mut self, word: &str) -> Result<ColumnType, TypeError> {
        self.mark('(')?;
        let mut values: Vec<(String, i16)> = Vec::new();
        let mut following: i64 = 1;
        loop {
            let Some(Token::Text(name)) = self.next() else {
                return Err(self.malformed("expected a value such as 'red' or 'red' = 1"));
            };
            let range = "a number that fits the Enum";
            let number = if self.take('=') {
                self.number(i64::from(i16::MIN), i64::from(i16::MAX), range)?
            } else {
                following
            };
            let number = i16::try_from(number).map_err(|_| self.malformed("too many values"))?;
            if values.iter().any(|(n, v)| *n == name || *v == number) {
                return Err(self.malformed("a value or a number stands twice"));
            }
            following = i64::from(number) + 1;
            values.push((name, number));
            if !self.take(',') {
                break;
            }
        }
        self.mark(')')?;
        values.sort_by_key(|(_, number)| *number);
        let fits_8_bits = values
            .iter()
            .all(|(_, number)| i8::try_from(*number).is_ok());
        if word == "Enum8" && !fits_8_bits {
            return Err(self.malformed("numbers of an Enum8 go from -128 to 127"));
        }
        Ok(ColumnType::Enum {
            wide: word == "Enum16" || !fits_8_bits,
            values,
        })
    }

    fn nullable(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        let inner = self.only_argument(depth)?;
        let wrappable = !inner.is_composite()
            && !matches!(
                inner,
                ColumnType::Nullable(_)
                    | ColumnType::LowCardinality(_)
                    | ColumnType::SimpleAggregate { .. }
            );
        if !wrappable {
            return Err(self.malformed(&format!("{inner} cannot stand inside Nullable")));
        }
        Ok(ColumnType::Nullable(Box::new(inner)))
    }

    fn low_cardinality(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        let inner = self.only_argument(depth)?;
        let value = match &inner {
            ColumnType::Nullable(value) => value.as_ref(),
            other => other,
        };
        if !matches!(value, ColumnType::String | ColumnType::FixedString(_)) {
            let why = "LowCardinality is for String and FixedString, and Nullable of these";
            return Err(self.unsupported(why));
        }
        Ok(ColumnType::LowCardinality(Box::new(inner)))
    }

    fn map(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        self.mark('(')?;
        let key = self.column_type(depth + 1)?;
        let usable = matches!(
            key.value_type(),
            ColumnType::String
                | ColumnType::FixedString(_)
                | ColumnType::Integer { .. }
                | ColumnType::Uuid
                | ColumnType::Date
                | ColumnType::Enum { .. }
        );
        if key.is_nullable() || !usable {
            return Err(self.unsupported(
                "a Map's keys are String, LowCardinality(String), FixedString, Int, UUID, Date or Enum",
            ));
        }
        self.mark(',')?;
        let value = self.column_type(depth + 1)?;
        self.mark(')')?;
        Ok(ColumnType::Map(Box::new(key), Box::new(value)))
    }

    fn tuple(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        self.mark('(')?;
        let mut elements: Vec<(Option<String>, ColumnType)> = Vec::new();
        loop {
            let name = self.element_name();
            if name.is_some() && elements.iter().any(|(other, _)| *other == name) {
                return Err(self.malformed("two elements have the same name"));
            }
            elements.push((name, self.column_type(depth + 1)?));
            if !self.take(',') {
                break;
            }
        }
        self.mark(')')?;
        let named = elements.iter().filter(|(name, _)| name.is_some()).count();
        if named != 0 && named != elements.len() {
            return Err(self.malformed("either all elements of a Tuple have names or none has"));
        }
        Ok(ColumnType::Tuple(elements))
    }

    /// A word that another word follows is the name of an element.
    fn element_name(&mut self) -> Option<String> {
        let follows = self.tokens.get(self.position + 1);
        match (self.peek(), follows) {
            (Some(Token::Word(name)), Some(Token::Word(_))) if is_plain_name(name) => {
                let name = name.clone();
                self.position += 1;
                Some(name)
            }
            _ => None,
        }
    }

    fn simple_aggregate(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        if depth > 0 {
            return Err(self.unsupported("SimpleAggregateFunction stands alone"));
        }
        self.mark('(')?;
        let function = match self.next() {
            Some(Token::Word(name)) if SIMPLE_AGGREGATES.contains(&name.as_str()) => name,
            _ => {
                let known = SIMPLE_AGGREGATES.join(", ");
                return Err(self.malformed(&format!("expected one of the functions {known}")));
            }
        };
        self.mark(',')?;
        let stored = Box::new(self.column_type(depth + 1)?);
        self.mark(')')?;
        Ok(ColumnType::SimpleAggregate { function, stored })
    }

    fn only_argument(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        self.mark('(')?;
        let argument = self.column_type(depth + 1)?;
        self.mark(')')?;
        Ok(argument)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.position)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.position += 1;
        token
    }

    fn take(&mut self, mark: char) -> bool {
        let there = self.peek() == Some(&Token::Mark(mark));
        self.position += usize::from(there);
        there
    }

    fn mark(&mut self, mark: char) -> Result<(), TypeError> {
        if self.take(mark) {
            return Ok(());
        }
        Err(self.malformed(&format!("expected `{mark}`")))
    }

    fn number(&mut self, least: i64, most: i64, expected: &str) -> Result<i64, TypeError> {
        match self.next() {
            Some(Token::Number(number)) if (least..=most).contains(&number) => Ok(number),
            _ => Err(self.malformed(&format!("expected {expected}"))),
        }
    }

    fn malformed(&self, why: &str) -> TypeError {
        TypeError::Malformed {
            text: self.text.to_owned(),
            why: why.to_owned(),
        }
    }

    fn unsupported(&self, why: &str) -> TypeError {
        TypeError::Unsupported {
            text: self.text.to_owned(),
            why: why.to_owned(),
        }
    }

    fn unknown(&self, word: &str) -> TypeError {
        let hint = match word {
            "AggregateFunction" => {
                "rows cannot carry aggregate states; use SimpleAggregateFunction where it fits"
            }
            "Nested" => "use Array(Tuple(...))",
            "Variant" | "Dynamic" => "use JSON, or String",
            "Object" => "use JSON",
            "Point" | "Ring" | "Polygon" | "MultiPolygon" | "LineString" | "MultiLineString" => {
                "use Tuple(Float64, Float64) and Arrays of it"
            }
            "Time" | "Time64" => "use String, or Int32 for seconds of the day",
            _ => {
                let known = format!("{word} is not a type that data sources know");
                return match similar(word) {
                    Some(name) => self.malformed(&format!("{known}; did you mean {name}?")),
                    None => self.malformed(&known),
                };
            }
        };
        self.unsupported(hint)
    }
}

fn integer(word: &str) -> Option<ColumnType> {
    let (signed, bits) = match word.strip_prefix('U') {
        Some(rest) => (false, rest.strip_prefix("Int")?),
        None => (true, word.strip_prefix("Int")?),
    };
    let bits = match bits {
        "8" => 8,
        "16" => 16,
        "32" => 32,
        "64" => 64,
        "128" => 128,
        "256" => 256,
        _ => return None,
    };
    Some(ColumnType::Integer { signed, bits })
}

/// What people coming from other databases write, and types in the wrong case.
fn similar(word: &str) -> Option<&'static str> {
    const NAMES: &str = "String Bool Date Date32 DateTime DateTime64 UUID IPv4 IPv6 JSON BFloat16 Float32 \
        Float64 FixedString Decimal Enum Enum8 Enum16 Nullable LowCardinality Array Map Int8 \
        Int16 Int32 Int64 Int128 Int256 UInt8 UInt16 UInt32 UInt64 UInt128 UInt256";
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "text" | "varchar" | "char" | "clob" | "blob" => Some("String"),
        "int" | "integer" => Some("Int32"),
        "tinyint" => Some("Int8"),
        "smallint" => Some("Int16"),
        "bigint" | "long" => Some("Int64"),
        "boolean" => Some("Bool"),
        "float" | "real" => Some("Float32"),
        "double" => Some("Float64"),
        "timestamp" => Some("DateTime"),
        "numeric" | "dec" => Some("Decimal"),
        _ => NAMES
            .split(' ')
            .find(|name| name.eq_ignore_ascii_case(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_clickhouse_writes_them() {
        for (written, canonical) in [
            ("Int32", "Int32"),
            ("UInt256", "UInt256"),
            ("Decimal32( 2 )", "Decimal(9, 2)"),
            ("Decimal(9)", "Decimal(9, 0)"),
            ("Decimal", "Decimal(10, 0)"),
            ("DateTime( 'UTC' )", "DateTime('UTC')"),
            ("DateTime64", "DateTime64(3)"),
            ("DateTime64(9,'Asia/Tokyo')", "DateTime64(9, 'Asia/Tokyo')"),
            ("Enum('b','a'=0)", "Enum8('a' = 0, 'b' = 1)"),
            ("Enum('a'=1000)", "Enum16('a' = 1000)"),
            ("Enum8('it\\'s'=-1)", "Enum8('it\\'s' = -1)"),
            ("Enum8('it''s'=-1)", "Enum8('it\\'s' = -1)"),
            ("Enum8('\\x41\\n' = 1)", "Enum8('A\\n' = 1)"),
            (
                "LowCardinality(Nullable(String))",
                "LowCardinality(Nullable(String))",
            ),
            (
                "Map(String,Array(Nullable(Int8)))",
                "Map(String, Array(Nullable(Int8)))",
            ),
            (
                "Tuple(a Int32,b Tuple(String,Bool))",
                "Tuple(a Int32, b Tuple(String, Bool))",
            ),
            (
                "SimpleAggregateFunction(sum,UInt64)",
                "SimpleAggregateFunction(sum, UInt64)",
            ),
            ("Nullable(JSON)", "Nullable(JSON)"),
        ] {
            assert_eq!(parse(written).unwrap().to_string(), canonical, "{written}");
            assert_eq!(parse(canonical).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_type_is_refused_with_a_hint() {
        for (written, hint) in [
            ("", "the name of a type is missing"),
            ("int32", "did you mean Int32?"),
            ("VARCHAR", "did you mean String?"),
            ("Nested(a Int32)", "use Array(Tuple(...))"),
            (
                "AggregateFunction(sum, Int32)",
                "use SimpleAggregateFunction",
            ),
            ("Nullable(Array(Int32))", "cannot stand inside Nullable"),
            ("LowCardinality(Int32)", "LowCardinality is for String"),
            ("FixedString(0)", "a length from 1"),
            ("Decimal(77, 2)", "a precision from 1 to 76"),
            ("Decimal(5, 6)", "a scale no larger"),
            ("DateTime64(10)", "a precision from 0 to 9"),
            ("Enum8('a' = 128)", "-128 to 127"),
            ("Enum8('a', 'a')", "stands twice"),
            ("Int32)", "something after the type"),
            ("Int32; DROP TABLE x", "has no place in a type"),
            ("DateTime('UTC\\')", "a quote is not closed"),
            ("DateTime(‘UTC’)", "`‘` has no place in a type"),
            ("DateTime($$UTC$$)", "`$` has no place in a type"),
            ("Int32 -- x", "`-` has no place in a type"),
            ("Enum8('a\\0' = 1)", "NUL has no place in a type"),
            ("Enum8('a' = -)", "is not a number"),
            (
                "Tuple(a Int32, String)",
                "all elements of a Tuple have names",
            ),
        ] {
            let message = parse(written).unwrap_err().to_string();
            assert!(message.contains(hint), "{written}: {message}");
        }
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let deep = format!("{}Int8{}", "Array(".repeat(500), ")".repeat(500));
        assert!(parse(&deep).is_err());
    }
}

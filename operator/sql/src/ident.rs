//! Names and string literals for SQL text, quoted so that ClickHouse's parser
//! reads back exactly what was put in. Every name or text that reaches a
//! statement goes through these types.

use std::fmt::{self, Display, Formatter, Write};

/// A name of a database, table, column, user or the like. Any non-empty text
/// without NUL; [`Display`] writes it in backticks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier(String);

/// Why a text cannot be an [`Identifier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// ClickHouse has no empty names.
    #[error("a name must not be empty")]
    Empty,
    /// NUL ends the statement for some of ClickHouse's parsers.
    #[error("a name must not contain the NUL character")]
    Nul,
}

impl Identifier {
    /// Checks the text and keeps it as it is.
    pub fn new(name: impl Into<String>) -> Result<Self, IdentifierError> {
        let name = name.into();
        if name.is_empty() {
            return Err(IdentifierError::Empty);
        }
        if name.contains('\0') {
            return Err(IdentifierError::Nul);
        }
        Ok(Self(name))
    }

    /// The name itself, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Identifier {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write_quoted(formatter, '`', &self.0)
    }
}

impl TryFrom<&str> for Identifier {
    type Error = IdentifierError;

    fn try_from(name: &str) -> Result<Self, IdentifierError> {
        Self::new(name)
    }
}

impl TryFrom<String> for Identifier {
    type Error = IdentifierError;

    fn try_from(name: String) -> Result<Self, IdentifierError> {
        Self::new(name)
    }
}

/// A name inside a database: `` `database`.`name` ``.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// The database.
    pub database: Identifier,
    /// The table, view or dictionary in it.
    pub name: Identifier,
}

impl QualifiedName {
    /// Puts the two parts together.
    pub fn new(database: Identifier, name: Identifier) -> Self {
        Self { database, name }
    }
}

impl Display for QualifiedName {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.database, self.name)
    }
}

/// A text that [`Display`] writes as a ClickHouse string literal, quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringLiteral<'a>(pub &'a str);

impl Display for StringLiteral<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write_quoted(formatter, '\'', self.0)
    }
}

/// Backslash escapes rather than doubled quotes: ClickHouse reads both, and a
/// backslash must be escaped in any case. Control characters are escaped so that
/// a statement stays on its line in logs.
fn write_quoted(formatter: &mut Formatter<'_>, quote: char, text: &str) -> fmt::Result {
    formatter.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\\' => formatter.write_str("\\\\")?,
            '\0' => formatter.write_str("\\0")?,
            '\u{8}' => formatter.write_str("\\b")?,
            '\u{c}' => formatter.write_str("\\f")?,
            '\n' => formatter.write_str("\\n")?,
            '\r' => formatter.write_str("\\r")?,
            '\t' => formatter.write_str("\\t")?,
            '\u{1}'..='\u{1f}' | '\u{7f}' => write!(formatter, "\\x{:02X}", character as u32)?,
            other if other == quote => write!(formatter, "\\{quote}")?,
            other => formatter.write_char(other)?,
        }
    }
    formatter.write_char(quote)
}

/// Whether a name can stand unquoted in SQL and in a template: a letter or
/// underscore, then letters, digits and underscores, all ASCII. Nodes, columns
/// and parameters are named so.
pub fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted() {
        let quoted = |name: &str| Identifier::new(name).unwrap().to_string();
        assert_eq!(quoted("flights"), "`flights`");
        assert_eq!(quoted("we`ird"), "`we\\`ird`");
        assert_eq!(quoted("back\\slash"), "`back\\\\slash`");
        assert_eq!(quoted("it's \"so\""), "`it's \"so\"`");
        assert_eq!(quoted("line\nfeed\u{1}"), "`line\\nfeed\\x01`");
        assert_eq!(quoted("größe 🦜"), "`größe 🦜`");
    }

    #[test]
    fn impossible_names_are_refused() {
        assert_eq!(Identifier::new(""), Err(IdentifierError::Empty));
        assert_eq!(Identifier::new("a\0b"), Err(IdentifierError::Nul));
    }

    #[test]
    fn qualified_names_have_both_parts_quoted() {
        let name = QualifiedName::new(
            Identifier::new("demo_flights").unwrap(),
            Identifier::new("a.b").unwrap(),
        );
        assert_eq!(name.to_string(), "`demo_flights`.`a.b`");
    }

    #[test]
    fn literals_are_escaped() {
        assert_eq!(StringLiteral("").to_string(), "''");
        assert_eq!(StringLiteral("it's").to_string(), "'it\\'s'");
        assert_eq!(
            StringLiteral("\0\u{8}\u{c}\n\r\t\\`\u{7f}").to_string(),
            "'\\0\\b\\f\\n\\r\\t\\\\`\\x7F'"
        );
    }

    #[test]
    fn plain_names() {
        for name in ["a", "_", "Node_1", "limit"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", "1a", "a-b", "a.b", "ä", "a b", "a\n"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }

    /// Reads a quoted text as ClickHouse's parser does: the inverse that the
    /// writer above is held to.
    fn unquote(quoted: &str) -> String {
        let quote = quoted.chars().next().unwrap();
        let inner = quoted
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
            .unwrap();
        let mut text = String::new();
        let mut characters = inner.chars();
        while let Some(character) = characters.next() {
            assert_ne!(character, quote, "a bare quote ends the text early");
            if character != '\\' {
                text.push(character);
                continue;
            }
            text.push(match characters.next().unwrap() {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'x' => {
                    let digits: String = characters.by_ref().take(2).collect();
                    char::from(u8::from_str_radix(&digits, 16).unwrap())
                }
                other => other,
            });
        }
        text
    }

    proptest! {
        #[test]
        fn names_round_trip(name in "[^\0]+") {
            let identifier = Identifier::new(name.clone()).unwrap();
            prop_assert_eq!(unquote(&identifier.to_string()), name);
        }

        #[test]
        fn literals_round_trip(text in any::<String>()) {
            prop_assert_eq!(unquote(&StringLiteral(&text).to_string()), text);
        }

        #[test]
        fn quoted_text_is_one_token(text in "[^\0]+") {
            use crate::scanner::{Scanner, TokenKind};
            let literal = StringLiteral(&text).to_string();
            let kinds: Vec<_> = Scanner::new(&literal).map(|token| token.kind).collect();
            prop_assert_eq!(kinds, vec![TokenKind::String]);
            let name = Identifier::new(text).unwrap().to_string();
            let kinds: Vec<_> = Scanner::new(&name).map(|token| token.kind).collect();
            prop_assert_eq!(kinds, vec![TokenKind::QuotedIdentifier]);
        }
    }
}

//! Writing names and values into SQL so that they stay names and values, and reading them back.

use std::fmt::{self, Write as _};

/// A name, written in backquotes.
pub(crate) struct Identifier<'a>(pub(crate) &'a str);

impl fmt::Display for Identifier<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(formatter, self.0, '`')
    }
}

/// A string value, written in single quotes.
pub(crate) struct Literal<'a>(pub(crate) &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(formatter, self.0, '\'')
    }
}

fn write_quoted(formatter: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    formatter.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\\' => formatter.write_str("\\\\")?,
            '\n' => formatter.write_str("\\n")?,
            '\t' => formatter.write_str("\\t")?,
            '\r' => formatter.write_str("\\r")?,
            '\0' => formatter.write_str("\\0")?,
            other if other == quote => {
                formatter.write_char('\\')?;
                formatter.write_char(quote)?;
            }
            other => formatter.write_char(other)?,
        }
    }
    formatter.write_char(quote)
}

/// The text that a name or string in quotes stands for.
pub(crate) fn unquote(raw: &[u8]) -> String {
    let Some((&quote, inner)) = raw.split_first() else {
        return String::new();
    };
    let mut rest = inner[..inner.len().saturating_sub(1)].iter().copied();
    let mut bytes = Vec::with_capacity(inner.len());
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => unescape(&mut rest, &mut bytes),
            _ if byte == quote => {
                // A doubled quote stands for one.
                rest.next();
                bytes.push(quote);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Undoes one escape, as ClickHouse does it: what it does not know keeps its backslash.
fn unescape(rest: &mut impl Iterator<Item = u8>, bytes: &mut Vec<u8>) {
    let digit = |byte: Option<u8>| {
        let digit = byte.and_then(|byte| char::from(byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok())
    };
    match rest.next() {
        Some(b'x') => {
            let (high, low) = (digit(rest.next()), digit(rest.next()));
            bytes.push(high.unwrap_or(0xF) * 16 + low.unwrap_or(0xF));
        }
        Some(b'n') => bytes.push(b'\n'),
        Some(b't') => bytes.push(b'\t'),
        Some(b'r') => bytes.push(b'\r'),
        Some(b'0') => bytes.push(0),
        Some(b'a') => bytes.push(7),
        Some(b'b') => bytes.push(8),
        Some(b'v') => bytes.push(11),
        Some(b'f') => bytes.push(12),
        Some(b'e') => bytes.push(0x1B),
        Some(quote @ (b'\\' | b'`' | b'"' | b'\'' | b'/')) => bytes.push(quote),
        Some(other) => bytes.extend([b'\\', other]),
        None => bytes.push(b'\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        assert_eq!(Identifier("a`b\\").to_string(), r"`a\`b\\`");
        assert_eq!(Literal("it's\n\\").to_string(), r"'it\'s\n\\'");
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unquote(br"'a\'b''c\\n'"), r"a'b'c\n");
        assert_eq!(unquote(br"`x\ty`"), "x\ty");
        assert_eq!(unquote(br"'def\x61ul\x74\/\%'"), "default/\\%");
    }
}

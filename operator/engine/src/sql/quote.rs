//! Writing names and values into SQL so that they stay names and values.

use std::fmt;

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

/// A name as ClickHouse prints it: bare where that is unambiguous.
pub(crate) struct PlainIdentifier<'a>(pub(crate) &'a str);

impl fmt::Display for PlainIdentifier<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.bytes();
        let bare = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if bare {
            formatter.write_str(self.0)
        } else {
            Identifier(self.0).fmt(formatter)
        }
    }
}

fn write_quoted(formatter: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    use fmt::Write as _;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        assert_eq!(Identifier("a`b\\").to_string(), r"`a\`b\\`");
        assert_eq!(Literal("it's\n\\").to_string(), r"'it\'s\n\\'");
        assert_eq!(PlainIdentifier("a_1").to_string(), "a_1");
        assert_eq!(PlainIdentifier("1a").to_string(), "`1a`");
        assert_eq!(PlainIdentifier("a-b").to_string(), "`a-b`");
    }
}

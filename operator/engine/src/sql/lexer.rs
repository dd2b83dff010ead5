//! ClickHouse's tokens: words, quoted names, strings, numbers and single symbols.
//!
//! Comments and quotes are ClickHouse's. Its rarer blanks and quotes, which are not ASCII, are
//! refused outside of quotes, so that no text can look like one thing here and like another there.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bare word: keyword or name.
    Word,
    /// A name in backquotes or double quotes.
    Quoted,
    /// A string, heredocs included.
    String,
    /// A number.
    Number,
    /// Any other single character.
    Symbol(u8),
    /// A quote or comment without its end, or a byte no token begins with.
    Broken,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) range: Range<usize>,
}

/// Reads tokens one by one, so that it need not look at the data of an INSERT.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    position: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, position: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.position..]
    }

    /// Skips blanks and comments; false when a comment does not end.
    fn skip_insignificant(&mut self) -> bool {
        loop {
            let rest = self.rest();
            let blank = rest.iter().take_while(|byte| is_blank(**byte)).count();
            if blank > 0 {
                self.position += blank;
            } else if [&b"--"[..], b"//", b"# ", b"#!"]
                .iter()
                .any(|mark| rest.starts_with(mark))
            {
                self.position += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                if !self.skip_comment() {
                    return false;
                }
            } else {
                return true;
            }
        }
    }

    /// Skips a comment that may hold others; false when it does not end.
    fn skip_comment(&mut self) -> bool {
        let mut depth = 0_usize;
        loop {
            let rest = self.rest();
            if rest.starts_with(b"/*") {
                self.position += 2;
                depth += 1;
            } else if rest.starts_with(b"*/") {
                self.position += 2;
                depth -= 1;
                if depth == 0 {
                    return true;
                }
            } else if rest.is_empty() {
                return false;
            } else {
                self.position += 1;
            }
        }
    }

    fn quoted(&mut self, quote: u8, kind: Kind) -> Kind {
        let mut at = self.position + 1;
        while let Some(&byte) = self.text.get(at) {
            if byte == b'\\' {
                at += 2;
            } else if byte == quote {
                if self.text.get(at + 1) == Some(&quote) {
                    at += 2;
                } else {
                    self.position = at + 1;
                    return kind;
                }
            } else {
                at += 1;
            }
        }
        self.position = self.text.len();
        Kind::Broken
    }

    /// `$tag$ ... $tag$`, or the sign alone.
    fn dollar(&mut self) -> Kind {
        let rest = self.rest();
        let length = rest[1..].iter().take_while(|byte| is_word(**byte)).count();
        if rest.get(length + 1) == Some(&b'$') {
            let (tag, body) = rest.split_at(length + 2);
            if let Some(end) = memchr::memmem::find(body, tag) {
                self.position += 2 * tag.len() + end;
                return Kind::String;
            }
        }
        self.position += 1;
        Kind::Symbol(b'$')
    }

    fn word(&mut self) -> Kind {
        let rest = self.rest();
        self.position += rest.iter().take_while(|byte| is_word(**byte)).count();
        if rest[0].is_ascii_digit() {
            Kind::Number
        } else {
            Kind::Word
        }
    }

    fn kind(&mut self, first: u8) -> Kind {
        match first {
            b'\'' => self.quoted(b'\'', Kind::String),
            b'"' => self.quoted(b'"', Kind::Quoted),
            b'`' => self.quoted(b'`', Kind::Quoted),
            b'$' => self.dollar(),
            byte if is_word(byte) => self.word(),
            byte => {
                self.position += 1;
                if byte.is_ascii_graphic() && byte != b'\\' {
                    Kind::Symbol(byte)
                } else {
                    Kind::Broken
                }
            }
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let ended = self.skip_insignificant();
        let start = self.position;
        let kind = if ended {
            let first = *self.text.get(start)?;
            self.kind(first)
        } else {
            Kind::Broken
        };
        Some(Token {
            kind,
            range: start..self.position.min(self.text.len()),
        })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> Vec<(Kind, &str)> {
        Lexer::new(text.as_bytes())
            .map(|token| (token.kind, text.get(token.range).unwrap_or("?")))
            .collect()
    }

    #[test]
    fn comments_separate_and_vanish() {
        for text in ["a/*;*/b--; \n# ;", "a // '\nb", "a /* /* ' */ */ b#!'"] {
            assert_eq!(lex(text), [(Kind::Word, "a"), (Kind::Word, "b")], "{text}");
        }
    }

    #[test]
    fn quotes_hide_what_is_in_them() {
        assert_eq!(
            lex(r#"'a;\';' "b;""" `c\`;` $x$;'$x$ 1"#),
            [
                (Kind::String, r"'a;\';'"),
                (Kind::Quoted, r#""b;""""#),
                (Kind::Quoted, r"`c\`;`"),
                (Kind::String, "$x$;'$x$"),
                (Kind::Number, "1"),
            ]
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_broken() {
        for text in [
            "'abc",
            "`abc",
            "/* abc",
            "/* /* */",
            "\"a\\\"",
            "a\u{3000}b",
            "‘a’",
            "\\i",
        ] {
            let broken = lex(text).iter().any(|(kind, _)| *kind == Kind::Broken);
            assert!(broken, "{text}");
        }
    }
}

//! ClickHouse's tokens: words, quoted names, strings, numbers and single symbols.
//!
//! Follows the server's own lexer where a difference would matter: what is a
//! comment, where a string ends, which quotes exist. Security decisions taken
//! on tokens (one statement only, no `SET ROLE`) rely on that.

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

/// Reads tokens one by one, so that a query can be taken apart before all of
/// it (the data of an INSERT) is there.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    position: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, position: 0 }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.position + ahead).copied()
    }

    fn starts_with(&self, prefix: &[u8]) -> bool {
        self.text[self.position..].starts_with(prefix)
    }

    /// Skips blanks and comments; false when a comment does not end.
    fn skip_insignificant(&mut self) -> bool {
        loop {
            let Some(byte) = self.peek(0) else {
                return true;
            };
            if byte.is_ascii_whitespace() || byte == 0x0B {
                self.position += 1;
            } else if self.starts_with(b"\xC2\xA0") {
                self.position += 2;
            } else if self.starts_with(b"\xEF\xBB\xBF") {
                self.position += 3;
            } else if self.starts_with(b"--") || self.starts_with(b"#!") || self.starts_with(b"# ")
            {
                let rest = &self.text[self.position..];
                self.position += memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            } else if self.starts_with(b"/*") {
                let body = &self.text[self.position + 2..];
                match memchr::memmem::find(body, b"*/") {
                    Some(end) => self.position += 2 + end + 2,
                    None => return false,
                }
            } else {
                return true;
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

    /// Quotes of three bytes each, as word processors make them.
    fn curly(&mut self, close: &[u8], kind: Kind) -> Kind {
        let body = &self.text[self.position + 3..];
        match memchr::memmem::find(body, close) {
            Some(end) => {
                self.position += 3 + end + close.len();
                kind
            }
            None => {
                self.position = self.text.len();
                Kind::Broken
            }
        }
    }

    fn word(&mut self) -> Kind {
        while self
            .peek(0)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
        {
            self.position += 1;
        }
        Kind::Word
    }

    /// `$tag$ ... $tag$`, or a word that begins with a dollar sign.
    fn dollar(&mut self) -> Kind {
        let rest = &self.text[self.position + 1..];
        let length = rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
            .count();
        if rest.get(length) == Some(&b'$') {
            let tag = &self.text[self.position..self.position + length + 2];
            let body = &self.text[self.position + tag.len()..];
            if let Some(end) = memchr::memmem::find(body, tag) {
                self.position += 2 * tag.len() + end;
                return Kind::String;
            }
        }
        self.word()
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let ended = self.skip_insignificant();
        let start = self.position;
        if !ended {
            self.position = self.text.len();
            return Some(Token {
                kind: Kind::Broken,
                range: start..self.text.len(),
            });
        }
        let kind = match self.peek(0)? {
            b'\'' => self.quoted(b'\'', Kind::String),
            b'"' => self.quoted(b'"', Kind::Quoted),
            b'`' => self.quoted(b'`', Kind::Quoted),
            b'$' => self.dollar(),
            b'0'..=b'9' => {
                self.word();
                Kind::Number
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' => self.word(),
            _ if self.starts_with("‘".as_bytes()) => self.curly("’".as_bytes(), Kind::String),
            _ if self.starts_with("“".as_bytes()) => self.curly("”".as_bytes(), Kind::Quoted),
            byte if byte.is_ascii() => {
                self.position += 1;
                Kind::Symbol(byte)
            }
            _ => {
                self.position += 1;
                Kind::Broken
            }
        };
        Some(Token {
            kind,
            range: start..self.position.min(self.text.len()),
        })
    }
}

/// The text of a quoted name or string, escapes undone.
pub(crate) fn unquote(raw: &[u8]) -> String {
    let Some((&quote, inner)) = raw.split_first() else {
        return String::new();
    };
    if quote == b'$' {
        let tag = memchr::memchr(b'$', inner).map_or(0, |end| end + 2);
        let body = raw.get(tag..raw.len() - tag).unwrap_or_default();
        return String::from_utf8_lossy(body).into_owned();
    }
    if !matches!(quote, b'\'' | b'"' | b'`') {
        // Curly quotes: three bytes on either side, no escapes.
        let body = raw.get(3..raw.len().saturating_sub(3)).unwrap_or_default();
        return String::from_utf8_lossy(body).into_owned();
    }
    let inner = &inner[..inner.len().saturating_sub(1)];
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
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
    let Some(escaped) = rest.next() else {
        bytes.push(b'\\');
        return;
    };
    match escaped {
        b'x' => {
            let mut digit = || {
                let digit = rest.next().and_then(|byte| char::from(byte).to_digit(16));
                digit
                    .and_then(|digit| u8::try_from(digit).ok())
                    .unwrap_or(0xFF)
            };
            let (high, low) = (digit(), digit());
            bytes.push(high.wrapping_mul(16).wrapping_add(low));
        }
        // NULL, which is nothing in a text.
        b'N' => {}
        b'n' => bytes.push(b'\n'),
        b't' => bytes.push(b'\t'),
        b'r' => bytes.push(b'\r'),
        b'0' => bytes.push(0),
        b'a' => bytes.push(7),
        b'b' => bytes.push(8),
        b'v' => bytes.push(11),
        b'f' => bytes.push(12),
        b'e' => bytes.push(0x1B),
        b'\\' | b'`' | b'"' | b'\'' | b'/' => bytes.push(escaped),
        other if other.is_ascii_control() => bytes.push(other),
        other => bytes.extend([b'\\', other]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> Vec<(Kind, &str)> {
        Lexer::new(text.as_bytes())
            .map(|token| (token.kind, &text[token.range]))
            .collect()
    }

    #[test]
    fn comments_separate_and_vanish() {
        assert_eq!(
            lex("SELECT/*;*/1--; \n,# ;\n2"),
            [
                (Kind::Word, "SELECT"),
                (Kind::Number, "1"),
                (Kind::Symbol(b','), ","),
                (Kind::Number, "2"),
            ]
        );
    }

    #[test]
    fn quotes_hide_semicolons() {
        let text = r#"'a;\';' "b;""" `c\`;` $x$;'$x$ ‘;’ “;”"#;
        assert_eq!(
            lex(text),
            [
                (Kind::String, r"'a;\';'"),
                (Kind::Quoted, r#""b;""""#),
                (Kind::Quoted, r"`c\`;`"),
                (Kind::String, "$x$;'$x$"),
                (Kind::String, "‘;’"),
                (Kind::Quoted, "“;”"),
            ]
        );
    }

    #[test]
    fn open_quotes_and_comments_are_broken() {
        for text in ["'abc", "`abc", "/* abc", "\"a\\\""] {
            assert_eq!(
                lex(text).last().map(|token| token.0),
                Some(Kind::Broken),
                "{text}"
            );
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unquote(br"'a\'b''c\\n'"), r"a'b'c\n");
        assert_eq!(unquote(br"`x\ty`"), "x\ty");
        assert_eq!(unquote(br"'def\x61ul\Nt\e\/\%'"), "default\u{1b}/\\%");
        assert_eq!(unquote(b"$a$it's$a$"), "it's");
        assert_eq!(unquote("‘q’".as_bytes()), "q");
    }
}

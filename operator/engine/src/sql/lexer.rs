//! ClickHouse's tokens: words, quoted names, strings, numbers and single symbols.
//!
//! Follows the server's own lexer: what is a blank or a comment, where a string
//! or a number ends, which quotes exist. Security decisions taken on tokens
//! (one statement only, no `SET ROLE`) rely on that; libchdb's own parser is
//! asked as well before anything runs.

use std::borrow::Cow;
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
    previous: Option<Kind>,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            position: 0,
            previous: None,
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.position + ahead).copied()
    }

    fn next_is(&self, ahead: usize, accepts: impl Fn(u8) -> bool) -> bool {
        self.peek(ahead).is_some_and(accepts)
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.position..]
    }

    /// Skips blanks and comments; false when a comment does not end.
    fn skip_insignificant(&mut self) -> bool {
        loop {
            let rest = self.rest();
            let blank = blank(rest);
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

    /// `x'4142'` or `b'0101'`.
    fn digits_in_quotes(&mut self, is_digit: impl Fn(u8) -> bool + Copy) -> Kind {
        self.position += 2;
        while self.next_is(0, is_digit) {
            self.position += 1;
        }
        if self.peek(0) == Some(b'\'') {
            self.position += 1;
            return Kind::String;
        }
        self.position = self.text.len();
        Kind::Broken
    }

    fn word(&mut self) -> Kind {
        while self.next_is(0, |byte| is_word(byte) || byte == b'$') {
            self.position += 1;
        }
        Kind::Word
    }

    /// `$tag$ ... $tag$`, a word that begins with a dollar sign, or the sign alone.
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
        if !self.next_is(1, is_word) {
            self.position += 1;
            return Kind::Symbol(b'$');
        }
        self.word()
    }

    /// A number, or a name that begins with digits.
    fn number(&mut self) -> Kind {
        let start = self.position;
        let is_hex = self.next_is(1, |byte| matches!(byte, b'x' | b'X'))
            && self.next_is(2, |byte| byte.is_ascii_hexdigit());
        let is_binary = self.next_is(1, |byte| matches!(byte, b'b' | b'B'))
            && self.next_is(2, |byte| matches!(byte, b'0' | b'1'));
        if self.previous == Some(Kind::Symbol(b'.')) {
            // In `x.1.1` there is no number with a point.
            self.digits(u8::is_ascii_digit, false);
        } else {
            if self.peek(0) == Some(b'0') && (is_hex || is_binary) {
                self.position += 2;
            }
            let is_hex = self.position > start && is_hex;
            let is_digit = if is_hex {
                u8::is_ascii_hexdigit
            } else {
                u8::is_ascii_digit
            };
            self.digits(is_digit, self.position > start);
            if self.peek(0) == Some(b'.') {
                self.position += 1;
                self.digits(is_digit, true);
            }
            self.exponent(if is_hex { b'p' } else { b'e' });
        }
        if !self.next_is(0, is_word) {
            return Kind::Number;
        }
        while self.next_is(0, is_word) {
            self.position += 1;
        }
        if self.text[start..self.position].iter().copied().all(is_word) {
            Kind::Word
        } else {
            Kind::Broken
        }
    }

    /// `.5`
    fn fraction(&mut self) -> Kind {
        self.position += 1;
        self.digits(u8::is_ascii_digit, true);
        self.exponent(b'e');
        Kind::Number
    }

    /// Digits, and between them underscores.
    fn digits(&mut self, is_digit: impl Fn(&u8) -> bool, mut first: bool) {
        loop {
            let digit = self.next_is(0, |byte| is_digit(&byte));
            let separator =
                !first && self.peek(0) == Some(b'_') && self.next_is(1, |byte| is_digit(&byte));
            if !digit && !separator {
                return;
            }
            self.position += 1;
            first = false;
        }
    }

    fn exponent(&mut self, letter: u8) {
        if !self.next_is(0, |byte| byte.eq_ignore_ascii_case(&letter)) || self.peek(1).is_none() {
            return;
        }
        self.position += 1;
        if self.next_is(0, |byte| matches!(byte, b'-' | b'+')) && self.peek(1).is_some() {
            self.position += 1;
        }
        self.digits(u8::is_ascii_digit, true);
    }

    /// Whether a point here begins a number, rather than to follow a name.
    fn is_fraction(&self) -> bool {
        let follows = matches!(
            self.previous,
            Some(Kind::Word | Kind::Quoted | Kind::Number | Kind::Symbol(b')' | b']'))
        );
        self.position == 0 || (self.next_is(1, |byte| byte.is_ascii_digit()) && !follows)
    }

    fn kind(&mut self, first: u8) -> Kind {
        match first {
            b'\'' => self.quoted(b'\'', Kind::String),
            b'"' => self.quoted(b'"', Kind::Quoted),
            b'`' => self.quoted(b'`', Kind::Quoted),
            b'$' => self.dollar(),
            b'0'..=b'9' => self.number(),
            b'.' if self.is_fraction() => self.fraction(),
            b'x' | b'X' if self.peek(1) == Some(b'\'') => {
                self.digits_in_quotes(|byte| byte.is_ascii_hexdigit())
            }
            b'b' | b'B' if self.peek(1) == Some(b'\'') => {
                self.digits_in_quotes(|byte| matches!(byte, b'0' | b'1'))
            }
            byte if is_word(byte) => self.word(),
            _ if self.rest().starts_with("‘".as_bytes()) => {
                self.curly("’".as_bytes(), Kind::String)
            }
            _ if self.rest().starts_with("“".as_bytes()) => {
                self.curly("”".as_bytes(), Kind::Quoted)
            }
            b'!' if self.peek(1) == Some(b'=') => {
                self.position += 1;
                Kind::Symbol(b'!')
            }
            // The minus sign of typographers.
            _ if self.rest().starts_with("−".as_bytes()) => {
                self.position += 3;
                Kind::Symbol(b'-')
            }
            b'#' | b'!' | b'\\' => {
                self.position += 1;
                Kind::Broken
            }
            byte if byte.is_ascii() && !byte.is_ascii_control() => {
                self.position += 1;
                Kind::Symbol(byte)
            }
            _ => {
                self.position += 1;
                Kind::Broken
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
            let first = self.peek(0)?;
            self.kind(first)
        } else {
            Kind::Broken
        };
        self.previous = Some(kind);
        Some(Token {
            kind,
            range: start.min(self.text.len())..self.position.min(self.text.len()),
        })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// How long the blank at the beginning of the text is: ClickHouse takes those
/// of Unicode too, and some characters of no width.
fn blank(text: &[u8]) -> usize {
    match text {
        [b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C, ..] => 1,
        [0xC2, 0x85 | 0xA0, ..] => 2,
        [0xE1, 0xA0, 0x8E, ..]
        | [0xE2, 0x80, 0x80..=0x8D | 0xA8 | 0xA9 | 0xAF, ..]
        | [0xE2, 0x81, 0x9F | 0xA0, ..]
        | [0xE3, 0x80, 0x80, ..]
        | [0xEF, 0xBB, 0xBF, ..] => 3,
        _ => 0,
    }
}

/// The text without what a comment could tell libchdb: `{ serverError 60 }`
/// would make it swallow that error. All else keeps its place.
pub(crate) fn without_hints(text: &[u8]) -> Cow<'_, [u8]> {
    let mut plain = Cow::Borrowed(text);
    let mut end = 0;
    let tokens = Lexer::new(text).map(|token| token.range);
    for token in tokens.chain(std::iter::once(text.len()..text.len())) {
        let gap = end..token.start.max(end);
        if text[gap.clone()].contains(&b'{') {
            for byte in &mut plain.to_mut()[gap] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        end = token.end;
    }
    plain
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
    fn comments_are_as_many_as_clickhouse_knows() {
        for text in [
            "a // '\nb",
            "a /* /* ' */ */ b",
            "a # '\n#!\nb",
            "a\u{85}\u{a0}\u{180e}\u{2000}\u{200d}\u{2028}\u{202f}\u{205f}\u{2060}\u{3000}\u{feff}b",
        ] {
            assert_eq!(lex(text), [(Kind::Word, "a"), (Kind::Word, "b")], "{text}");
        }
    }

    #[test]
    fn numbers_end_where_clickhouse_ends_them() {
        for text in [
            "1",
            "1.5",
            "1.",
            "1.5E+10",
            "0x1F.8p-3",
            "0b11",
            "1_000.0_1",
            "2e5",
        ] {
            assert_eq!(lex(text), [(Kind::Number, text)]);
        }
        assert_eq!(lex("1e--x").len(), 3, "there is no comment");
        assert_eq!(lex("1abc"), [(Kind::Word, "1abc")]);
        assert_eq!(lex("1.5abc"), [(Kind::Broken, "1.5abc")]);
        assert_eq!(lex("a.1.2").len(), 5);
        assert_eq!(
            lex("+.5"),
            [(Kind::Symbol(b'+'), "+"), (Kind::Number, ".5")]
        );
        assert_eq!(lex("x'4A' b'01'")[1], (Kind::String, "b'01'"));
        assert_eq!(lex("$ $;")[0], (Kind::Symbol(b'$'), "$"));
    }

    #[test]
    fn hints_go_and_strings_stay() {
        let plain = |text: &str| String::from_utf8(without_hints(text.as_bytes()).into()).unwrap();
        assert_eq!(
            plain("a -- {x}\n'-- {y}' /*{*/"),
            "a       \n'-- {y}'      "
        );
        assert_eq!(plain("/* trace */ {a:Int8}"), "/* trace */ {a:Int8}");
    }

    #[test]
    fn open_quotes_and_comments_are_broken() {
        for text in ["'abc", "`abc", "/* abc", "/* /* */", "x'4", "\"a\\\""] {
            assert_eq!(
                lex(text).last().map(|token| token.0),
                Some(Kind::Broken),
                "{text}"
            );
        }
    }
}

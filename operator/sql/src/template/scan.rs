//! Cuts template text into SQL, `{{ expressions }}` and `{% statements %}`.
//!
//! Template marks count only where SQL text could stand by itself. Inside
//! comments they are plain text, so a commented-out line stays commented out;
//! inside strings and quoted names they are refused, because a value is bound as
//! a parameter of its own and cannot be a part of a literal.

use super::{error::Fault, parameter::ScalarType};
use crate::lexer::{Lexer, Token, TokenKind, Unterminated};

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// SQL, as it is.
    Sql(String),
    /// What stands between `{{` and `}}`.
    Expression(Inner<'a>),
    /// What stands between `{%` and `%}`.
    Statement(Inner<'a>),
}

/// The inside of a pair of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inner<'a> {
    pub(super) text: &'a str,
    /// Where the text begins in the template, in bytes.
    pub(super) at: usize,
}

/// A template taken apart.
#[derive(Debug)]
pub(super) struct Scanned<'a> {
    /// Its pieces in order; neighbouring SQL is one piece.
    pub(super) segments: Vec<Segment<'a>>,
    /// What stands in it besides white space and comments.
    pub(super) outline: Vec<OutlineItem>,
}

/// A token of a template: where it stands, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutlineItem {
    /// A token of SQL.
    Sql(Token),
    /// A pair of template marks with what is between, by its first and last byte.
    Marks { start: usize, end: usize },
}

impl OutlineItem {
    pub(crate) fn start(&self) -> usize {
        match self {
            Self::Sql(token) => token.start,
            Self::Marks { start, .. } => *start,
        }
    }

    pub(crate) fn end(&self) -> usize {
        match self {
            Self::Sql(token) => token.end,
            Self::Marks { end, .. } => *end,
        }
    }
}

/// Takes a template apart.
pub(super) fn scan(source: &str) -> Result<Scanned<'_>, Fault> {
    if let Some(at) = source.find('\0') {
        return Err(Fault::new(at, "SQL must not contain the NUL character"));
    }
    let mut scanner = Scanner {
        source,
        lexer: Lexer::new(source),
        position: 0,
        sql: String::new(),
        scanned: Scanned {
            segments: Vec::new(),
            outline: Vec::new(),
        },
    };
    scanner.skip_template_sign();
    while scanner.position < source.len() {
        scanner.step()?;
    }
    scanner.flush();
    Ok(scanner.scanned)
}

struct Scanner<'a> {
    source: &'a str,
    lexer: Lexer<'a>,
    position: usize,
    sql: String,
    scanned: Scanned<'a>,
}

impl<'a> Scanner<'a> {
    /// A Tinybird datafile marks a template with a leading `%`; here everything
    /// is a template, and the sign is only passed over.
    fn skip_template_sign(&mut self) {
        let trimmed = self.source.trim_start();
        if trimmed.starts_with('%') {
            self.position = self.source.len() - trimmed.len() + 1;
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.position..]
    }

    fn step(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        if rest.starts_with("{{!") || rest.starts_with("{%!") || rest.starts_with("{#!") {
            self.sql.push_str(&rest[..2]);
            self.scanned.outline.push(OutlineItem::Sql(Token {
                kind: TokenKind::Symbol('{'),
                start: self.position,
                end: self.position + 3,
            }));
            self.position += 3;
        } else if rest.starts_with("{{") {
            let inner = self.inner("}}")?;
            self.marks(Segment::Expression(inner), inner);
        } else if rest.starts_with("{%") {
            let inner = self.inner("%}")?;
            self.marks(Segment::Statement(inner), inner);
        } else if rest.starts_with("{#") {
            self.comment()?;
        } else {
            self.sql_token()?;
        }
        Ok(())
    }

    fn flush(&mut self) {
        if !self.sql.is_empty() {
            self.scanned
                .segments
                .push(Segment::Sql(std::mem::take(&mut self.sql)));
        }
    }

    fn marks(&mut self, segment: Segment<'a>, inner: Inner<'a>) {
        self.flush();
        self.scanned.segments.push(segment);
        self.scanned.outline.push(OutlineItem::Marks {
            start: inner.at - 2,
            end: self.position,
        });
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(length) = self.rest().find("#}") else {
            return Err(Fault::new(self.position, "`{#` without `#}`"));
        };
        self.position += length + 2;
        // What a comment separated stays separated.
        self.sql.push(' ');
        Ok(())
    }

    /// Reads from an opening mark past its closing one.
    fn inner(&mut self, closing: &str) -> Result<Inner<'a>, Fault> {
        let opening = &self.rest()[..2];
        let at = self.position + 2;
        let length = match closing_mark(&self.source[at..], closing) {
            Closing::At(length) => length,
            Closing::Missing => {
                let message = format!("`{opening}` without `{closing}`");
                return Err(Fault::new(self.position, message));
            }
            Closing::OpenText(quote) => {
                return Err(Fault::new(at + quote, "this text does not end"));
            }
        };
        self.position = at + length + 2;
        Ok(Inner {
            text: &self.source[at..at + length],
            at,
        })
    }

    fn sql_token(&mut self) -> Result<(), Fault> {
        self.lexer.seek(self.position);
        let Some(token) = self.lexer.next() else {
            return Ok(());
        };
        match token.kind {
            TokenKind::Unterminated(open) => return Err(unterminated(&token, open)),
            TokenKind::String => self.literal(&token, "a string literal")?,
            TokenKind::QuotedIdentifier => self.literal(&token, "a quoted name")?,
            TokenKind::Symbol('{') => {
                self.refuse_placeholder(&token)?;
                self.sql.push('{');
            }
            TokenKind::Space | TokenKind::Comment | TokenKind::Word | TokenKind::Symbol(_) => {
                self.sql.push_str(token.text(self.source));
            }
        }
        if !token.is_trivia() {
            self.scanned.outline.push(OutlineItem::Sql(token));
        }
        self.position = token.end;
        Ok(())
    }

    /// Copies a string or quoted name, in which only escaped marks may stand.
    fn literal(&mut self, token: &Token, what: &str) -> Result<(), Fault> {
        let text = token.text(self.source);
        let mut copied = 0;
        for (at, _) in text.match_indices('{') {
            let Some(mark @ ("{{" | "{%" | "{#")) = text.get(at..at + 2) else {
                continue;
            };
            if at < copied {
                continue;
            }
            if text[at + 2..].starts_with('!') {
                self.sql.push_str(&text[copied..at + 2]);
                copied = at + 3;
                continue;
            }
            return Err(
                Fault::new(token.start + at, format!("`{mark}` inside {what}")).hint(format!(
                    "a value cannot be a part of a literal: put it together with concat(), \
                     or write `{mark}!` for the characters themselves"
                )),
            );
        }
        self.sql.push_str(&text[copied..]);
        Ok(())
    }

    /// `{name:Type}` is ClickHouse's own mark for a bound value. Nothing would
    /// bind it, so it is refused here rather than by every query later.
    fn refuse_placeholder(&self, brace: &Token) -> Result<(), Fault> {
        let mut ahead = self.lexer.clone();
        let Some(name) = ahead
            .next_significant()
            .and_then(|token| token.name(self.source))
        else {
            return Ok(());
        };
        let colon = ahead.next_significant();
        if colon.is_none_or(|token| token.kind != TokenKind::Symbol(':')) {
            return Ok(());
        }
        let declared = ahead
            .next_significant()
            .and_then(|token| token.name(self.source));
        let replacement = match declared.as_deref() {
            Some("Array") => format!("Array({name}, 'String')"),
            Some(scalar) if ScalarType::named(scalar).is_some() => format!("{scalar}({name})"),
            _ => format!("String({name})"),
        };
        Err(Fault::new(
            brace.start,
            format!("`{{{name}:...}}` would never get a value"),
        )
        .hint(format!(
            "write `{{{{ {replacement} }}}}`, or another type in its place"
        )))
    }
}

fn unterminated(token: &Token, open: Unterminated) -> Fault {
    let what = match open {
        Unterminated::String => "this string literal does not end",
        Unterminated::QuotedIdentifier => "this quoted name does not end",
        Unterminated::Comment => "this comment does not end",
    };
    Fault::new(token.start, what)
}

/// How a pair of marks ends.
enum Closing {
    /// At this byte.
    At(usize),
    /// Not at all.
    Missing,
    /// Not, since the text that begins at this byte has no closing quote.
    OpenText(usize),
}

/// Looks for the closing mark outside of the expression's own texts and braces.
fn closing_mark(text: &str, closing: &str) -> Closing {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut index = 0;
    while index < bytes.len() {
        if depth == 0 && bytes[index..].starts_with(closing.as_bytes()) {
            return Closing::At(index);
        }
        match bytes[index] {
            quote @ (b'\'' | b'"') => match text_end(bytes, index, quote) {
                Some(end) => index = end,
                None => return Closing::OpenText(index),
            },
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        index += 1;
    }
    Closing::Missing
}

/// The position of the quote that ends a text of the expression language.
fn text_end(bytes: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut index = start + 1;
    while index < bytes.len() {
        match bytes[index] {
            b'\\' => index += 1,
            byte if byte == quote => return Some(index),
            _ => {}
        }
        index += 1;
    }
    None
}

//! Cuts template text into SQL, `{{ expressions }}` and `{% statements %}`.
//!
//! Template marks count only where SQL text could stand by itself. Inside
//! comments they are plain text, so a commented-out line stays commented out;
//! inside strings and quoted names they are refused, because a value is bound as
//! a parameter of its own and cannot be a part of a literal.

use super::{error::ParseError, expression_text::read_text, parameter::ScalarType};
use crate::scanner::{Scanner, Token, TokenKind, Unterminated};

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
pub(super) struct Segments<'a> {
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
pub(super) fn cut(source: &str) -> Result<Segments<'_>, ParseError> {
    if let Some(at) = source.find('\0') {
        return Err(ParseError::new(
            at,
            "SQL must not contain the NUL character",
        ));
    }
    let mut cutter = Cutter {
        source,
        tokens: Scanner::new(source),
        position: 0,
        sql: String::new(),
        done: Segments {
            segments: Vec::new(),
            outline: Vec::new(),
        },
    };
    cutter.skip_template_sign();
    while cutter.position < source.len() {
        cutter.step()?;
    }
    cutter.flush();
    Ok(cutter.done)
}

struct Cutter<'a> {
    source: &'a str,
    tokens: Scanner<'a>,
    position: usize,
    sql: String,
    done: Segments<'a>,
}

impl<'a> Cutter<'a> {
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

    fn step(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        if rest.starts_with("{{!") || rest.starts_with("{%!") || rest.starts_with("{#!") {
            self.sql.push_str(&rest[..2]);
            self.done.outline.push(OutlineItem::Sql(Token {
                kind: TokenKind::Symbol('{'),
                start: self.position,
                end: self.position + 3,
                depth: 0,
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
            self.done
                .segments
                .push(Segment::Sql(std::mem::take(&mut self.sql)));
        }
    }

    fn marks(&mut self, segment: Segment<'a>, inner: Inner<'a>) {
        self.flush();
        self.done.segments.push(segment);
        self.done.outline.push(OutlineItem::Marks {
            start: inner.at - 2,
            end: self.position,
        });
    }

    fn comment(&mut self) -> Result<(), ParseError> {
        let Some(length) = self.rest().find("#}") else {
            return Err(ParseError::new(self.position, "`{#` without `#}`"));
        };
        self.position += length + 2;
        // What a comment separated stays separated.
        self.sql.push(' ');
        Ok(())
    }

    /// Reads from an opening mark past its closing one.
    fn inner(&mut self, closing: &str) -> Result<Inner<'a>, ParseError> {
        let opening = &self.rest()[..2];
        let at = self.position + 2;
        let length = match closing_mark(&self.source[at..], closing) {
            Closing::At(length) => length,
            Closing::Missing => {
                let message = format!("`{opening}` without `{closing}`");
                return Err(ParseError::new(self.position, message));
            }
            Closing::OpenText(quote) => {
                return Err(ParseError::new(at + quote, "this text does not end"));
            }
        };
        self.position = at + length + 2;
        Ok(Inner {
            text: &self.source[at..at + length],
            at,
        })
    }

    fn sql_token(&mut self) -> Result<(), ParseError> {
        self.tokens.seek(self.position);
        let Some(token) = self.tokens.next() else {
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
            self.done.outline.push(OutlineItem::Sql(token));
        }
        self.position = token.end;
        Ok(())
    }

    /// Copies a string or quoted name, in which only escaped marks may stand.
    fn literal(&mut self, token: &Token, what: &str) -> Result<(), ParseError> {
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
                ParseError::new(token.start + at, format!("`{mark}` inside {what}")).hint(format!(
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
    fn refuse_placeholder(&self, brace: &Token) -> Result<(), ParseError> {
        let mut ahead = self.tokens.clone();
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
        Err(ParseError::new(
            brace.start,
            format!("`{{{name}:...}}` would never get a value"),
        )
        .hint(format!(
            "write `{{{{ {replacement} }}}}`, or another type in its place"
        )))
    }
}

fn unterminated(token: &Token, open: Unterminated) -> ParseError {
    let what = match open {
        Unterminated::String => "this string literal does not end",
        Unterminated::QuotedIdentifier => "this quoted name does not end",
        Unterminated::Comment => "this comment does not end",
    };
    ParseError::new(token.start, what)
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

/// Looks for the closing mark outside of the expression's own texts and braces. What
/// stands between marks is not SQL: its texts end by rules of their own.
fn closing_mark(text: &str, closing: &str) -> Closing {
    let mut depth = 0_usize;
    let mut index = 0;
    while let Some(next) = text[index..].chars().next() {
        let rest = &text[index..];
        if depth == 0 && rest.starts_with(closing) {
            return Closing::At(index);
        }
        match next {
            '\'' | '"' => match read_text(rest, next) {
                Some((_, length)) => {
                    index += length;
                    continue;
                }
                None => return Closing::OpenText(index),
            },
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        index += next.len_utf8();
    }
    Closing::Missing
}

//! What can be wrong with a template, and where.

use std::fmt::{self, Display, Formatter};

/// A template that cannot be used: the place, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Display for TemplateError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
            hint,
        } = self;
        write!(formatter, "line {line}, column {column}: {message}")?;
        match hint {
            Some(hint) => write!(formatter, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TemplateError {}

/// A fault at a byte position. The parser works with these; line and column are
/// counted once, at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParseError {
    at: usize,
    message: String,
    hint: Option<String>,
}

impl ParseError {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(super) fn locate(self, source: &str) -> TemplateError {
        let (line, column) = line_and_column(source, self.at);
        TemplateError {
            line,
            column,
            message: self.message,
            hint: self.hint,
        }
    }
}

/// Counts lines and characters before a byte position.
pub(super) fn line_and_column(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

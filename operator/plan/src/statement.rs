//! A statement for ClickHouse, and whether its text may be shown.

use std::fmt;

/// The text of one statement. Sensitive text (password hashes) is never printed:
/// only [`Statement::text`] gives it, to the connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    text: String,
    sensitive: bool,
}

impl Statement {
    /// A statement that logs may show.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            sensitive: false,
        }
    }

    /// A statement that nobody may see.
    pub fn sensitive(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            sensitive: true,
        }
    }

    /// The text to send.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the text must not be shown.
    pub fn is_sensitive(&self) -> bool {
        self.sensitive
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sensitive {
            let verb: Vec<&str> = self.text.split_whitespace().take(2).collect();
            return write!(formatter, "{} [hidden]", verb.join(" "));
        }
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Statement({self})")
    }
}

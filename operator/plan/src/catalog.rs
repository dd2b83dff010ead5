//! The ClickHouse objects of one workspace, desired or observed: the same type
//! for both, so that the planner compares like with like.
//!
//! Expressions stand as ClickHouse writes them. Those of a desired catalog are
//! as people wrote them until [`Catalog::canonicalised`] exchanged them for what
//! ClickHouse's own formatter makes of them; see [`Expression`].

use crate::comment::Comment;
use aviary_sql::scanner::{Token, TokenKind, significant_tokens};
use aviary_sql::{Identifier, QualifiedName};
use std::collections::{BTreeMap, BTreeSet};

/// All that one workspace has in ClickHouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// Name of the database.
    pub name: Identifier,
    /// The database, if it is there.
    pub database: Option<Database>,
    /// Tables and all that is like one (dictionaries, plain views) by name.
    pub tables: BTreeMap<String, Table>,
    /// Materialized views by name.
    pub views: BTreeMap<String, View>,
    /// The workspace's users by name.
    pub users: BTreeMap<String, User>,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Who owns it.
    pub comment: Comment,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// Its engine.
    pub engine: TableEngine,
    /// `PARTITION BY`; empty if none.
    pub partition_key: String,
    /// `ORDER BY`, each part of it.
    pub sorting_key: Vec<String>,
    /// `TTL`, if any.
    pub ttl: Option<String>,
    /// `SETTINGS` by name. Wished for: those that matter to us; others are nobody's business.
    pub settings: BTreeMap<String, String>,
    /// Who owns it.
    pub comment: Comment,
}

/// An engine and its arguments, apart from how it is replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEngine {
    /// Such as `ReplacingMergeTree`, without `Replicated`.
    pub family: String,
    /// Such as the version column.
    pub arguments: Vec<String>,
    /// Where a replicated table's state is in Keeper. A table keeps what it was made with.
    pub replication_path: Option<String>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as ClickHouse writes it.
    pub column_type: String,
    /// `DEFAULT`; empty if none.
    pub default: String,
    /// Codecs; empty if none is set.
    pub codec: String,
    /// For people.
    pub comment: String,
}

/// A materialized view that writes to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The table it writes to.
    pub target: String,
    /// Its query.
    pub query: String,
    /// The user it runs as, where the server knows definers.
    pub definer: Option<String>,
    /// Who owns it.
    pub comment: Comment,
}

/// A user with what it may do and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// SHA-256 of its password in hex. Known only where it is desired.
    pub password_sha256: Option<Sha256>,
    /// Whether it logs in with a password of this kind and in no other way.
    pub by_password_hash: bool,
    /// Its settings and what it may change of them.
    pub settings: BTreeMap<String, Setting>,
    /// Its rights.
    pub grants: BTreeSet<Grant>,
    /// Roles granted to it.
    pub roles: BTreeSet<String>,
}

/// The SHA-256 of a password in hex: not for printing.
#[derive(Clone, PartialEq, Eq)]
pub struct Sha256(String);

impl Sha256 {
    /// Takes 64 hexadecimal digits.
    pub fn new(hex: impl Into<String>) -> Option<Self> {
        let hex = hex.into();
        let well_formed = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        well_formed.then_some(Self(hex))
    }

    /// The digits, to be put into a statement.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sha256([hidden])")
    }
}

/// A setting of a user. All of it as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Its value.
    pub value: Option<String>,
    /// The least it can be set to.
    pub minimum: Option<String>,
    /// The most it can be set to.
    pub maximum: Option<String>,
    /// Whether it cannot be changed at all.
    pub constant: bool,
}

/// A right of a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Such as `SELECT`.
    pub access: String,
    /// The database; all if none.
    pub database: Option<String>,
    /// The table; all if none.
    pub table: Option<String>,
    /// The column; all if none.
    pub column: Option<String>,
    /// Whether it may be passed on.
    pub with_grant_option: bool,
    /// Whether it takes away part of a wider right.
    pub is_partial_revoke: bool,
}

impl Catalog {
    /// A catalog with nothing in it.
    pub fn empty(name: Identifier) -> Self {
        Self {
            name,
            database: None,
            tables: BTreeMap::new(),
            views: BTreeMap::new(),
            users: BTreeMap::new(),
        }
    }

    /// The full name of something in the database. Names come from manifests or
    /// from ClickHouse and are never empty.
    pub fn qualified(&self, name: &str) -> QualifiedName {
        QualifiedName::new(self.name.clone(), identifier(name))
    }

    /// Every expression that ClickHouse may write differently from its author, of tables and
    /// views that the other catalog has as well.
    pub fn expressions_beside(&self, other: &Self) -> BTreeSet<Expression> {
        let mut common = self.clone();
        common
            .tables
            .retain(|name, _| other.tables.contains_key(name));
        common
            .views
            .retain(|name, _| other.views.contains_key(name));
        let mut found = BTreeSet::new();
        common.visit_expressions(&mut |expression| {
            found.insert(expression.clone());
        });
        found
    }

    /// The catalog with expressions exchanged for their canonical texts. What is
    /// not in the map stays as it is.
    #[must_use]
    pub fn canonicalised(mut self, canonical: &BTreeMap<Expression, String>) -> Self {
        self.visit_expressions(&mut |expression| {
            if let Some(text) = canonical.get(expression) {
                *expression.text_mut() = text.clone();
            }
        });
        self
    }

    fn visit_expressions(&mut self, visit: &mut impl FnMut(&mut Expression)) {
        let mut each = |text: &mut String, kind: fn(String) -> Expression| {
            if text.is_empty() {
                return;
            }
            let mut expression = kind(std::mem::take(text));
            visit(&mut expression);
            *text = std::mem::take(expression.text_mut());
        };
        for table in self.tables.values_mut() {
            for column in &mut table.columns {
                each(&mut column.default, Expression::Scalar);
            }
            each(&mut table.partition_key, Expression::Scalar);
            for part in &mut table.sorting_key {
                each(part, Expression::Scalar);
            }
            if let Some(ttl) = &mut table.ttl {
                each(ttl, Expression::Ttl);
            }
        }
        for view in self.views.values_mut() {
            each(&mut view.query, Expression::Query);
        }
    }
}

/// A piece of SQL that ClickHouse keeps in its own spelling, and how to ask for
/// that spelling: `formatQuerySingleLine` of [`Expression::probe`] gives a text
/// that [`Expression::from_formatted`] takes the piece out of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expression {
    /// A value.
    Scalar(String),
    /// A TTL clause.
    Ttl(String),
    /// A SELECT.
    Query(String),
}

impl Expression {
    const TTL_PROBE: &'static str = "CREATE TABLE t (c Int8) ENGINE = MergeTree TTL ";

    /// The text itself.
    pub fn text(&self) -> &str {
        match self {
            Self::Scalar(text) | Self::Ttl(text) | Self::Query(text) => text,
        }
    }

    fn text_mut(&mut self) -> &mut String {
        match self {
            Self::Scalar(text) | Self::Ttl(text) | Self::Query(text) => text,
        }
    }

    /// A statement that has the expression in it.
    pub fn probe(&self) -> String {
        match self {
            Self::Scalar(text) => format!("SELECT {text}"),
            Self::Ttl(text) => format!("{}{text}", Self::TTL_PROBE),
            Self::Query(text) => text.clone(),
        }
    }

    /// The expression in ClickHouse's spelling, from the formatted statement.
    pub fn from_formatted(&self, formatted: &str) -> Option<String> {
        let formatted = formatted.trim();
        match self {
            Self::Scalar(_) => {
                let value = formatted.strip_prefix("SELECT ")?;
                Some(without_parentheses(value).to_owned())
            }
            Self::Ttl(_) => {
                let (_, ttl) = formatted.split_once(" ENGINE = MergeTree TTL ")?;
                Some(ttl.to_owned())
            }
            Self::Query(_) => Some(formatted.to_owned()),
        }
    }
}

/// A value without the parentheses around all of it. Statements have them, so
/// that an expression cannot leave its place, and ClickHouse keeps some of them.
pub fn without_parentheses(text: &str) -> &str {
    match between_parentheses(text) {
        // A tuple is its parentheses.
        Some((inner, false)) => without_parentheses(inner),
        _ => text,
    }
}

/// Whether a value is a tuple, written with the function or without.
pub(crate) fn is_tuple(text: &str) -> bool {
    let bare = without_parentheses(text.trim());
    let parts = match bare.split_at_checked("tuple".len()) {
        Some((word, parts)) if word.eq_ignore_ascii_case("tuple") => parts.trim_start(),
        _ => bare,
    };
    parts.is_empty() || between_parentheses(parts).is_some()
}

/// What stands between the parentheses around all of the text, if there are any,
/// and whether it is a list.
fn between_parentheses(text: &str) -> Option<(&str, bool)> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let tokens = significant_tokens(text);
    let (last, others) = tokens.split_last()?;
    let inside = others.get(1..)?;
    // Not where the first parenthesis is closed before the end.
    let are_pair = last.kind == TokenKind::Symbol(')') && inside.iter().all(|it| it.depth > 0);
    let is_comma = |token: &Token| token.kind == TokenKind::Symbol(',') && token.depth == 1;
    are_pair.then(|| (inner, inside.iter().any(is_comma)))
}

/// A name for SQL text.
#[expect(
    clippy::expect_used,
    reason = "the schema and ClickHouse both refuse empty names and NUL; the fallback is a constant"
)]
pub fn identifier(name: &str) -> Identifier {
    Identifier::new(name.replace('\0', ""))
        .or_else(|_| Identifier::new("_"))
        .expect("an underscore is a name")
}

/// A name in backticks where the text needs one.
pub(crate) fn quoted(name: &str) -> String {
    identifier(name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needless_parentheses_go() {
        for (text, expected) in [
            ("((a))", "a"),
            ("(a) + (b)", "(a) + (b)"),
            ("(a, b)", "(a, b)"),
            ("((a, b))", "(a, b)"),
            ("(f(a, b))", "f(a, b)"),
            ("(')')", "')'"),
            ("('\\')', 1)", "('\\')', 1)"),
            ("a", "a"),
            ("()", ""),
            ("([a, b])", "[a, b]"),
            ("(", "("),
            ("(--)", "(--)"),
        ] {
            assert_eq!(without_parentheses(text), expected, "{text}");
        }
    }

    #[test]
    fn tuples_are_known_in_every_spelling() {
        for tuple in [
            "tuple()",
            "()",
            "(a, b)",
            "((a, b))",
            "Tuple(a)",
            "tuple (a)",
            " (a, f(b))",
        ] {
            assert!(is_tuple(tuple), "{tuple}");
        }
        for value in [
            "a",
            "(a)",
            "(a) + (b)",
            "f(a, b)",
            "tuple(a).1",
            "tuples(a)",
            "'(a, b)'",
        ] {
            assert!(!is_tuple(value), "{value}");
        }
    }
}

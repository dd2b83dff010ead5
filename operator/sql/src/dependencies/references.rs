//! What a statement can refer to, and the functions that refer to a table by a text.

use std::collections::BTreeSet;

/// A table, view or dictionary that a statement names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableReference {
    /// The database, if the statement says which.
    pub database: Option<String>,
    /// The name in it.
    pub name: String,
}

impl TableReference {
    /// A name without a database.
    pub fn unqualified(name: impl Into<String>) -> Self {
        Self {
            database: None,
            name: name.into(),
        }
    }

    /// A name in a database.
    pub fn qualified(database: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            database: Some(database.into()),
            name: name.into(),
        }
    }
}

/// All that a statement refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Tables that it reads, without the names that its own WITH gives.
    pub tables: BTreeSet<TableReference>,
    /// Names after IN, which may be tables or columns: `x IN y`. Without knowing
    /// the columns nobody can tell, so they are good for ordering but no reason to
    /// call a table missing.
    pub possible_tables: BTreeSet<TableReference>,
    /// Table functions: `numbers` in `FROM numbers(10)`.
    pub table_functions: BTreeSet<String>,
    /// The names that its WITH clauses, at any depth, give to subqueries.
    pub(crate) own_names: BTreeSet<String>,
}

impl References {
    /// Adds what another statement refers to.
    pub(crate) fn extend(&mut self, other: Self) {
        self.tables.extend(other.tables);
        self.possible_tables.extend(other.possible_tables);
        self.table_functions.extend(other.table_functions);
        self.own_names.extend(other.own_names);
    }

    /// The names without a database that may mean a table.
    pub(crate) fn unqualified_names(&self) -> impl Iterator<Item = &str> {
        self.tables
            .iter()
            .chain(&self.possible_tables)
            .filter(|table| table.database.is_none())
            .map(|table| table.name.as_str())
    }
}

/// A table or dictionary that is named in a text: `'name'` or `'database.name'`.
pub(super) fn named(text: &str) -> TableReference {
    match text.split_once('.') {
        Some((database, name)) => TableReference::qualified(database, name),
        None => TableReference::unqualified(text),
    }
}

/// Whether a function's first argument names a dictionary or a Join table.
pub(super) fn names_a_table_first(lower_case_name: &str) -> bool {
    lower_case_name.starts_with("dictget")
        || matches!(
            lower_case_name,
            "dicthas" | "dictisin" | "dictionary" | "joinget" | "joingetornull"
        )
}

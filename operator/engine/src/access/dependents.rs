//! What was made to act later in the name of a user, or to tell of users: views and dictionaries.
//!
//! Their definitions are looked at when they are made, and all of them once
//! when the engine starts. What is dropped is not forgotten: that costs an
//! opening of libchdb at worst.

use std::collections::BTreeSet;

use super::question;
use crate::sql::statement::Statement;

/// Whose changes matter to more than their own statements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dependents {
    /// Users in whose name something reads or writes.
    pub(super) definers: BTreeSet<String>,
    /// Whether a view asks about users.
    pub(super) ask: bool,
}

impl Dependents {
    /// Takes a statement into account that may make something.
    pub(super) fn note(&mut self, statement: &Statement<'_>, user: &str, database: &str) {
        let makes = ["CREATE", "ALTER", "ATTACH", "REPLACE"]
            .iter()
            .any(|word| statement.is(0, word));
        if !makes {
            return;
        }
        if statement.mentions("VIEW") || statement.mentions("SECURITY") {
            // A view without a definer has its maker for one.
            self.definers.insert(user.to_owned());
        }
        let reads_as_users = statement.mentions("CLICKHOUSE");
        for index in 0..statement.tokens.len() {
            let at = if statement.is(index, "DEFINER") {
                index + 1 + usize::from(statement.is_symbol(index + 1, b'='))
            } else if reads_as_users && statement.is(index, "USER") {
                index + 1
            } else {
                continue;
            };
            self.definers.extend(statement.name(at));
        }
        self.ask |= question::asks(statement, database);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_and_definers_are_remembered() {
        let mut dependents = Dependents::default();
        for text in [
            "CREATE VIEW v AS SELECT 1",
            "CREATE VIEW v DEFINER = `a` SQL SECURITY DEFINER AS SELECT 1",
            "ALTER TABLE v MODIFY SQL SECURITY DEFINER DEFINER = 'b'",
            "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(CLICKHOUSE(USER 'c' TABLE t))",
            "SELECT 'DEFINER = x'",
            "CREATE TABLE t (user String) ENGINE = Memory",
        ] {
            dependents.note(&Statement::new(text.as_bytes()), "me", "d");
        }
        for name in ["a", "b", "c", "me"] {
            assert!(dependents.definers.contains(name), "{name}");
        }
        assert!(!dependents.definers.contains("x"));
        assert!(!dependents.ask);
        let asks = Statement::new(b"CREATE VIEW v AS SELECT * FROM system.users");
        dependents.note(&asks, "me", "d");
        assert!(dependents.ask);
    }
}

//! What libchdb does not know yet of the users, and to whose statements that matters.
//!
//! Opening libchdb anew holds everybody up, for longer the more tables there are. A changed user
//! matters to himself, to those who name him, and to those who ask about users whom they do not
//! name; to everybody, where views run in his name, and others read through them. Roles, profiles
//! and policies matter to everybody.

use std::collections::BTreeSet;

use super::model::Model;
use crate::sql::statement::Statement;

/// The tables of `system` that the operator and others read users and their rights from.
const TABLES: [&str; 7] = [
    "users",
    "roles",
    "grants",
    "role_grants",
    "settings_profiles",
    "settings_profile_elements",
    "row_policies",
];

/// The columns of those by which users are named.
const COLUMNS: [&str; 2] = ["name", "user_name"];

/// The difference between what libchdb has read and what statements have made.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) everybody: bool,
    users: BTreeSet<String>,
}

impl Pending {
    /// What changed from `known` to `model`.
    pub(super) fn between(known: &Model, model: &Model) -> Self {
        let names = known.users.keys().chain(model.users.keys());
        let changed = names.filter(|name| known.users.get(*name) != model.users.get(*name));
        Self {
            everybody: known.roles != model.roles
                || known.profiles != model.profiles
                || known.policies != model.policies,
            users: changed.cloned().collect(),
        }
    }

    /// Whether this user's statement may come out otherwise for the changes.
    pub(super) fn concerns(&self, user: &str, statement: &[u8]) -> bool {
        if self.everybody || self.users.contains(user) {
            return true;
        }
        let text = statement.to_ascii_lowercase();
        let names = |name: &String| {
            memchr::memmem::find(&text, name.to_ascii_lowercase().as_bytes()).is_some()
        };
        !self.users.is_empty() && (self.users.iter().any(names) || asks_unfiltered(statement))
    }
}

/// Whether a statement asks about users and limits none of its questions by `name = '...'` or
/// `name IN ('...')`. Only how fresh the answer is depends on this.
fn asks_unfiltered(statement: &[u8]) -> bool {
    let statement = Statement::new(statement);
    let about = |words: &[&str], index| words.iter().any(|word| statement.is(index, word));
    let asks = |index| about(&TABLES, index) || statement.is(index, "GRANTS");
    let limits = |index| {
        let is_equal = statement.is_symbol(index + 1, b'=') && statement.is_string(index + 2);
        let is_listed = statement.is(index + 1, "IN") && statement.is_string(index + 3);
        about(&COLUMNS, index) && (is_equal || is_listed)
    };
    let all = 0..statement.tokens.len();
    all.clone().any(asks) && !all.clone().any(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::model::{Role, User};

    /// The query by which the operator observes a workspace, word for word.
    const OBSERVE: &str = include_str!("../../tests/observe.sql");

    fn model(user: &str, statements: &[&str]) -> Model {
        let mut model = Model::default();
        let mut made = User::default();
        made.grants.statements = statements.iter().map(|text| (*text).to_owned()).collect();
        model.users.insert(user.to_owned(), made);
        model
    }

    #[test]
    fn a_changed_user_concerns_himself_and_who_asks_for_him() {
        let known = Model::default();
        let new = model("acme__writer", &[]);
        let granted = model("acme__writer", &["GRANT SELECT ON acme.*"]);
        for (known, model) in [(&known, &new), (&new, &granted), (&granted, &known)] {
            let pending = Pending::between(known, model);
            for (user, statement, concerns) in [
                (
                    "default",
                    "CREATE TABLE acme.t (a Int8) ENGINE = Null",
                    false,
                ),
                ("old", "SELECT 1", false),
                ("acme__writer", "SELECT 1", true),
                (
                    "default",
                    "CREATE VIEW v DEFINER = `ACME__writer` AS SELECT 1",
                    true,
                ),
                ("default", "SELECT count() FROM system.users", true),
                (
                    "default",
                    "SELECT name FROM system.users WHERE name IN ('old')",
                    false,
                ),
                (
                    "default",
                    "SELECT * FROM system.grants WHERE user_name = 'old'",
                    false,
                ),
                ("default", &OBSERVE.replace("acme", "other"), false),
                ("default", OBSERVE, true),
            ] {
                let found = pending.concerns(user, statement.as_bytes());
                assert_eq!(found, concerns, "{user}: {statement}");
            }
        }
    }

    #[test]
    fn a_role_concerns_everybody() {
        let known = model("a", &[]);
        let mut with_role = known.clone();
        with_role.roles.insert("r".to_owned(), Role::default());
        assert!(Pending::between(&known, &with_role).concerns("default", b"SELECT 1"));
        assert!(!Pending::between(&known, &known).concerns("a", b"SELECT 1"));
    }
}

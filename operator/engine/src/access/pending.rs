//! What libchdb does not know yet of the users, and to whom that matters.
//!
//! Opening libchdb anew holds everybody up, for longer the more tables there
//! are. A user that changed concerns himself, those who name him, and those
//! who ask about users whom they do not name; and everybody where a view or a
//! dictionary acts in his name. Roles, profiles and policies concern everybody.
//! (Names have no characters that could be written in more ways than one, and
//! a definer is not written with escapes.)

use std::collections::BTreeSet;

use super::dependents::Dependents;
use super::model::Model;
use super::question;
use crate::sql::statement::Statement;

/// The difference between what libchdb has read and what statements have made.
#[derive(Debug, Default)]
pub(super) struct Pending {
    everybody: bool,
    users: BTreeSet<String>,
}

impl Pending {
    /// What changed from `known` to `model`.
    pub(super) fn between(known: &Model, model: &Model) -> Self {
        let Model {
            users,
            roles,
            profiles,
            policies,
        } = known;
        let names = users.keys().chain(model.users.keys());
        Self {
            everybody: (roles, profiles, policies)
                != (&model.roles, &model.profiles, &model.policies),
            users: names
                .filter(|name| users.get(*name) != model.users.get(*name))
                .cloned()
                .collect(),
        }
    }

    /// Whether this user's statement may come out otherwise for the changes.
    pub(super) fn concerns(
        &self,
        dependents: &Dependents,
        user: &str,
        database: &str,
        statement: &[u8],
    ) -> bool {
        if self.everybody {
            return true;
        }
        if self.users.is_empty() {
            return false;
        }
        if self.users.contains(user)
            || dependents.ask
            || !dependents.definers.is_disjoint(&self.users)
        {
            return true;
        }
        let text = statement.to_ascii_lowercase();
        let named = |name: &String| {
            memchr::memmem::find(&text, name.to_ascii_lowercase().as_bytes()).is_some()
        };
        self.users.iter().any(named)
            || question::asks_at_large(&Statement::new(statement), database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::model::{Role, User};

    fn with_user(mut model: Model, name: &str, database: &str) -> Model {
        let user = User {
            default_database: Some(database.to_owned()),
            ..User::default()
        };
        model.users.insert(name.to_owned(), user);
        model
    }

    #[test]
    fn a_changed_user_concerns_himself_and_who_names_him() {
        let known = with_user(Model::default(), "old", "d");
        let new = with_user(known.clone(), "acme__writer", "d");
        let altered = with_user(new.clone(), "acme__writer", "e");
        for (known, model) in [(&known, &new), (&new, &known), (&new, &altered)] {
            let pending = Pending::between(known, model);
            let concerns = |user, statement: &str| {
                pending.concerns(
                    &Dependents::default(),
                    user,
                    "default",
                    statement.as_bytes(),
                )
            };
            assert!(!concerns(
                "default",
                "CREATE TABLE acme.t (a Int8) ENGINE = Memory"
            ));
            assert!(!concerns("old", "SELECT 1"));
            assert!(concerns("acme__writer", "SELECT 1"));
            assert!(concerns(
                "default",
                "CREATE VIEW v DEFINER = `ACME__writer` AS SELECT 1"
            ));
            assert!(concerns("default", "SELECT name FROM system.users"));
            assert!(!concerns(
                "default",
                "SELECT name FROM system.users WHERE name IN ('old')"
            ));
            assert!(concerns(
                "default",
                "SELECT name FROM system.users WHERE name IN ('acme__writer')"
            ));
        }
    }

    #[test]
    fn a_definer_and_all_but_users_concern_everybody() {
        let known = with_user(Model::default(), "definer", "d");
        let mut with_role = known.clone();
        with_role.roles.insert("r".to_owned(), Role::default());
        let mut dependents = Dependents::default();
        dependents.definers.insert("definer".to_owned());
        for model in [with_role, with_user(known.clone(), "definer", "e")] {
            let pending = Pending::between(&known, &model);
            assert!(pending.concerns(&dependents, "default", "default", b"SELECT 1"));
        }
        let nothing = Pending::between(&known, &known);
        assert!(!nothing.concerns(&dependents, "definer", "default", b"SELECT 1"));
    }
}

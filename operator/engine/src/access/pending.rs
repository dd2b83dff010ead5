//! Whether a statement has to wait until libchdb knows the latest users.
//!
//! Opening libchdb anew holds everybody up, for longer the more tables there
//! are. Users that only came to be since then concern nobody but themselves,
//! those who name them, and those who ask about access: no view runs in their
//! name yet, and no other user's rights depend on them. (Names have no
//! characters that could be written in more ways than one.)

use super::model::Model;

/// Words that questions about access hold, in lower case: `system.users`, `SHOW GRANTS`, ...
const ABOUT_ACCESS: [&str; 7] = [
    "user",
    "role",
    "grant",
    "quota",
    "polic",
    "profile",
    "privilege",
];

/// Whether what changed from `known` to `model` may matter to a statement of this user.
pub(super) fn concerns(known: &Model, model: &Model, user: &str, statement: &[u8]) -> bool {
    if !only_new_users(known, model) {
        return true;
    }
    let statement = statement.to_ascii_lowercase();
    let holds = |word: &str| memchr::memmem::find(&statement, word.as_bytes()).is_some();
    let mut new = model
        .users
        .keys()
        .filter(|name| !known.users.contains_key(*name));
    new.any(|name| name == user || holds(&name.to_ascii_lowercase()))
        || ABOUT_ACCESS.into_iter().any(holds)
}

fn only_new_users(known: &Model, model: &Model) -> bool {
    let Model {
        users,
        roles,
        profiles,
        policies,
    } = known;
    (roles, profiles, policies) == (&model.roles, &model.profiles, &model.policies)
        && users
            .iter()
            .all(|(name, user)| model.users.get(name) == Some(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::model::{Role, User};

    fn with_user(mut model: Model, name: &str) -> Model {
        model.users.insert(name.to_owned(), User::default());
        model
    }

    #[test]
    fn new_users_concern_themselves_and_who_names_or_lists_them() {
        let known = with_user(Model::default(), "old");
        let model = with_user(known.clone(), "acme__writer");
        let concerns =
            |user, statement: &str| super::concerns(&known, &model, user, statement.as_bytes());
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
        assert!(concerns("default", "SELECT name FROM System.Users"));
        assert!(concerns("default", "SHOW GRANTS"));
    }

    #[test]
    fn any_other_change_concerns_everybody() {
        let known = with_user(Model::default(), "old");
        let mut changed = known.clone();
        changed
            .users
            .entry("old".to_owned())
            .or_default()
            .default_database = Some("d".to_owned());
        let mut with_role = known.clone();
        with_role.roles.insert("r".to_owned(), Role::default());
        for model in [Model::default(), changed, with_role] {
            assert!(concerns(&known, &model, "default", b"SELECT 1"));
        }
        assert!(!concerns(&known, &known, "default", b"SELECT 1"));
    }
}

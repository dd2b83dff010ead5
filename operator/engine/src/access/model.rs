//! What the engine knows of users, roles, profiles and policies. Grants of privileges are kept as
//! the statements that made them; ClickHouse works out what they amount to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::session::UserSession;

/// The user that exists before any statement, with all rights.
pub(crate) const DEFAULT_USER: &str = "default";

/// Begins the names of roles and profiles that the engine makes for users.
pub(crate) const HELPER_PREFIX: &str = "aviary-user-";

/// The role with a user's own grants.
pub(crate) fn helper(user: &str) -> String {
    format!("{HELPER_PREFIX}{user}")
}

/// Everything that access statements have made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Model {
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) roles: BTreeMap<String, Role>,
    pub(crate) profiles: BTreeMap<String, Profile>,
    pub(crate) policies: Vec<RowPolicy>,
}

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) authentication: Authentication,
    pub(crate) grants: Grants,
    pub(crate) default_roles: Subjects,
    pub(crate) settings: Vec<SettingElement>,
    pub(crate) default_database: Option<String>,
}

/// A role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) grants: Grants,
    pub(crate) settings: Vec<SettingElement>,
}

/// What was granted to a user or a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grants {
    /// `GRANT ...` and `REVOKE ...` without their grantees, in order.
    pub(crate) statements: Vec<String>,
    /// Granted roles, and whether with admin option.
    pub(crate) roles: BTreeMap<String, bool>,
}

/// A settings profile and whom it is assigned to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) settings: Vec<SettingElement>,
    pub(crate) to: Subjects,
}

/// A row policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowPolicy {
    pub(crate) name: String,
    pub(crate) database: String,
    pub(crate) table: String,
    /// The condition, as SQL.
    pub(crate) filter: String,
    pub(crate) restrictive: bool,
    pub(crate) to: Subjects,
}

/// Users and roles that something applies to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subjects {
    /// All but `except`; otherwise those of `names`.
    pub(crate) all: bool,
    pub(crate) names: BTreeSet<String>,
    pub(crate) except: BTreeSet<String>,
}

/// One line of a profile, or of a user's or role's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SettingElement {
    /// Everything of another profile.
    Inherit(String),
    /// A setting's value and the limits on changing it.
    Setting(Setting),
}

/// A setting's value and limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) min: Option<String>,
    pub(crate) max: Option<String>,
    pub(crate) writability: Option<Writability>,
}

/// Whether a user may change a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Writability {
    Writable,
    Const,
    ChangeableInReadonly,
}

/// How a user proves who he is. Passwords are known by their hash only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Authentication {
    /// Anybody may use the name.
    #[default]
    NoPassword,
    /// SHA-256 of the password and the salt, in hex.
    Sha256 { hash: String, salt: String },
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Authentication::NoPassword => "NoPassword",
            Authentication::Sha256 { .. } => "Sha256([hidden])",
        })
    }
}

impl Authentication {
    pub(crate) fn of_password(password: &str) -> Self {
        Authentication::Sha256 {
            hash: hex::encode(Sha256::digest(password.as_bytes())),
            salt: String::new(),
        }
    }

    pub(crate) fn accepts(&self, password: &str) -> bool {
        match self {
            Authentication::NoPassword => true,
            Authentication::Sha256 { hash, salt } => {
                let given = Sha256::new()
                    .chain_update(password.as_bytes())
                    .chain_update(salt.as_bytes())
                    .finalize();
                let given = hex::encode(given);
                given
                    .as_bytes()
                    .ct_eq(hash.to_ascii_lowercase().as_bytes())
                    .into()
            }
        }
    }
}

impl User {
    /// The roles active where none in particular is asked for.
    pub(crate) fn active_roles(&self) -> Vec<String> {
        self.grants
            .roles
            .keys()
            .filter(|role| {
                self.default_roles
                    .include(&BTreeSet::from([(*role).clone()]))
            })
            .cloned()
            .collect()
    }
}

impl Subjects {
    pub(crate) fn all() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    pub(crate) fn is_nobody(&self) -> bool {
        !self.all && self.names.is_empty()
    }

    /// Whether any of `names` is meant.
    pub(crate) fn include(&self, names: &BTreeSet<String>) -> bool {
        if self.all {
            self.except.is_disjoint(names)
        } else {
            !self.names.is_disjoint(names)
        }
    }

    pub(crate) fn forget(&mut self, name: &str) {
        self.names.remove(name);
        self.except.remove(name);
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        for names in [&mut self.names, &mut self.except] {
            if names.remove(from) {
                names.insert(to.to_owned());
            }
        }
    }
}

impl Model {
    /// These roles and all that they were granted.
    pub(crate) fn enabled_roles(&self, roles: &[String]) -> BTreeSet<String> {
        let mut enabled = BTreeSet::new();
        let mut open: Vec<String> = roles.to_vec();
        while let Some(role) = open.pop() {
            if let Some(found) = self.roles.get(&role)
                && enabled.insert(role)
            {
                open.extend(found.grants.roles.keys().cloned());
            }
        }
        enabled
    }

    /// The settings of a user, weakest first: profiles assigned to him or his
    /// roles, the roles' own, his own.
    pub(crate) fn elements(
        &self,
        name: &str,
        user: &User,
        roles: &[String],
    ) -> Vec<SettingElement> {
        let enabled = self.enabled_roles(roles);
        let mut names = enabled.clone();
        names.insert(name.to_owned());
        let assigned = self
            .profiles
            .iter()
            .filter(|(_, profile)| profile.to.include(&names))
            .map(|(profile, _)| SettingElement::Inherit(profile.clone()));
        let of_roles = enabled
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flat_map(|role| role.settings.iter().cloned());
        assigned
            .chain(of_roles)
            .chain(user.settings.iter().cloned())
            .collect()
    }

    /// The single settings behind elements, weakest first.
    pub(crate) fn resolve(&self, elements: &[SettingElement]) -> Vec<Setting> {
        let mut settings = Vec::new();
        self.resolve_into(elements, &mut BTreeSet::new(), &mut settings);
        settings
    }

    fn resolve_into(
        &self,
        elements: &[SettingElement],
        above: &mut BTreeSet<String>,
        settings: &mut Vec<Setting>,
    ) {
        for element in elements {
            match element {
                SettingElement::Setting(setting) => settings.push(setting.clone()),
                SettingElement::Inherit(name) => {
                    // A circle of profiles ends where it closes.
                    if let Some(profile) = self.profiles.get(name)
                        && above.insert(name.clone())
                    {
                        self.resolve_into(&profile.settings, above, settings);
                        above.remove(name);
                    }
                }
            }
        }
    }

    /// What a user's connections are set up with, with the given roles active.
    pub(crate) fn session(&self, name: &str, user: &User, roles: Vec<String>) -> UserSession {
        let elements = self.elements(name, user, &roles);
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        let mut changeable = BTreeSet::new();
        for setting in self.resolve(&elements) {
            match setting.writability {
                Some(Writability::ChangeableInReadonly) => {
                    changeable.insert(setting.name.clone());
                }
                Some(Writability::Const | Writability::Writable) => {
                    changeable.remove(&setting.name);
                }
                None => {}
            }
            if let Some(value) = setting.value {
                values.insert(setting.name, value);
            }
        }
        let readonly = values
            .remove("readonly")
            .and_then(|value| value.parse().ok());
        UserSession {
            user: name.to_owned(),
            helper_role: helper(name),
            roles,
            values: values.into_iter().collect(),
            readonly: readonly.unwrap_or(0),
            profile: profile_of(name, &elements),
            changeable_in_readonly: changeable.into_iter().collect(),
            definer: Some(name.to_owned()),
            default_database: user.default_database.clone(),
        }
    }
}

/// The profile that stands for some elements: one that exists where they are
/// just that, a helper otherwise, none where there is nothing.
pub(crate) fn profile_of(user: &str, elements: &[SettingElement]) -> Option<String> {
    match elements {
        [] => None,
        [SettingElement::Inherit(profile)] => Some(profile.clone()),
        _ => Some(helper(user)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> SettingElement {
        SettingElement::Setting(Setting {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Setting::default()
        })
    }

    #[test]
    fn passwords_are_known_by_their_hash() {
        let plain = Authentication::of_password("secret");
        assert!(plain.accepts("secret"));
        assert!(!plain.accepts("Secret"));
        assert!(!format!("{plain:?}").contains("2bb80d"));
        // sha256('secret' || 'salt')
        let salted = Authentication::Sha256 {
            hash: hex::encode_upper(Sha256::digest(b"secretsalt")),
            salt: "salt".to_owned(),
        };
        assert!(salted.accepts("secret"));
        assert!(!salted.accepts("secretsalt"));
        assert!(Authentication::NoPassword.accepts("anything"));
    }

    #[test]
    fn own_settings_win_over_roles_over_profiles() {
        let mut model = Model::default();
        model.profiles.insert(
            "base".to_owned(),
            Profile {
                settings: vec![setting("a", "1"), setting("b", "1"), setting("c", "1")],
                to: Subjects::all(),
            },
        );
        model.profiles.insert(
            "circle".to_owned(),
            Profile {
                settings: vec![
                    SettingElement::Inherit("circle".to_owned()),
                    setting("d", "1"),
                ],
                to: Subjects::default(),
            },
        );
        let role = Role {
            settings: vec![setting("b", "2"), setting("c", "2")],
            ..Role::default()
        };
        model.roles.insert("role".to_owned(), role);
        let user = User {
            settings: vec![
                SettingElement::Inherit("circle".to_owned()),
                setting("c", "3"),
                setting("readonly", "1"),
            ],
            grants: Grants {
                roles: BTreeMap::from([("role".to_owned(), false)]),
                ..Grants::default()
            },
            default_roles: Subjects::all(),
            ..User::default()
        };
        let session = model.session("u", &user, user.active_roles());
        let values: Vec<(&str, &str)> = session
            .values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(values, [("a", "1"), ("b", "2"), ("c", "3"), ("d", "1")]);
        assert_eq!(session.readonly, 1);
        assert_eq!(session.profile.as_deref(), Some("aviary-user-u"));
    }
}

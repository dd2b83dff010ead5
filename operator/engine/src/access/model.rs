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

/// The role with a user's own grants, and the profile with his own settings.
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
    pub(crate) settings: Vec<SettingElement>,
    pub(crate) default_database: Option<String>,
}

/// A role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) grants: Grants,
}

/// What was granted to a user or a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grants {
    /// `GRANT ...` and `REVOKE ...` without their grantees, in order.
    pub(crate) statements: Vec<String>,
    #[serde(default)]
    pub(crate) granted_roles: BTreeSet<String>,
}

/// A settings profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) settings: Vec<SettingElement>,
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

/// One line of a profile, or of a user's settings.
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
    /// Whether a user cannot change it at all.
    #[serde(default)]
    pub(crate) constant: bool,
}

/// How a user proves who he is. Passwords are known by their hash only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Authentication {
    /// Anybody may use the name.
    #[default]
    NoPassword,
    /// SHA-256 of the password, in hex.
    Sha256 { hash: String },
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
        }
    }

    pub(crate) fn accepts(&self, password: &str) -> bool {
        match self {
            Authentication::NoPassword => true,
            Authentication::Sha256 { hash } => {
                let given = hex::encode(Sha256::digest(password.as_bytes()));
                let known = hash.to_ascii_lowercase();
                given.as_bytes().ct_eq(known.as_bytes()).into()
            }
        }
    }
}

impl Grants {
    pub(crate) fn roles(&self) -> Vec<String> {
        self.granted_roles.iter().cloned().collect()
    }
}

impl Subjects {
    /// Whether any of `names` is meant.
    pub(crate) fn include(&self, names: &BTreeSet<String>) -> bool {
        if self.all {
            self.except.is_disjoint(names)
        } else {
            !self.names.is_disjoint(names)
        }
    }
}

impl Model {
    /// A user, the roles he was granted, and all that those were granted.
    pub(crate) fn names_of(&self, name: &str, user: &User) -> BTreeSet<String> {
        let mut names = BTreeSet::from([name.to_owned()]);
        let mut open = user.grants.roles();
        while let Some(role) = open.pop() {
            if let Some(found) = self.roles.get(&role)
                && names.insert(role)
            {
                open.extend(found.grants.roles());
            }
        }
        names
    }

    /// The single settings behind elements, weakest first.
    fn resolve(
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
                        self.resolve(&profile.settings, above, settings);
                        above.remove(name);
                    }
                }
            }
        }
    }

    /// What a user's connections are set up with.
    pub(crate) fn session(&self, name: &str, user: &User) -> UserSession {
        let mut settings = Vec::new();
        self.resolve(&user.settings, &mut BTreeSet::new(), &mut settings);
        let values = settings.into_iter();
        let mut values: BTreeMap<String, String> = values
            .filter_map(|setting| Some((setting.name, setting.value?)))
            .collect();
        let readonly = values.remove("readonly");
        UserSession {
            user: name.to_owned(),
            helper_role: helper(name),
            roles: user.grants.roles(),
            values: values.into_iter().collect(),
            readonly: readonly
                .and_then(|value| value.parse().ok())
                .unwrap_or_default(),
            profile: profile_of(name, &user.settings),
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
        let secret = Authentication::of_password("secret");
        assert!(secret.accepts("secret"));
        assert!(!secret.accepts("Secret"));
        assert!(!format!("{secret:?}").contains("2bb80d"));
        assert!(Authentication::NoPassword.accepts("anything"));
    }

    #[test]
    fn own_settings_win_over_profiles() {
        let mut model = Model::default();
        let circle = || SettingElement::Inherit("circle".to_owned());
        let settings = vec![circle(), setting("a", "1"), setting("b", "1")];
        let profile = Profile { settings };
        model.profiles.insert("circle".to_owned(), profile);
        let user = User {
            settings: vec![circle(), setting("b", "2"), setting("readonly", "1")],
            ..User::default()
        };
        let session = model.session("u", &user);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(session.values, [pair("a", "1"), pair("b", "2")]);
        assert_eq!(session.readonly, 1);
        assert_eq!(session.profile.as_deref(), Some("aviary-user-u"));
    }
}

//! `SHOW CREATE` for users, roles, profiles and policies, in ClickHouse's own spelling.

use std::fmt::Write as _;

use super::model::{
    Authentication, Model, Profile, RowPolicy, SettingElement, Subjects, User, Writability,
};
use super::statement::PolicyName;
use crate::sql::quote::{Literal, PlainIdentifier};

/// How to make this user again, the password aside.
pub(crate) fn user(name: &str, user: &User) -> String {
    let method = match user.authentication {
        Authentication::NoPassword => "no_password",
        Authentication::Sha256 { .. } => "sha256_password",
    };
    let mut text = format!(
        "CREATE USER {} IDENTIFIED WITH {method}",
        PlainIdentifier(name)
    );
    if let Some(database) = &user.default_database {
        let _ = write!(text, " DEFAULT DATABASE {}", PlainIdentifier(database));
    }
    if user.default_roles != Subjects::all() {
        let _ = write!(text, " DEFAULT ROLE {}", subjects(&user.default_roles));
    }
    text + &settings(&user.settings)
}

/// How to make this role again.
pub(crate) fn role(name: &str, elements: &[SettingElement]) -> String {
    format!(
        "CREATE ROLE {}{}",
        PlainIdentifier(name),
        settings(elements)
    )
}

/// How to make this profile again.
pub(crate) fn profile(name: &str, profile: &Profile) -> String {
    let mut text = format!(
        "CREATE SETTINGS PROFILE `{name}`{}",
        settings(&profile.settings)
    );
    if !profile.to.is_nobody() {
        let _ = write!(text, " TO {}", subjects(&profile.to));
    }
    text
}

/// How to make this policy again.
pub(crate) fn policy(policy: &RowPolicy) -> String {
    let mut text = format!(
        "CREATE ROW POLICY {} ON {}.{} FOR SELECT USING {}",
        PlainIdentifier(&policy.name),
        PlainIdentifier(&policy.database),
        PlainIdentifier(&policy.table),
        policy.filter
    );
    if policy.restrictive {
        text.push_str(" AS restrictive");
    }
    if !policy.to.is_nobody() {
        let _ = write!(text, " TO {}", subjects(&policy.to));
    }
    text
}

/// The policy of this name.
pub(crate) fn find_policy<'a>(model: &'a Model, name: &PolicyName) -> Option<&'a RowPolicy> {
    model.policies.iter().find(|policy| {
        policy.name == name.name && policy.database == name.database && policy.table == name.table
    })
}

fn subjects(subjects: &Subjects) -> String {
    let list = |names: &std::collections::BTreeSet<String>| {
        names
            .iter()
            .map(|name| PlainIdentifier(name).to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match subjects {
        Subjects {
            all: true, except, ..
        } if except.is_empty() => "ALL".to_owned(),
        Subjects {
            all: true, except, ..
        } => format!("ALL EXCEPT {}", list(except)),
        Subjects { names, .. } if names.is_empty() => "NONE".to_owned(),
        Subjects { names, .. } => list(names),
    }
}

fn settings(elements: &[SettingElement]) -> String {
    if elements.is_empty() {
        return String::new();
    }
    let elements: Vec<String> = elements
        .iter()
        .map(|element| match element {
            SettingElement::Inherit(profile) => format!("PROFILE `{profile}`"),
            SettingElement::Setting(setting) => {
                let mut text = setting.name.clone();
                for (sign, value) in [
                    (" = ", &setting.value),
                    (" MIN ", &setting.min),
                    (" MAX ", &setting.max),
                ] {
                    if let Some(value) = value {
                        let _ = write!(text, "{sign}{}", plain_value(value));
                    }
                }
                text.push_str(match setting.writability {
                    None => "",
                    Some(Writability::Writable) => " WRITABLE",
                    Some(Writability::Const) => " CONST",
                    Some(Writability::ChangeableInReadonly) => " CHANGEABLE_IN_READONLY",
                });
                text
            }
        })
        .collect();
    format!(" SETTINGS {}", elements.join(", "))
}

/// Numbers bare, everything else quoted.
fn plain_value(value: &str) -> String {
    if value.parse::<f64>().is_ok() {
        value.to_owned()
    } else {
        Literal(value).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::model::Setting;

    #[test]
    fn users_read_as_a_server_shows_them() {
        let described = User {
            authentication: Authentication::of_password("x"),
            default_roles: Subjects::all(),
            settings: vec![
                SettingElement::Inherit("base".to_owned()),
                SettingElement::Setting(Setting {
                    name: "max_threads".to_owned(),
                    value: Some("2".to_owned()),
                    max: Some("4".to_owned()),
                    writability: Some(Writability::Const),
                    ..Setting::default()
                }),
            ],
            default_database: Some("d".to_owned()),
            ..User::default()
        };
        assert_eq!(
            user("a-b", &described),
            "CREATE USER `a-b` IDENTIFIED WITH sha256_password DEFAULT DATABASE d \
             SETTINGS PROFILE `base`, max_threads = 2 MAX 4 CONST"
        );
    }
}

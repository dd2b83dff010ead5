//! Statements that ClickHouse checks but the engine answers: changes of users and rights, and how a
//! user was made.

use crate::access::model::{Authentication, DEFAULT_USER, SettingElement, User};
use crate::access::parse::parse;
use crate::access::statement::{AccessStatement, EntityName};
use crate::exception::{Exception, code};
use crate::job::Job;
use crate::output::{Failure, Outcome};
use crate::sql::quote::{Identifier, Literal};
use crate::sql::statement::Statement;

/// Changes users, roles, profiles, policies or grants.
///
/// libchdb parses the statement, checks the user's right to it, and refuses it
/// for want of a place to write to: that refusal is the proof that a server
/// would have taken it, and the engine's own list takes it then.
pub(crate) fn change(job: &Job, statement: &Statement<'_>) -> Result<Outcome, Failure> {
    let parsed = parse(statement, &job.database());
    let query = validation_query(statement, parsed.as_ref().ok());
    let mut validated = validate(job, &query);
    if validated.is_err() && job.core.is_stale() {
        // It may name something that libchdb is yet to read.
        drop(job.core.enter()?);
        validated = validate(job, &query);
    }
    validated?;
    let touched = job.core.access.apply(parsed?)?;
    if touched.iter().any(|user| job.core.is_definer(user)) {
        job.core.access.concern_everybody();
    }
    Ok(Outcome::default())
}

/// What to put before libchdb in place of the statement, where that knows less
/// than the engine.
fn validation_query(statement: &Statement<'_>, parsed: Option<&AccessStatement>) -> Vec<u8> {
    let is_policy = |name: &EntityName| matches!(name, EntityName::Policy { .. });
    match parsed {
        // The grantees may be new to libchdb; the privileges are what it judges.
        Some(AccessStatement::Privileges { statement, .. }) => {
            let (statement, option) = match statement.strip_suffix(" WITH GRANT OPTION") {
                Some(rest) => (rest, " WITH GRANT OPTION"),
                None => (statement.as_str(), ""),
            };
            let to = if statement.starts_with("GRANT") {
                "TO"
            } else {
                "FROM"
            };
            format!("{statement} {to} {DEFAULT_USER}{option}").into_bytes()
        }
        // It knows policies under other names.
        Some(
            AccessStatement::Alter {
                names,
                if_exists: false,
                ..
            }
            | AccessStatement::Drop {
                names,
                if_exists: false,
            },
        ) if names.iter().any(is_policy) => {
            let at = if statement.is(1, "ROW") { 2 } else { 1 };
            let (head, rest) = statement.text.split_at(statement.tokens[at].range.end);
            [head, b" IF EXISTS", rest].concat()
        }
        _ => statement.text.to_vec(),
    }
}

fn validate(job: &Job, sql: &[u8]) -> Result<(), Failure> {
    let outcome = job.on_stale_connection(|checkout| {
        checkout.check(sql)?;
        checkout.query(sql, "Null")?;
        Ok(())
    });
    match outcome {
        Err(Failure::Exception(exception))
            if exception.code == code::ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND
                || exception.code == code::ACCESS_STORAGE_READONLY =>
        {
            Ok(())
        }
        other => other,
    }
}

/// `SHOW CREATE USER name` as a query with the answer; nothing where ClickHouse's own is right.
/// libchdb knows a user's settings as a profile's.
pub(crate) fn show_create_user(job: &Job, statement: &Statement<'_>) -> Option<String> {
    let name = statement.name(3)?;
    let model = job.core.access.model();
    let text = describe(&name, model.users.get(&name)?);
    let format = statement.format().map_or_else(String::new, |format| {
        format!(" FORMAT {}", Identifier(&format))
    });
    let title = format!("CREATE USER {name}");
    Some(format!(
        "SELECT {} AS {}{format}",
        Literal(&text),
        Identifier(&title)
    ))
}

/// How to make this user again, the password aside.
fn describe(name: &str, user: &User) -> String {
    let method = match user.authentication {
        Authentication::NoPassword => "no_password",
        Authentication::Sha256 { .. } => "sha256_password",
    };
    let mut text = format!("CREATE USER {} IDENTIFIED WITH {method}", Identifier(name));
    if let Some(database) = &user.default_database {
        text += &format!(" DEFAULT DATABASE {}", Identifier(database));
    }
    let settings: Vec<String> = user.settings.iter().map(describe_setting).collect();
    if !settings.is_empty() {
        text += &format!(" SETTINGS {}", settings.join(", "));
    }
    text
}

fn describe_setting(element: &SettingElement) -> String {
    let setting = match element {
        SettingElement::Inherit(profile) => return format!("PROFILE {}", Identifier(profile)),
        SettingElement::Setting(setting) => setting,
    };
    let mut text = setting.name.clone();
    for (sign, value) in [
        (" =", &setting.value),
        (" MIN", &setting.min),
        (" MAX", &setting.max),
    ] {
        if let Some(value) = value {
            text += &format!("{sign} {}", Literal(value));
        }
    }
    if setting.constant {
        text += " CONST";
    }
    text
}

/// Checks a statement that may make something which later acts with its maker's rights. For libchdb
/// the maker is its user `default`, who may do everything, so everybody else has to name himself.
pub(crate) fn check_makes(job: &Job, statement: &Statement<'_>) -> Result<(), Exception> {
    if job.is_of_default_user() {
        return Ok(());
    }
    let all = 0..statement.tokens.len();
    let is_named = |index: usize| {
        let at = index + 1 + usize::from(statement.is_symbol(index + 1, b'='));
        let plain = statement
            .name(at)
            .filter(|_| !statement.raw(at).contains(&b'\\'));
        plain.is_some_and(|name| name != DEFAULT_USER && !name.eq_ignore_ascii_case("CURRENT_USER"))
    };
    let names = |index: &usize| {
        statement.is(*index, "DEFINER") && !(*index > 0 && statement.is(index - 1, "SECURITY"))
    };
    let definers: Vec<usize> = all.clone().filter(names).collect();
    let runs_as_definer = |index| statement.are(index, &["SECURITY", "DEFINER"]);
    let reads_as_user =
        |index| statement.is(index, "CLICKHOUSE") && statement.is_symbol(index + 1, b'(');
    let wrong = !definers.iter().all(|index| is_named(*index))
        || all.clone().any(runs_as_definer) && definers.is_empty()
        || all.clone().any(reads_as_user);
    if wrong {
        return Err(Exception::new(
            code::ACCESS_DENIED,
            "default: Not enough privileges. In this engine, only `default` makes dictionaries on local tables, \
             and views with SQL SECURITY DEFINER that do not name their definer, another one than `default`.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::model::Setting;

    #[test]
    fn a_user_reads_as_he_can_be_made_again() {
        let user = User {
            authentication: Authentication::of_password("x"),
            settings: vec![
                SettingElement::Inherit("base".to_owned()),
                SettingElement::Setting(Setting {
                    name: "max_threads".to_owned(),
                    value: Some("2".to_owned()),
                    max: Some("4".to_owned()),
                    constant: true,
                    ..Setting::default()
                }),
            ],
            ..User::default()
        };
        assert_eq!(
            describe("a", &user),
            "CREATE USER `a` IDENTIFIED WITH sha256_password \
             SETTINGS PROFILE `base`, max_threads = '2' MAX '4' CONST"
        );
    }
}

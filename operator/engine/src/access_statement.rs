//! Statements that ClickHouse checks but the engine answers: changes of users and rights, questions
//! about them, and `KILL QUERY`.

use crate::access::describe;
use crate::access::model::{DEFAULT_USER, Model};
use crate::access::parse::{Situation, parse};
use crate::access::statement::{AccessStatement, PolicyName};
use crate::exception::{Exception, code};
use crate::execute::{Failure, Job, check_one_statement};
use crate::sql::lexer::Kind;
use crate::sql::quote::{Identifier, Literal};
use crate::sql::statement::Statement;

/// Changes users, roles, profiles, policies or grants.
///
/// libchdb parses the statement, checks the user's right to it, and refuses it
/// for want of a place to write to: that refusal is the proof that a server
/// would have taken it, and the engine's own list takes it then.
pub(crate) fn change(job: &Job, statement: &Statement<'_>) -> Result<(), Failure> {
    let database = job.database();
    let situation = Situation {
        user: &job.session.user,
        database: &database,
    };
    let parsed = parse(statement, &situation);
    let proof = proof(statement, parsed.as_ref().ok());
    let mut judged = judge(job, &proof);
    if judged.is_err() && job.core.is_stale() {
        // It may name something that libchdb is yet to read.
        drop(job.core.enter()?);
        judged = judge(job, &proof);
    }
    judged?;
    job.core.access.apply(parsed?)?;
    Ok(())
}

/// What to put before libchdb in place of the statement, where that knows less
/// than the engine.
fn proof(statement: &Statement<'_>, parsed: Option<&AccessStatement>) -> Vec<u8> {
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
            AccessStatement::AlterPolicy {
                if_exists: false, ..
            }
            | AccessStatement::DropPolicy {
                if_exists: false, ..
            },
        ) => {
            let policy = (1..3)
                .find(|index| statement.is(*index, "POLICY"))
                .unwrap_or(1);
            let after = statement.tokens[policy].range.end;
            [
                &statement.text[..after],
                b" IF EXISTS",
                &statement.text[after..],
            ]
            .concat()
        }
        // It would want this enabled in a place it does not read; the engine
        // keeps to it by itself.
        _ => {
            let mut text = statement.text.to_vec();
            for (index, token) in statement.tokens.iter().enumerate() {
                if statement.is(index, "CHANGEABLE_IN_READONLY") {
                    text[token.range.clone()].fill(b' ');
                }
            }
            text
        }
    }
}

fn judge(job: &Job, sql: &[u8]) -> Result<(), Failure> {
    let outcome = job.on_stale_connection(|connection| {
        check_one_statement(connection, sql)?;
        connection
            .query(sql, "Null", &job.request.parameters)
            .map(drop)
            .map_err(|text| Exception::parse(&text).into())
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

/// A query with the answer, or nothing where ClickHouse's own answer is right.
pub(crate) fn show(job: &Job, statement: &Statement<'_>) -> Result<Option<String>, Failure> {
    let found = if statement.is(1, "GRANTS") {
        show_grants(job, statement)?
    } else if statement.is(1, "CREATE") {
        show_create(job, statement)?
    } else {
        None
    };
    Ok(found.map(|(title, lines)| {
        let lines: Vec<String> = lines.iter().map(|line| Literal(line).to_string()).collect();
        let format = statement.format().map_or_else(String::new, |format| {
            format!(" FORMAT {}", Identifier(&format))
        });
        format!(
            "SELECT arrayJoin(CAST([{}], 'Array(String)')) AS {}{format}",
            lines.join(", "),
            Identifier(&title)
        )
    }))
}

type Lines = (String, Vec<String>);

/// `SHOW GRANTS [FOR user]`: only a user's own need help, since libchdb takes
/// everybody for its user `default`.
fn show_grants(job: &Job, statement: &Statement<'_>) -> Result<Option<Lines>, Failure> {
    let user = &job.session.user;
    let (subject, end) = if statement.is(2, "FOR") {
        (statement.name(3), 4)
    } else {
        (None, 2)
    };
    let own = subject
        .as_ref()
        .is_none_or(|name| name == user || name.eq_ignore_ascii_case("CURRENT_USER"));
    if !is_end(statement, end) || (!own && subject.as_deref() != Some(DEFAULT_USER)) {
        return Ok(None);
    }
    let title = match &subject {
        Some(subject) => format!("GRANTS FOR {subject}"),
        None => "GRANTS".to_owned(),
    };
    if user == DEFAULT_USER || !own {
        let all = format!("GRANT ALL ON *.* TO {DEFAULT_USER} WITH GRANT OPTION");
        return Ok(Some((title, vec![all])));
    }
    let text = job.core.ask(&format!(
        "SHOW GRANTS FOR {} FORMAT TSVRaw",
        Identifier(user)
    ))?;
    Ok(Some((title, text.lines().map(str::to_owned).collect())))
}

/// `SHOW CREATE USER` and the like for one name.
fn show_create(job: &Job, statement: &Statement<'_>) -> Result<Option<Lines>, Failure> {
    let model = job.core.access.model();
    let Some((title, text, own)) = described(job, statement, &model) else {
        return Ok(None);
    };
    if !own && job.session.user != DEFAULT_USER {
        // ClickHouse judges whether the user may see this.
        job.on_connection(true, |connection| {
            check_one_statement(connection, statement.text)?;
            connection
                .query(statement.text, "Null", &[])
                .map(drop)
                .map_err(|text| Exception::parse(&text).into())
        })?;
    }
    Ok(Some((title, vec![text])))
}

fn described(
    job: &Job,
    statement: &Statement<'_>,
    model: &Model,
) -> Option<(String, String, bool)> {
    let user = &job.session.user;
    let words = 2 + usize::from(statement.is(2, "SETTINGS") || statement.is(2, "ROW"));
    let name = match statement.name(words + 1) {
        Some(name) if !name.eq_ignore_ascii_case("CURRENT_USER") => name,
        Some(_) => user.clone(),
        None if statement.is(2, "USER") => user.clone(),
        None => return None,
    };
    let title = |kind: &str| format!("CREATE {kind} {name}");
    if statement.is(words, "POLICY") {
        let policy = policy_name(job, statement, words + 1, &name)?;
        let found = describe::find_policy(model, &policy)?;
        return Some((title("ROW POLICY"), describe::policy(found), false));
    }
    if !is_end(statement, words + 2) && statement.name(words + 1).is_some() {
        return None;
    }
    if statement.is(words, "USER") {
        let found = model.users.get(&name)?;
        Some((title("USER"), describe::user(&name, found), name == *user))
    } else if statement.is(words, "ROLE") {
        let found = model.roles.get(&name)?;
        Some((title("ROLE"), describe::role(&name, &found.settings), false))
    } else if statement.is(words, "PROFILE") {
        let found = model.profiles.get(&name)?;
        Some((
            title("SETTINGS PROFILE"),
            describe::profile(&name, found),
            false,
        ))
    } else {
        None
    }
}

fn policy_name(job: &Job, statement: &Statement<'_>, at: usize, name: &str) -> Option<PolicyName> {
    if !statement.is(at + 1, "ON") {
        return None;
    }
    let first = statement.name(at + 2)?;
    let (database, table) = if statement.is_symbol(at + 3, b'.') {
        (first, statement.name(at + 4)?)
    } else {
        (job.database(), first)
    };
    Some(PolicyName {
        name: name.to_owned(),
        database,
        table,
    })
}

/// Statements that make something which later acts with its maker's rights.
/// For libchdb the maker is its user `default`, who may do everything, so the
/// engine sees to it that the real one is named. Returns the statement to run.
pub(crate) fn with_definer(
    job: &Job,
    statement: &Statement<'_>,
) -> Result<Option<Vec<u8>>, Failure> {
    let user = &job.session.user;
    let makes = ["CREATE", "ALTER", "ATTACH", "REPLACE"]
        .iter()
        .any(|keyword| statement.is(0, keyword));
    if user == DEFAULT_USER || !makes {
        return Ok(None);
    }
    for index in 0..statement.tokens.len() {
        if statement.is(index, "CLICKHOUSE") && statement.is_symbol(index + 1, b'(') {
            check_source(statement, index + 2)?;
        }
        if statement.is(index, "DEFINER") {
            check_definer(user, statement, definer_at(statement, index))?;
        }
    }
    let mut text = naming_current_user(statement, user);
    let modes = (0..statement.tokens.len())
        .filter(|index| statement.are(*index, &["SQL", "SECURITY", "DEFINER"]))
        .count();
    for number in 0..modes {
        // Where the statement has a definer already, another one is an error of syntax.
        let named = naming_definer(&text, number, user);
        if job.on_stale_connection(|connection| Ok(connection.classify(&named).statements))? == 1 {
            text = named;
        }
    }
    Ok(Some(text).filter(|text| text != statement.text))
}

/// Where the name after `DEFINER [=]` is.
fn definer_at(statement: &Statement<'_>, index: usize) -> usize {
    index + 1 + usize::from(statement.is_symbol(index + 1, b'='))
}

/// Nobody's views run in the name of `default`, however that is written.
fn check_definer(user: &str, statement: &Statement<'_>, at: usize) -> Result<(), Exception> {
    let definer = statement.name(at);
    let is_plain = !statement.raw(at).contains(&b'\\') && !statement.is_symbol(at, b'{');
    if definer.as_deref() == Some(DEFAULT_USER) || !is_plain {
        let definer = definer.unwrap_or_else(|| "a parameter".to_owned());
        return Err(Exception::new(
            code::ACCESS_DENIED,
            format!(
                "{user}: Not enough privileges. To execute this query, it's necessary to have the grant SET DEFINER ON {definer}."
            ),
        ));
    }
    Ok(())
}

/// The statement with the user's name for `DEFINER = CURRENT_USER`.
fn naming_current_user(statement: &Statement<'_>, user: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let mut copied = 0;
    for index in 0..statement.tokens.len() {
        let at = definer_at(statement, index);
        if statement.is(index, "DEFINER") && statement.is(at, "CURRENT_USER") {
            let range = &statement.tokens[at].range;
            text.extend_from_slice(&statement.text[copied..range.start]);
            text.extend_from_slice(Identifier(user).to_string().as_bytes());
            copied = range.end;
        }
    }
    text.extend_from_slice(&statement.text[copied..]);
    text
}

/// The statement with the user's name after the given one of its `SQL SECURITY DEFINER`s.
fn naming_definer(text: &[u8], number: usize, user: &str) -> Vec<u8> {
    let statement = Statement::new(text);
    let mode = (0..statement.tokens.len())
        .filter(|index| statement.are(*index, &["SQL", "SECURITY", "DEFINER"]))
        .nth(number);
    let end = mode.map_or(text.len(), |index| statement.tokens[index + 2].range.end);
    let clause = format!(" DEFINER = {} ", Identifier(user));
    [&text[..end], clause.as_bytes(), &text[end..]].concat()
}

/// A dictionary on a local table reads it as the user that its source names.
fn check_source(statement: &Statement<'_>, start: usize) -> Result<(), Failure> {
    let mut depth = 1_usize;
    let mut source_user = None;
    let mut escaped = false;
    for index in start..statement.tokens.len() {
        match statement.tokens[index].kind {
            Kind::Symbol(b'(') => depth += 1,
            Kind::Symbol(b')') => depth -= 1,
            Kind::Word if statement.is(index, "USER") => {
                source_user = statement.name(index + 1);
                escaped |= statement.raw(index + 1).contains(&b'\\');
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    if !escaped && source_user.is_some_and(|user| user != DEFAULT_USER) {
        return Ok(());
    }
    Err(Exception::new(
        code::ACCESS_DENIED,
        "A dictionary's CLICKHOUSE source must name a USER other than `default`, and his PASSWORD.",
    )
    .into())
}

/// `KILL QUERY`: by the id the client gave, which libchdb does not know, or as
/// it stands for those who may kill anything.
pub(crate) fn kill(job: &Job, statement: &Statement<'_>) -> Result<Option<String>, Failure> {
    let user = &job.session.user;
    if let Some(id) = killed_id(statement) {
        // Nobody kills the query that kills.
        let found = job
            .core
            .registry
            .find(&id)
            .filter(|query| query.query_id != job.request.query_id);
        let Some(query) = found else {
            return Ok(Some(kill_answer(statement, ["", "", "", ""], " LIMIT 0")));
        };
        if query.user == *user || may_kill(job)? {
            if !statement.is(6, "TEST") {
                query.cancel();
            }
            let status = if statement.is(6, "SYNC") {
                query.wait();
                "finished"
            } else {
                "waiting"
            };
            let row = [status, &query.query_id, &query.user, &query.description()];
            return Ok(Some(kill_answer(statement, row, "")));
        }
    }
    if may_kill(job)? {
        return Ok(None);
    }
    // For libchdb all queries are of one user; it would let anybody kill any.
    Err(Exception::new(
        code::ACCESS_DENIED,
        format!(
            "{user}: Not enough privileges. To execute this query, it's necessary to have the grant KILL QUERY ON *.*, \
             or to name an own query: KILL QUERY WHERE query_id = '...'."
        ),
    )
    .into())
}

/// The id in `KILL QUERY WHERE query_id = '...' [SYNC | ASYNC | TEST]`.
fn killed_id(statement: &Statement<'_>) -> Option<String> {
    let mode = ["SYNC", "ASYNC", "TEST"]
        .iter()
        .any(|mode| statement.is(6, mode));
    let by_id = statement.are(2, &["WHERE", "query_id"])
        && statement.is_symbol(4, b'=')
        && statement.tokens.get(5)?.kind == Kind::String
        && is_end(statement, 6 + usize::from(mode));
    by_id.then(|| statement.name(5))?
}

/// A query that gives the row of a killed query.
fn kill_answer(statement: &Statement<'_>, row: [&str; 4], limit: &str) -> String {
    let columns: Vec<String> = row
        .iter()
        .zip(["kill_status", "query_id", "user", "query"])
        .map(|(value, name)| format!("{} AS {name}", Literal(value)))
        .collect();
    let format = statement.format().map_or_else(String::new, |format| {
        format!(" FORMAT {}", Identifier(&format))
    });
    format!("SELECT {}{limit}{format}", columns.join(", "))
}

fn may_kill(job: &Job) -> Result<bool, Failure> {
    if job.session.user == DEFAULT_USER {
        return Ok(true);
    }
    job.on_connection(true, |connection| {
        connection
            .query(b"CHECK GRANT KILL QUERY ON *.*", "TabSeparated", &[])
            .map(|output| output.as_ref().starts_with(b"1"))
            .map_err(|text| Exception::parse(&text).into())
    })
}

fn is_end(statement: &Statement<'_>, index: usize) -> bool {
    statement.tokens.get(index).is_none()
        || statement.is_symbol(index, b';')
        || statement.is(index, "FORMAT")
}

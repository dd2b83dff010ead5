//! What can go wrong between here and a replica, in words for people: without
//! stack traces, server versions, secrets or the statement itself.

use crate::http::{HttpError, exception_code};
use aviary_plan::model::{Unknown, UnknownKind};
use http::StatusCode;
use std::error::Error as StdError;
use std::time::Duration;

/// Why a replica did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClickHouseError {
    /// Nobody answers.
    #[error("replica {replica} cannot be reached: {cause}")]
    Unreachable {
        /// The replica's name.
        replica: String,
        /// What the network says.
        cause: String,
    },
    /// No answer in time.
    #[error("replica {replica} did not answer within {} s", deadline.as_secs_f64())]
    TimedOut {
        /// The replica's name.
        replica: String,
        /// How long it had.
        deadline: Duration,
    },
    /// The replica is there, and a statement took longer than it may.
    #[error("ClickHouse: not finished within {} s, and perhaps still running", deadline.as_secs_f64())]
    Slow {
        /// How long it had.
        deadline: Duration,
    },
    /// It does not know the user or the password.
    #[error("replica {replica} refuses the user name or the password")]
    Authentication {
        /// The replica's name.
        replica: String,
    },
    /// ClickHouse answered with an exception.
    #[error("ClickHouse: {message}")]
    Refused {
        /// ClickHouse's code of the exception; 0 if it gave none.
        code: u32,
        /// Its message, cleaned.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("replica {replica} gave an answer that is not understood: {what}")]
    Malformed {
        /// The replica's name.
        replica: String,
        /// What was expected.
        what: String,
    },
    /// The configuration cannot work.
    #[error("replica {replica}: {what}")]
    Misconfigured {
        /// The replica's name.
        replica: String,
        /// What is wrong.
        what: String,
    },
}

/// What kind of trouble there is with a replica, or with what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Nothing is heard of it.
    Silent,
    /// It may do the same later.
    Busy,
    /// It refuses the login.
    Credentials,
    /// It refuses what it was asked, and will again.
    Refused,
    /// It cannot be asked as it is configured here.
    Misconfigured,
}

/// Codes that say "not now" rather than "not like this".
const TRANSIENT_CODES: [u32; 15] = [
    159, // TIMEOUT_EXCEEDED
    202, // TOO_MANY_SIMULTANEOUS_QUERIES
    209, // SOCKET_TIMEOUT
    210, // NETWORK_ERROR
    225, // NO_ZOOKEEPER
    236, // ABORTED
    241, // MEMORY_LIMIT_EXCEEDED
    242, // TABLE_IS_READ_ONLY
    243, // NOT_ENOUGH_SPACE
    319, // UNKNOWN_STATUS_OF_INSERT
    341, // UNFINISHED
    394, // QUERY_WAS_CANCELLED
    473, // DEADLOCK_AVOIDED
    517, // CANNOT_ASSIGN_ALTER
    999, // KEEPER_EXCEPTION
];

/// Wrong password, unknown user, and the one code for both.
const AUTHENTICATION_CODES: [u32; 4] = [192, 193, 194, 516];

const LONGEST_MESSAGE: usize = 600;

impl ClickHouseError {
    /// What kind of trouble it is.
    pub fn category(&self) -> Category {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => Category::Silent,
            Self::Slow { .. } => Category::Busy,
            Self::Authentication { .. } => Category::Credentials,
            Self::Refused { .. } | Self::Malformed { .. } if self.is_transient() => Category::Busy,
            Self::Refused { .. } | Self::Malformed { .. } => Category::Refused,
            Self::Misconfigured { .. } => Category::Misconfigured,
        }
    }

    /// Its words for where the replica's name stands beside them.
    pub fn without_replica(&self) -> String {
        let text = self.to_string();
        let (Self::Unreachable { replica, .. }
        | Self::TimedOut { replica, .. }
        | Self::Authentication { replica }
        | Self::Malformed { replica, .. }
        | Self::Misconfigured { replica, .. }) = self
        else {
            return text;
        };
        let named = text.strip_prefix(&format!("replica {replica} "));
        named.map_or_else(|| text.clone(), str::to_owned)
    }

    /// The name that ClickHouse does not know, if that is what it complains of.
    pub fn unknown(&self) -> Option<Unknown> {
        match self {
            Self::Refused { message, .. } => unknown(message),
            _ => None,
        }
    }

    /// Whether the same call may work later with nothing changed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Slow { .. }
            | Self::Malformed { .. } => true,
            Self::Refused { code, .. } => *code == 0 || TRANSIENT_CODES.contains(code),
            Self::Authentication { .. } | Self::Misconfigured { .. } => false,
        }
    }

    /// Whether nothing was heard of the replica.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }

    /// Whether it speaks of the replica rather than of the statement: then the
    /// next statement will not fare better.
    pub fn is_about_the_replica(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Authentication { .. }
            | Self::Misconfigured { .. } => true,
            Self::Slow { .. } | Self::Refused { .. } | Self::Malformed { .. } => false,
        }
    }

    /// The same error without what the statement holds of secrets: texts in quotes
    /// and anything like a hash.
    pub(crate) fn without_secrets(self) -> Self {
        match self {
            Self::Refused { code, message } => Self::Refused {
                code,
                message: without_secrets(&message),
            },
            other => other,
        }
    }

    pub(crate) fn from_http(replica: &str, error: &HttpError) -> Self {
        match error {
            HttpError::Exception { status, text } => Self::from_exception(replica, *status, text),
            HttpError::Refused { status, code } => Self::from_stranger(replica, *status, *code),
            HttpError::Network(source) => Self::Unreachable {
                replica: replica.to_owned(),
                cause: deepest(source.as_ref()),
            },
            HttpError::TooLong => Self::Malformed {
                replica: replica.to_owned(),
                what: error.to_string(),
            },
        }
    }

    /// Something answers, and does not prove to be ClickHouse. Nothing that it says is repeated: an
    /// address must not be a way to read what only the operator can reach.
    pub(crate) fn foreign(replica: &str) -> Self {
        Self::Unreachable {
            replica: replica.to_owned(),
            cause: "what answers at its address is not ClickHouse".to_owned(),
        }
    }

    /// Reads `Code: 60. DB::Exception: ... (UNKNOWN_TABLE) (version ...)`.
    fn from_exception(replica: &str, status: StatusCode, text: &str) -> Self {
        match exception_code(text) {
            Some(code) if !AUTHENTICATION_CODES.contains(&code) => Self::Refused {
                code,
                message: clean(text),
            },
            code => Self::from_stranger(replica, status, code),
        }
    }

    /// Reads what anybody may say: ClickHouse, too, before it takes a statement up.
    fn from_stranger(replica: &str, status: StatusCode, code: Option<u32>) -> Self {
        let is_login = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        match code {
            Some(code) if AUTHENTICATION_CODES.contains(&code) => Self::Authentication {
                replica: replica.to_owned(),
            },
            Some(code) => Self::Refused {
                code,
                message: format!(
                    "exception {code} before the statement itself was looked at, if this is ClickHouse at all"
                ),
            },
            None if is_login => Self::Authentication {
                replica: replica.to_owned(),
            },
            None => Self::foreign(replica),
        }
    }
}

/// The message itself. What comes before and after is for ClickHouse's developers,
/// and the statement that ClickHouse quotes has values in it.
fn clean(text: &str) -> String {
    let text = text
        .rfind("DB::Exception: ")
        .map_or(text, |start| &text[start + "DB::Exception: ".len()..]);
    let mut message = until(
        text,
        &[
            "Stack trace:",
            " (version ",
            ", e.what()",
            ": While processing",
            ": while executing",
            ": In scope",
            " in scope ",
            ", Stack trace",
        ],
    );
    if message.starts_with("Syntax error") {
        message = until(message, &["): "]);
    }
    let mut message = one_line(message);
    if message.starts_with("Syntax error") && !message.ends_with(')') {
        message.push(')');
    }
    for (opening, closing) in [("Maybe you meant: ", "]"), ("Expected one of: ", ".")] {
        let hint = text
            .split_once(opening)
            .and_then(|(_, rest)| rest.split_once(closing));
        if let Some((hint, _)) = hint.filter(|_| !message.contains(opening)) {
            message.push_str(&format!(". {opening}{}{closing}", one_line(hint)));
        }
    }
    if let Some(name) = exception_name(text).filter(|name| !message.contains(name)) {
        message.push_str(&format!(" ({name})"));
    }
    truncated(message)
}

/// Reads ``Unknown expression identifier `yeer`. Maybe you meant: ['year']``, and what the same
/// means in other places of a query.
fn unknown(message: &str) -> Option<Unknown> {
    const WORDS: [(&str, &str, UnknownKind); 4] = [
        (
            "Unknown table expression identifier ",
            "",
            UnknownKind::Table,
        ),
        (
            "Function with name ",
            " does not exist",
            UnknownKind::Function,
        ),
        ("Unknown expression", "", UnknownKind::Column),
        (
            "dentifier ",
            " cannot be resolved from ",
            UnknownKind::Column,
        ),
    ];
    let (kind, name) = WORDS.into_iter().find_map(|(before, after, kind)| {
        let (_, rest) = message.split_once(before)?;
        let open = rest.find(['`', '\''])?;
        let (name, rest) = rest[open + 1..].split_once(&rest[open..=open])?;
        rest.starts_with(after).then_some((kind, name))
    })?;
    let guesses = message
        .split_once("Maybe you meant: [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(guesses, _)| guesses);
    Some(Unknown {
        kind,
        name: name.to_owned(),
        guesses: guesses
            .split('\'')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
    })
}

/// The shortest run of hexadecimal digits that may be a hash.
const HASH: usize = 16;

fn without_secrets(message: &str) -> String {
    // Once the apostrophe of missing privileges is gone, every other part is in quotes.
    let message = message.replace("it's necessary", "it is necessary");
    let parts = message.split('\'').enumerate();
    let shown = parts.map(|(index, part)| {
        if index % 2 == 1 {
            return "...".to_owned();
        }
        let words = part.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let without_hash = words.map(|word| {
            let digits = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let is_hash =
                digits.len() >= HASH && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_hash {
                word.replacen(digits, "...", 1)
            } else {
                word.to_owned()
            }
        });
        without_hash.collect::<String>()
    });
    shown.collect::<Vec<_>>().join("'")
}

fn until<'a>(text: &'a str, ends: &[&str]) -> &'a str {
    let end = ends.iter().filter_map(|end| text.find(end)).min();
    &text[..end.unwrap_or(text.len())]
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `UNKNOWN_TABLE`: the last thing in parentheses that is all capitals.
fn exception_name(text: &str) -> Option<&str> {
    text.rsplit('(').find_map(|part| {
        let (name, _) = part.split_once(')')?;
        let is_name = name.len() > 2 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        is_name.then_some(name)
    })
}

fn truncated(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let cut = (0..=LONGEST_MESSAGE)
            .rev()
            .find(|index| message.is_char_boundary(*index))
            .unwrap_or(0);
        message.truncate(cut);
        message.push_str(" ...");
    }
    message
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(200).collect()
}

/// The innermost cause: `connection refused` rather than `error sending request`.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    first_line(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> (u32, String) {
        match ClickHouseError::from_exception("r", StatusCode::NOT_FOUND, text) {
            ClickHouseError::Refused { code, message } => (code, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_are_cleaned() {
        for (text, code, message) in [
            (
                "Code: 60. DB::Exception: Unknown table expression identifier 'x.y' in scope SELECT * FROM x.y WHERE a = 'secret'. (UNKNOWN_TABLE) (version 26.7.2.1 (official build))",
                60,
                "Unknown table expression identifier 'x.y' (UNKNOWN_TABLE)",
            ),
            (
                "Code: 47. DB::Exception: Unknown expression identifier `nope` in scope SELECT nope FROM t. Maybe you meant: ['name']. (UNKNOWN_IDENTIFIER) (version 26.7.2.1)",
                47,
                "Unknown expression identifier `nope`. Maybe you meant: ['name'] (UNKNOWN_IDENTIFIER)",
            ),
            (
                "Code: 62. DB::Exception: Syntax error: failed at position 118 (COMMENT) (line 2, col 5): COMMENT 'two letters', `delay` ... Expected one of: STATISTICS, TTL. (SYNTAX_ERROR) (version 26.7.2.1)",
                62,
                "Syntax error: failed at position 118 (COMMENT) (line 2, col 5). Expected one of: STATISTICS, TTL. (SYNTAX_ERROR)",
            ),
            (
                "Code: 210. DB::NetException: x. DB::Exception: Connection refused,\n\nStack trace:\n\n0. foo\n1. bar",
                210,
                "Connection refused,",
            ),
            (
                "Code: 47, e.displayText() = DB::Exception: Unknown identifier: comment, e.what() = DB::Exception",
                47,
                "Unknown identifier: comment",
            ),
        ] {
            assert_eq!(cleaned(text), (code, message.to_owned()));
        }
    }

    #[test]
    fn unknown_names_are_found_in_what_clickhouse_says() {
        use UnknownKind::{Column, Function, Table};
        for (text, expected) in [
            (
                "Code: 47. DB::Exception: Unknown expression or function identifier `yeer` in scope SELECT 1. Maybe you meant: ['yer','year']. (UNKNOWN_IDENTIFIER) (version 26.7.2.1)",
                Some((Column, "yeer", &["yer", "year"][..])),
            ),
            (
                "Code: 47. DB::Exception: Identifier 'f.nam' cannot be resolved from table with name f. In scope SELECT f.nam. (UNKNOWN_IDENTIFIER)",
                Some((Column, "f.nam", &[])),
            ),
            (
                "Code: 47. DB::Exception: JOIN  INNER JOIN ... USING (carier) using identifier 'carier' cannot be resolved from left table expression. In scope SELECT 1. (UNKNOWN_IDENTIFIER)",
                Some((Column, "carier", &[])),
            ),
            (
                "Code: 60. DB::Exception: Unknown table expression identifier 'flihts' in scope SELECT year FROM flihts. Maybe you meant default.flights?. (UNKNOWN_TABLE)",
                Some((Table, "flihts", &[])),
            ),
            (
                "Code: 46. DB::Exception: Function with name `toYer` does not exist. In scope SELECT toYer(year). Maybe you meant: ['toYear']. (UNKNOWN_FUNCTION)",
                Some((Function, "toYer", &["toYear"])),
            ),
            (
                "Code: 43. DB::Exception: Illegal type `String` of argument of function plus. (ILLEGAL_TYPE_OF_ARGUMENT)",
                None,
            ),
        ] {
            let unknown =
                ClickHouseError::from_exception("r", StatusCode::NOT_FOUND, text).unknown();
            let found = unknown.map(|it| (it.kind, it.name, it.guesses));
            let expected = expected.map(|(kind, name, guesses)| {
                let guesses = guesses.iter().map(|&it| it.to_owned()).collect();
                (kind, name.to_owned(), guesses)
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_refusal_is_final_unless_it_says_not_now() {
        let final_one = ClickHouseError::from_exception(
            "r",
            StatusCode::NOT_FOUND,
            "Code: 60. DB::Exception: x",
        );
        assert_eq!(final_one.category(), Category::Refused);
        assert!(!final_one.is_transient());
        for code in [202, 236, 241, 242, 999] {
            let text = format!("Code: {code}. DB::Exception: x");
            let not_now = ClickHouseError::from_exception("r", StatusCode::NOT_FOUND, &text);
            assert!(not_now.is_transient(), "{code}");
            assert_eq!(not_now.category(), Category::Busy, "{code}");
        }
    }

    #[test]
    fn a_statement_with_secrets_is_refused_in_words_without_them() {
        let hash = "3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30";
        for (text, message) in [
            (
                "Code: 497. DB::Exception: admin: Not enough privileges. To execute this query, it's necessary to have the grant CREATE USER ON shop_orders__reader. (ACCESS_DENIED) (version 26.7.2.1)".to_owned(),
                "admin: Not enough privileges. To execute this query, it is necessary to have the grant CREATE USER ON shop_orders__reader. (ACCESS_DENIED)",
            ),
            (
                format!("Code: 36. DB::Exception: Bad hash '{hash}' or {hash}. (BAD_ARGUMENTS)"),
                "Bad hash '...' or .... (BAD_ARGUMENTS)",
            ),
        ] {
            let error = ClickHouseError::from_exception("r", StatusCode::NOT_FOUND, &text).without_secrets();
            assert_eq!(error.to_string(), format!("ClickHouse: {message}"));
        }
    }

    #[test]
    fn wrong_passwords_are_told_from_the_rest() {
        let text = "Code: 516. DB::Exception: operator: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)";
        let error = ClickHouseError::from_exception("r", StatusCode::NOT_FOUND, text);
        assert_eq!(error.category(), Category::Credentials);
        assert!(!error.to_string().contains("operator:"));
    }

    #[test]
    fn who_is_no_clickhouse_is_not_quoted() {
        let of = |status, code| ClickHouseError::from_stranger("r", status, code);
        for (error, category, words) in [
            (
                of(StatusCode::BAD_GATEWAY, None),
                Category::Silent,
                "is not ClickHouse",
            ),
            (
                of(StatusCode::UNAUTHORIZED, None),
                Category::Credentials,
                "the password",
            ),
            (
                of(StatusCode::INTERNAL_SERVER_ERROR, Some(516)),
                Category::Credentials,
                "the password",
            ),
            (
                of(StatusCode::NOT_FOUND, Some(81)),
                Category::Refused,
                "exception 81",
            ),
        ] {
            assert_eq!(error.category(), category, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

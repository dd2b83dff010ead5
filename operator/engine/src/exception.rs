//! ClickHouse exceptions: read from libchdb's text, made by the engine itself, told as a server tells them.

use std::fmt;

use http::StatusCode;

/// The error codes this crate raises or treats specially.
pub(crate) mod code {
    pub(crate) const BAD_ARGUMENTS: u32 = 36;
    pub(crate) const NOT_IMPLEMENTED: u32 = 48;
    pub(crate) const LOGICAL_ERROR: u32 = 49;
    pub(crate) const SYNTAX_ERROR: u32 = 62;
    pub(crate) const UNKNOWN_FORMAT: u32 = 73;
    pub(crate) const UNKNOWN_TYPE_OF_QUERY: u32 = 78;
    pub(crate) const THERE_IS_NO_PROFILE: u32 = 180;
    pub(crate) const UNKNOWN_USER: u32 = 192;
    pub(crate) const REQUIRED_PASSWORD: u32 = 194;
    pub(crate) const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
    pub(crate) const SOCKET_TIMEOUT: u32 = 209;
    pub(crate) const NETWORK_ERROR: u32 = 210;
    pub(crate) const QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING: u32 = 216;
    pub(crate) const QUERY_IS_TOO_LARGE: u32 = 229;
    pub(crate) const CANNOT_DECOMPRESS: u32 = 271;
    pub(crate) const INTO_OUTFILE_NOT_ALLOWED: u32 = 358;
    pub(crate) const QUERY_WAS_CANCELLED: u32 = 394;
    pub(crate) const ACCESS_ENTITY_ALREADY_EXISTS: u32 = 493;
    pub(crate) const ACCESS_STORAGE_READONLY: u32 = 495;
    pub(crate) const ACCESS_DENIED: u32 = 497;
    pub(crate) const UNKNOWN_ROLE: u32 = 511;
    pub(crate) const SET_NON_GRANTED_ROLE: u32 = 512;
    pub(crate) const ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND: u32 = 514;
    pub(crate) const AUTHENTICATION_FAILED: u32 = 516;
    pub(crate) const UNKNOWN_ROW_POLICY: u32 = 523;
}

/// A ClickHouse exception, without the `Code: N. DB::Exception:` around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) code: u32,
    pub(crate) name: String,
    pub(crate) message: String,
}

impl Exception {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            name: name_of(code).to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(code::NOT_IMPLEMENTED, message)
    }

    /// Reads what libchdb says: `Code: N. DB::Exception: message. (NAME)`,
    /// sometimes followed by the version and sometimes wrapped in itself.
    pub(crate) fn parse(text: &str) -> Self {
        let text = without_version(text.trim());
        let Some((code, rest)) = strip_code(text) else {
            return Self::new(code::LOGICAL_ERROR, text);
        };
        let (message, name) = split_name(rest);
        if strip_code(message).is_some() {
            return Self::parse(message);
        }
        Self {
            code,
            name: name.unwrap_or_else(|| name_of(code)).to_owned(),
            message: message.to_owned(),
        }
    }

    /// libchdb runs every statement as its user `default`; messages that name
    /// the user mean the one who asked.
    pub(crate) fn for_user(mut self, user: &str) -> Self {
        if let Some(rest) = self.message.strip_prefix("default: ") {
            self.message = format!("{user}: {rest}");
        }
        self
    }

    /// The line a server sends, newline included.
    pub(crate) fn render(&self, version: &str) -> String {
        format!("{self} (version {version} (official build))\n")
    }

    /// The status a server answers with when nothing was sent yet.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            code::REQUIRED_PASSWORD => StatusCode::UNAUTHORIZED,
            code::UNKNOWN_USER
            | 193
            | code::AUTHENTICATION_FAILED
            | code::SET_NON_GRANTED_ROLE
            | code::ACCESS_DENIED => StatusCode::FORBIDDEN,
            // Arguments, syntax, parsing of values, shapes of blocks.
            code::BAD_ARGUMENTS
            | code::SYNTAX_ERROR
            | 6
            | 8
            | 15
            | 25
            | 26
            | 27
            | 37
            | 38
            | 41
            | 44
            | 53
            | 72
            | 117
            | 123
            | 167
            | 168
            | 223
            | 321
            | 376
            | 427
            | 441
            | 675
            | 676 => StatusCode::BAD_REQUEST,
            // Something named in the query is unknown.
            code::UNKNOWN_TYPE_OF_QUERY
            | code::UNKNOWN_ROLE
            | 46
            | 47
            | 50
            | 56
            | 60
            | 63
            | code::UNKNOWN_FORMAT
            | 81
            | 115
            | 152
            | 336 => StatusCode::NOT_FOUND,
            code::QUERY_IS_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            code::NOT_IMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
            code::SOCKET_TIMEOUT | 76 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            381 => StatusCode::LENGTH_REQUIRED,
            159 => StatusCode::REQUEST_TIMEOUT,
            779 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            name,
            message,
        } = self;
        write!(formatter, "Code: {code}. DB::Exception: {message} ({name})")
    }
}

fn strip_code(text: &str) -> Option<(u32, &str)> {
    let rest = text.strip_prefix("Code: ")?;
    let (code, rest) = rest.split_once(". DB::Exception: ")?;
    Some((code.parse().ok()?, rest))
}

/// Cuts the trailing ` (version ...)`, which some paths of libchdb add.
fn without_version(text: &str) -> &str {
    let trimmed = text.trim_end_matches('.');
    let Some((before, version)) = trimmed.rsplit_once(" (version ") else {
        return text;
    };
    let version = version
        .strip_suffix(" (official build))")
        .or_else(|| version.strip_suffix(')'));
    match version {
        Some(version)
            if version
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            before
        }
        _ => text,
    }
}

/// Splits `message (NAME)`.
fn split_name(text: &str) -> (&str, Option<&str>) {
    let text = without_version(text);
    if let Some(inner) = text.strip_suffix(')')
        && let Some((message, name)) = inner.rsplit_once(" (")
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    {
        return (message, Some(name));
    }
    (text, None)
}

fn name_of(code: u32) -> &'static str {
    match code {
        code::BAD_ARGUMENTS => "BAD_ARGUMENTS",
        code::NOT_IMPLEMENTED => "NOT_IMPLEMENTED",
        code::SYNTAX_ERROR => "SYNTAX_ERROR",
        code::UNKNOWN_FORMAT => "UNKNOWN_FORMAT",
        code::UNKNOWN_TYPE_OF_QUERY => "UNKNOWN_TYPE_OF_QUERY",
        code::THERE_IS_NO_PROFILE => "THERE_IS_NO_PROFILE",
        code::UNKNOWN_USER => "UNKNOWN_USER",
        code::REQUIRED_PASSWORD => "REQUIRED_PASSWORD",
        code::TOO_MANY_SIMULTANEOUS_QUERIES => "TOO_MANY_SIMULTANEOUS_QUERIES",
        code::SOCKET_TIMEOUT => "SOCKET_TIMEOUT",
        code::NETWORK_ERROR => "NETWORK_ERROR",
        code::QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING => "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
        code::QUERY_IS_TOO_LARGE => "QUERY_IS_TOO_LARGE",
        code::CANNOT_DECOMPRESS => "CANNOT_DECOMPRESS",
        code::INTO_OUTFILE_NOT_ALLOWED => "INTO_OUTFILE_NOT_ALLOWED",
        code::QUERY_WAS_CANCELLED => "QUERY_WAS_CANCELLED",
        code::ACCESS_ENTITY_ALREADY_EXISTS => "ACCESS_ENTITY_ALREADY_EXISTS",
        code::ACCESS_STORAGE_READONLY => "ACCESS_STORAGE_READONLY",
        code::ACCESS_DENIED => "ACCESS_DENIED",
        code::UNKNOWN_ROLE => "UNKNOWN_ROLE",
        code::SET_NON_GRANTED_ROLE => "SET_NON_GRANTED_ROLE",
        code::ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND => "ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND",
        code::AUTHENTICATION_FAILED => "AUTHENTICATION_FAILED",
        code::UNKNOWN_ROW_POLICY => "UNKNOWN_ROW_POLICY",
        _ => "LOGICAL_ERROR",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_of_libchdb() {
        let exception =
            Exception::parse("Code: 60. DB::Exception: Table a.b does not exist. (UNKNOWN_TABLE)");
        assert_eq!(exception.code, 60);
        assert_eq!(exception.name, "UNKNOWN_TABLE");
        assert_eq!(exception.message, "Table a.b does not exist.");
        assert_eq!(exception.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            exception.render("26.7.2.1"),
            "Code: 60. DB::Exception: Table a.b does not exist. (UNKNOWN_TABLE) (version 26.7.2.1 (official build))\n"
        );
    }

    #[test]
    fn nested_and_versioned_text_is_told_once() {
        let exception = Exception::parse(
            "Code: 452. DB::Exception: Code: 452. DB::Exception: Setting max_threads should not be changed. \
             (SETTING_CONSTRAINT_VIOLATION) (version 26.7.2.1). (SETTING_CONSTRAINT_VIOLATION)",
        );
        assert_eq!(
            exception.to_string(),
            "Code: 452. DB::Exception: Setting max_threads should not be changed. (SETTING_CONSTRAINT_VIOLATION)"
        );
    }

    #[test]
    fn foreign_text_becomes_a_logical_error() {
        let exception = Exception::parse("No active streaming query");
        assert_eq!(exception.code, code::LOGICAL_ERROR);
        assert_eq!(exception.message, "No active streaming query");
    }

    #[test]
    fn messages_name_the_user_who_asked() {
        let exception = Exception::parse(
            "Code: 497. DB::Exception: default: Not enough privileges. (ACCESS_DENIED)",
        );
        assert_eq!(
            exception.for_user("alice").message,
            "alice: Not enough privileges."
        );
    }
}

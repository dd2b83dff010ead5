//! ClickHouse exceptions: read from libchdb's text, made by the engine itself, told as a server tells them.

use std::fmt;

use http::StatusCode;

/// Declares the error codes that this crate raises or treats specially, and their names.
macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        pub(crate) mod code {
            $(pub(crate) const $name: u32 = $code;)*
        }

        fn name_of(code: u32) -> &'static str {
            match code {
                $(code::$name => stringify!($name),)*
                _ => "LOGICAL_ERROR",
            }
        }
    };
}

codes! {
    BAD_ARGUMENTS = 36,
    CHECKSUM_DOESNT_MATCH = 40,
    NOT_IMPLEMENTED = 48,
    LOGICAL_ERROR = 49,
    SYNTAX_ERROR = 62,
    UNKNOWN_FORMAT = 73,
    THERE_IS_NO_PROFILE = 180,
    UNKNOWN_USER = 192,
    REQUIRED_PASSWORD = 194,
    TOO_MANY_SIMULTANEOUS_QUERIES = 202,
    SOCKET_TIMEOUT = 209,
    NETWORK_ERROR = 210,
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216,
    QUERY_IS_TOO_LARGE = 229,
    ABORTED = 236,
    CANNOT_DECOMPRESS = 271,
    INTO_OUTFILE_NOT_ALLOWED = 358,
    QUERY_WAS_CANCELLED = 394,
    ACCESS_ENTITY_ALREADY_EXISTS = 493,
    ACCESS_STORAGE_READONLY = 495,
    ACCESS_DENIED = 497,
    UNKNOWN_ROLE = 511,
    ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND = 514,
    AUTHENTICATION_FAILED = 516,
    UNKNOWN_ROW_POLICY = 523,
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
            code::UNKNOWN_USER | code::AUTHENTICATION_FAILED | code::ACCESS_DENIED | 193 => {
                StatusCode::FORBIDDEN
            }
            // Arguments, syntax, parsing of values, shapes of blocks.
            code::BAD_ARGUMENTS | code::SYNTAX_ERROR => StatusCode::BAD_REQUEST,
            6 | 8 | 15 | 25 | 26 | 27 | 37 | 38 | 41 | 44 | 53 | 72 | 117 | 123 => {
                StatusCode::BAD_REQUEST
            }
            167 | 168 | 223 | 321 | 376 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            // Something named in the query is unknown.
            code::UNKNOWN_FORMAT | code::UNKNOWN_ROLE => StatusCode::NOT_FOUND,
            46 | 47 | 50 | 56 | 60 | 63 | 78 | 81 | 115 | 152 | 336 => StatusCode::NOT_FOUND,
            code::QUERY_IS_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            code::NOT_IMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
            code::SOCKET_TIMEOUT | 76 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            159 => StatusCode::REQUEST_TIMEOUT,
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

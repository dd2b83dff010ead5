//! What a client is told when ClickHouse cannot answer.

use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::upstream::{Blame, Exception, UpstreamError};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(1);

/// An error for what happened on the way to ClickHouse.
pub(super) fn of_upstream(error: &UpstreamError, limit: Duration) -> ApiError {
    match error {
        UpstreamError::Timeout => timeout(limit),
        UpstreamError::Refused(exception) => of_exception(exception, limit),
        UpstreamError::Unavailable | UpstreamError::Connect(_) => ApiError::new(
            ErrorCode::ClickHouseUnavailable,
            "ClickHouse cannot be reached: try again",
        )
        .retry_after(SOON),
        UpstreamError::Interrupted(_)
        | UpstreamError::Lost
        | UpstreamError::Truncated
        | UpstreamError::Foreign
        | UpstreamError::Malformed(_) => ApiError::new(
            ErrorCode::ClickHouseUnavailable,
            "the connection to ClickHouse broke: try again",
        )
        .retry_after(SOON),
    }
}

/// An error for an exception.
pub(super) fn of_exception(exception: &Exception, limit: Duration) -> ApiError {
    let error = match kind(exception) {
        ErrorCode::QueryTimeout => timeout(limit),
        // The words would name users and grants of ours, and what the tenant must not know of.
        ErrorCode::QueryForbidden => ApiError::new(
            ErrorCode::QueryForbidden,
            "the pipe reads or does something that its workspace may not",
        ),
        ErrorCode::ClickHouseUnavailable => ApiError::new(
            ErrorCode::ClickHouseUnavailable,
            "ClickHouse takes no queries now: try again",
        )
        .retry_after(SOON),
        ErrorCode::TooManyQueries => ApiError::new(
            ErrorCode::TooManyQueries,
            "ClickHouse runs as many queries as it may: try again",
        )
        .retry_after(SOON),
        code => ApiError::new(
            code,
            format!("ClickHouse cannot answer: {}", exception.message),
        ),
    };
    error.exception_code(exception.code)
}

/// ClickHouse's numbers, as far as they mean something to a client.
pub(super) fn kind(exception: &Exception) -> ErrorCode {
    match exception.code {
        // TOO_MANY_SIMULTANEOUS_QUERIES
        202 => ErrorCode::TooManyQueries,
        // UNKNOWN_TABLE: a pipe that reads what is not there
        60 => ErrorCode::QueryFailed,
        _ if matches!(exception.blame(), Blame::Replica | Blame::Place) => {
            ErrorCode::ClickHouseUnavailable
        }
        // TIMEOUT_EXCEEDED, TOO_SLOW
        159 | 160 => ErrorCode::QueryTimeout,
        // READONLY, SETTING_CONSTRAINT_VIOLATION, ACCESS_DENIED
        164 | 452 | 497 => ErrorCode::QueryForbidden,
        // TOO_MANY_ROWS, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
        158 | 241 | 307 | 396 => ErrorCode::QueryTooLarge,
        // QUOTA_EXCEEDED
        201 => ErrorCode::TooManyQueries,
        // UNKNOWN_QUERY_PARAMETER, BAD_QUERY_PARAMETER
        456 | 457 => ErrorCode::ParameterInvalid,
        _ => ErrorCode::QueryFailed,
    }
}

fn timeout(limit: Duration) -> ApiError {
    let milliseconds = limit.as_millis();
    ApiError::new(
        ErrorCode::QueryTimeout,
        format!("the query ran longer than {milliseconds} ms, the workspace's limits.queryTimeout"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_statuses() {
        let status = |code, message: &str| {
            let exception = Exception {
                code,
                message: message.to_owned(),
                is_early: false,
            };
            of_exception(&exception, Duration::from_secs(10))
                .code()
                .status()
                .as_u16()
        };
        assert_eq!(status(159, "Timeout exceeded"), 408);
        assert_eq!(status(497, "acme__reader: Not enough privileges"), 403);
        assert_eq!(status(241, "Query memory limit exceeded"), 422);
        assert_eq!(status(241, "(total) memory limit exceeded"), 503);
        assert_eq!(status(202, "Too many"), 429);
        assert_eq!(status(395, "boom"), 500);
    }

    #[test]
    fn a_refusal_names_nothing() {
        let exception = Exception {
            code: 497,
            message: "acme__reader: Not enough privileges. To execute this query, it's necessary to have the grant SELECT(x) ON other.secrets".to_owned(),
            is_early: false,
        };
        let error = of_exception(&exception, Duration::from_secs(10));
        assert!(!error.message().contains("other"), "{}", error.message());
    }
}

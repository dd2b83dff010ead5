//! What a client is told when a request fails: one shape, one list of codes.
//!
//! ```json
//! {"error": "parameter `month`: expected a whole number from ...", "code": "parameter_invalid",
//!  "request_id": "0198c0de-...", "parameters": ["month"]}
//! ```
//!
//! Messages say what is wrong and what to do. They never hold a token, a stack
//! trace, or the name of something that belongs to another tenant.

use crate::answer_body::Body;
use crate::error_code::ErrorCode;
use crate::request_id::RequestId;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

/// A failed request.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Details>);

#[derive(Debug)]
struct Details {
    code: ErrorCode,
    message: Cow<'static, str>,
    parameters: Vec<String>,
    exception_code: Option<i32>,
    retry_after: Option<Duration>,
    rate: Option<RateState>,
    allow: Option<&'static str>,
    progress: Option<Progress>,
}

/// Where a client stands with its requests per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateState {
    /// Requests per second.
    pub(crate) limit: u32,
    /// Seconds after which the full burst is there again.
    pub(crate) reset: Duration,
}

/// What is safe of a body that was not taken as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    /// Marks the rows of this request in the quarantine.
    pub(crate) import_id: String,
    /// Rows from the start of the body that are stored or quarantined.
    pub(crate) acknowledged_rows: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    error: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    parameters: &'a [String],
    #[serde(flatten)]
    progress: Option<&'a Progress>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Details {
            code,
            message: message.into(),
            parameters: Vec::new(),
            exception_code: None,
            retry_after: None,
            rate: None,
            allow: None,
            progress: None,
        }))
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.0.code
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn parameters(mut self, names: &[String]) -> Self {
        self.0.parameters = names.to_vec();
        self
    }

    pub(crate) fn exception_code(mut self, code: i32) -> Self {
        self.0.exception_code = Some(code);
        self
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    pub(crate) fn rate(mut self, rate: RateState) -> Self {
        self.0.rate = Some(rate);
        self
    }

    pub(crate) fn allow(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    pub(crate) fn progress(mut self, progress: Progress) -> Self {
        self.0.progress = Some(progress);
        self
    }

    /// The answer.
    pub(crate) fn into_response(self, request_id: &RequestId) -> Response<Body> {
        let details = *self.0;
        let document = Document {
            error: &details.message,
            code: details.code.as_str(),
            request_id: request_id.as_str(),
            parameters: &details.parameters,
            progress: details.progress.as_ref(),
        };
        let mut text = serde_json::to_vec(&document).unwrap_or_default();
        text.push(b'\n');
        let mut response = Response::new(Body::full(Bytes::from(text)));
        *response.status_mut() = details.code.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert("x-request-id", request_id.header());
        if let Some(code) = details.exception_code {
            headers.insert("x-db-exception-code", HeaderValue::from(code));
        }
        if details.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(methods) = details.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        if let Some(wait) = details.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(rate) = details.rate {
            headers.insert("x-ratelimit-limit", HeaderValue::from(rate.limit));
            headers.insert("x-ratelimit-remaining", HeaderValue::from(0));
            headers.insert(
                "x-ratelimit-reset",
                HeaderValue::from(whole_seconds(rate.reset)),
            );
        }
        response
    }
}

/// `Retry-After` knows seconds only; never 0, which would mean "at once".
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_shape_is_stable() {
        let id = RequestId::new();
        let error = ApiError::new(ErrorCode::ParameterMissing, "missing parameter `month`")
            .parameters(&["month".to_owned()]);
        let response = error.into_response(&id);
        assert_eq!(response.status(), 400);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "error": "missing parameter `month`",
                "code": "parameter_missing",
                "request_id": id.as_str(),
                "parameters": ["month"],
            })
        );
    }

    #[test]
    fn a_wait_is_never_zero() {
        let error = ApiError::new(ErrorCode::RateLimited, "slow down")
            .retry_after(Duration::from_millis(3))
            .rate(RateState {
                limit: 5,
                reset: Duration::from_millis(1500),
            });
        let response = error.into_response(&RequestId::new());
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["x-ratelimit-reset"], "2");
    }

    #[test]
    fn codes_have_one_text_and_a_meaning_each() {
        let texts: std::collections::BTreeSet<_> =
            ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
        assert!(
            ErrorCode::ALL
                .iter()
                .all(|code| code.meaning().ends_with('.'))
        );
    }
}

//! The id of an import: the client's, with which it may send the same rows again, or the request's.

use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::request_id::RequestId;
use http::HeaderMap;

/// A header that other interfaces know under this name as well.
const HEADER: &str = "idempotency-key";
/// Characters of a client's id.
const LONGEST: usize = 128;

/// Names an import in receipts and in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportId {
    text: String,
    /// Whether the client gave it, so that rows may come under it a second time.
    given: bool,
}

impl ImportId {
    /// Takes what a client gave, in the header or as `?import_id=`.
    pub(crate) fn of(
        headers: &HeaderMap,
        parameter: Option<&str>,
        request_id: &RequestId,
    ) -> Result<Self, ApiError> {
        let header = headers.get(HEADER).map(|value| {
            let text = value.to_str().unwrap_or_default();
            // Its specification has it in quotes, and nobody writes them.
            let quoted = text
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            quoted.unwrap_or(text)
        });
        let text = match (header, parameter) {
            (None, None) => return Ok(Self::of_request(request_id)),
            (Some(text), None) | (None, Some(text)) => text,
            (Some(header), Some(parameter)) if header == parameter => header,
            (Some(_), Some(_)) => {
                return Err(refuse(
                    "`Idempotency-Key` and `import_id` differ: give one of them",
                ));
            }
        };
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > LONGEST || !plain {
            return Err(refuse(
                "an import's id has 1 to 128 visible ASCII characters: give a UUID, for example",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            given: true,
        })
    }

    /// Names an import after its request, which comes only once.
    pub(super) fn of_request(request_id: &RequestId) -> Self {
        Self {
            text: request_id.as_str().to_owned(),
            given: false,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the client gave it.
    pub(super) fn is_given(&self) -> bool {
        self.given
    }
}

fn refuse(message: &'static str) -> ApiError {
    ApiError::new(ErrorCode::RequestInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn read(header: Option<&str>, parameter: Option<&str>) -> Result<ImportId, ErrorCode> {
        let header = header.map(|text| {
            let value = HeaderValue::from_str(text).unwrap();
            (HeaderName::from_static(HEADER), value)
        });
        let headers = HeaderMap::from_iter(header);
        ImportId::of(&headers, parameter, &RequestId::new()).map_err(|error| error.code())
    }

    #[test]
    fn a_client_may_name_its_import() {
        for (header, parameter) in [
            (Some("order-5"), None),
            (Some("\"order-5\""), None),
            (None, Some("order-5")),
            (Some("order-5"), Some("order-5")),
        ] {
            let id = read(header, parameter).unwrap();
            assert_eq!((id.as_str(), id.is_given()), ("order-5", true));
        }
        assert!(!read(None, None).unwrap().is_given());
    }

    #[test]
    fn not_every_text_is_an_id() {
        let long = "x".repeat(129);
        for (header, parameter) in [
            (Some(""), None),
            (None, Some("")),
            (None, Some("a b")),
            (None, Some("\u{e9}")),
            (None, Some("a\nb")),
            (Some(long.as_str()), None),
            (Some("a"), Some("b")),
        ] {
            assert_eq!(read(header, parameter), Err(ErrorCode::RequestInvalid));
        }
        assert!(read(Some(&long[1..]), None).is_ok());
    }
}

//! The id of a request: in the answer, in every error, and the `query_id` in
//! ClickHouse, so that one can be found from the other. Also names imports.

use http::HeaderValue;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// A UUID of version 7, as text.
#[derive(Clone, Debug)]
pub(crate) struct RequestId([u8; Hyphenated::LENGTH]);

impl RequestId {
    pub(crate) fn new() -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        Uuid::now_v7().hyphenated().encode_lower(&mut text);
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_header_agree() {
        let id = RequestId::new();
        assert_eq!(id.as_str().len(), 36);
        assert_eq!(id.header().to_str().unwrap(), id.as_str());
    }
}

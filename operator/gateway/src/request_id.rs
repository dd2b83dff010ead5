//! The id of a request: in the answer, in every error, and the `query_id` in
//! ClickHouse, so that one can be found from the other. Also names imports.

use http::HeaderValue;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Builder;
use uuid::fmt::Hyphenated;

/// A UUID of version 7, as text.
#[derive(Clone, Debug)]
pub(crate) struct RequestId([u8; Hyphenated::LENGTH]);

impl RequestId {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let milliseconds = now.unwrap_or_default().as_millis() as u64;
        // Random within a millisecond: counting on from the last one would take a lock that
        // every worker shares.
        let id = Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid();
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
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
        let read: uuid::Uuid = id.as_str().parse().unwrap();
        assert_eq!(read.get_version_num(), 7);
        assert_ne!(id.as_str(), RequestId::new().as_str());
        assert_eq!(id.header().to_str().unwrap(), id.as_str());
    }
}

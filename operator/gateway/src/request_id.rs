//! The id of a request: in the answer, in every error, and the `query_id` in
//! ClickHouse, so that one can be found from the other. Also names imports.

use http::HeaderValue;
use jiff::Timestamp;
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

    /// When it was made, to the millisecond.
    pub(crate) fn time(&self) -> Timestamp {
        let digits = self.0.iter().filter(|byte| **byte != b'-').take(12);
        let value = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default();
        let milliseconds = digits.fold(0, |sum, byte| sum * 16 + i64::from(value(byte)));
        Timestamp::from_millisecond(milliseconds).unwrap_or_default()
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
        let age = Timestamp::now().duration_since(id.time());
        assert!((0..60).contains(&age.as_secs()), "{age}");
        assert_eq!(id.header().to_str().unwrap(), id.as_str());
    }
}

//! The values of tokens: where a request carries one, and how it is known.
//!
//! Only hashes are known here, and a presented value is forgotten as soon as it
//! is hashed.

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use subtle::ConstantTimeEq;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads the lower-case hex form.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    pub(crate) fn last_byte(&self) -> u8 {
        self.0[31]
    }

    /// What tells it from others where nothing depends on it; never 0.
    pub(crate) fn start(&self) -> u64 {
        self.0
            .first_chunk()
            .map_or(1, |first| u64::from_ne_bytes(*first).max(1))
    }

    /// Compares in constant time.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// How maps of tokens hash them: not once more.
pub(crate) type HashedAlready = BuildHasherDefault<FirstBytes>;

/// Takes the start of a hash as the hash.
#[derive(Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, hash: &[u8]) {
        self.0 = hash
            .first_chunk()
            .map_or(0, |first| u64::from_ne_bytes(*first));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The hash of the token a request carries: in the `Authorization` header, else
/// as `?token=`. What other schemes put into the header is for somebody before us.
pub(crate) fn presented(headers: &HeaderMap, query: &str) -> Option<TokenHash> {
    let value = headers.get(header::AUTHORIZATION);
    if let Some((scheme, token)) = value.and_then(|value| value.as_bytes().split_at_checked(7))
        && scheme.eq_ignore_ascii_case(b"bearer ")
    {
        let token = token.trim_ascii();
        return (!token.is_empty()).then(|| TokenHash::of(token));
    }
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("token="));
    let value = values.rfind(|value| !value.is_empty())?;
    let decoded: Vec<u8> = percent_decode_str(value).collect();
    Some(TokenHash::of(&decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn hash(text: &str) -> TokenHash {
        TokenHash::of(text.as_bytes())
    }

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_token_is_found_in_header_or_query() {
        let none = HeaderMap::new();
        assert!(
            presented(&headers("Bearer abc"), "")
                .unwrap()
                .matches(&hash("abc"))
        );
        assert!(
            presented(&headers("bearer  abc "), "token=other")
                .unwrap()
                .matches(&hash("abc"))
        );
        assert!(
            presented(&none, "x=1&token=a%2Bc")
                .unwrap()
                .matches(&hash("a+c"))
        );
        assert!(presented(&none, "mytoken=a").is_none());
        assert!(presented(&none, "token=").is_none());
        assert!(presented(&headers("Bearer "), "").is_none());
        assert!(presented(&headers("Basic abc"), "").is_none());
        assert!(presented(&headers("Basic abc"), "token=abc").is_some());
    }

    #[test]
    fn hashes_are_read_from_hex() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(TokenHash::from_hex(hex).unwrap().matches(&hash("abc")));
        assert!(TokenHash::from_hex("ba78").is_none());
    }
}

//! The names under which blocks are written. A table stores what comes under one name only once,
//! among its last ten thousand blocks, so that an INSERT whose outcome nobody learned can be sent
//! again.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The name of some rows on their way.
#[derive(Clone, Debug)]
pub(super) struct DeduplicationToken {
    name: String,
    /// Whether the rows may be sent again by somebody else, who may have changed them. Then they are
    /// known by what they are as well, so that nothing new is taken for what is stored already.
    by_content: bool,
}

impl DeduplicationToken {
    /// For rows that nobody sends again but this gateway, which has them.
    pub(super) fn random() -> Self {
        Self {
            name: Uuid::new_v4().simple().to_string(),
            by_content: false,
        }
    }

    /// For a block of an import to which its client gave an id.
    pub(super) fn of_import(import_id: &str, block: u32) -> Self {
        let mut digest = Sha256::new();
        digest.update(import_id.as_bytes());
        Self {
            name: format!("{}-{block}", hex::encode(&digest.finalize()[..16])),
            by_content: true,
        }
    }

    /// For some of the rows.
    pub(super) fn part(&self, which: &str) -> Self {
        Self {
            name: format!("{}-{which}", self.name),
            by_content: self.by_content,
        }
    }

    /// The name of an INSERT with this body, which needs no quoting anywhere.
    pub(super) fn of_body(&self, body: &[Bytes]) -> String {
        if !self.by_content {
            return self.name.clone();
        }
        let mut digest = Sha256::new();
        for piece in body {
            digest.update(piece);
        }
        format!("{}-{}", self.name, hex::encode(&digest.finalize()[..16]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_apart_what_may_differ() {
        let body = |text: &'static str| vec![Bytes::from_static(text.as_bytes())];
        let names = [
            DeduplicationToken::random().of_body(&body("a")),
            DeduplicationToken::random().of_body(&body("a")),
            DeduplicationToken::of_import("1", 0).of_body(&body("a")),
            DeduplicationToken::of_import("1", 0).of_body(&body("b")),
            DeduplicationToken::of_import("1", 1).of_body(&body("a")),
            DeduplicationToken::of_import("2", 0).of_body(&body("a")),
            DeduplicationToken::of_import("1", 0)
                .part("landing")
                .of_body(&body("a")),
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        assert_eq!(
            DeduplicationToken::of_import("1", 0).of_body(&body("ab")),
            DeduplicationToken::of_import("1", 0).of_body(&[body("a"), body("b")].concat()),
        );
        for name in names {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            );
        }
    }
}

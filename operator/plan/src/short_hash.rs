//! Hashes that tell whether two definitions are the same.

use sha2::{Digest, Sha256};

/// Sixteen hexadecimal digits of the SHA-256 of the parts.
pub(crate) fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex::encode(&digest.finalize()[..8])
}

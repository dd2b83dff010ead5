//! Bytes that rows are gathered in, and that stay with them while they are sent: should ClickHouse
//! refuse the rows for one of them, the others go again.

use bytes::Bytes;
use std::ops::Deref;

/// Bytes that are added to, and shared as they are with what is sent: rows are kept until
/// ClickHouse has them.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    open: Vec<u8>,
    /// All of them, once they are shared; nothing is open then.
    shared: Bytes,
}

impl Buffer {
    /// The bytes, to add to.
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        if !self.shared.is_empty() {
            // Without a copy if nobody else has them any more.
            self.open = Vec::from(std::mem::take(&mut self.shared));
        }
        &mut self.open
    }

    /// The bytes, to send.
    pub(super) fn share(&mut self) -> Bytes {
        if !self.open.is_empty() {
            self.shared = std::mem::take(&mut self.open).into();
        }
        self.shared.clone()
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl From<Vec<u8>> for Buffer {
    fn from(open: Vec<u8>) -> Self {
        Self {
            open,
            shared: Bytes::new(),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.shared.is_empty() {
            &self.open
        } else {
            &self.shared
        }
    }
}

//! Keeps two of `up` and `down` from working at once. `down` removes the lock's
//! file as its last act, so one that waited may hold the lock of a file that is
//! gone, and tries again.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::layout::LOCK_FILE;
use super::progress::Progress;
use super::shell;

/// Held until it is dropped.
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Wait for the lock.
    pub(crate) async fn take(progress: &Progress) -> Result<Self> {
        let path = Path::new(LOCK_FILE);
        loop {
            let file = File::create(path).with_context(|| format!("open {LOCK_FILE}"))?;
            let lock = Self {
                file: wait(file, progress).await?,
            };
            if lock.is_of(path) {
                return Ok(lock);
            }
        }
    }

    /// Let go of it and leave no file behind.
    pub(crate) fn remove(self) -> Result<()> {
        let removed = shell::remove_file(Path::new(LOCK_FILE));
        // Only now, so that whoever gets the lock sees that its file is gone.
        drop(self.file);
        removed
    }

    fn is_of(&self, path: &Path) -> bool {
        let inode = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (held, there) = (self.file.metadata(), std::fs::metadata(path));
        matches!((held, there), (Ok(held), Ok(there)) if inode(&held) == inode(&there))
    }
}

/// Whether there is a file that nobody holds: a `down` has not come to its end.
pub(crate) fn is_left() -> bool {
    File::open(LOCK_FILE).is_ok_and(|file| file.try_lock().is_ok())
}

async fn wait(file: File, progress: &Progress) -> Result<File> {
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error).context("lock"),
    }
    let wait = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    progress
        .step("Waiting for another `up` or `down` to end", async {
            wait.await?.context("lock")
        })
        .await
}

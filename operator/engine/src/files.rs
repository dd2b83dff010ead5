//! Files that are replaced as a whole.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{EngineError, io_error};

/// Replaces a file, durably, and readable by its owner only.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), EngineError> {
    let scratch = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&scratch)
        .map_err(io_error("create", &scratch))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", &scratch))?;
    fs::rename(&scratch, path).map_err(io_error("replace", path))?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("sync", folder))
}

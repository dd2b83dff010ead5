//! Which folders are the box's. `down` removes them with all that is in them,
//! and two variables can name any folder; so a box takes only empty ones and
//! leaves a mark in them, and what has content and no mark is somebody else's.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::layout::Layout;
use super::shell;

const MARK: &str = ".aviary-box";

/// Make both folders the box's.
pub(crate) fn take(layout: &Layout) -> Result<()> {
    check(layout)?;
    for folder in [layout.data(), layout.run()] {
        shell::write(
            &folder.join(MARK),
            "`aviary-e2e down` removes this folder.\n",
        )?;
    }
    Ok(())
}

/// Refuse a folder that may be somebody else's.
pub(crate) fn check(layout: &Layout) -> Result<()> {
    for folder in [layout.data(), layout.run()] {
        // The usual folders bear the box's name; nothing else keeps its things there.
        if Layout::is_usual(folder) || folder.join(MARK).exists() || is_empty(folder)? {
            continue;
        }
        bail!(
            "{} is not empty, and no box was in it: name an empty folder in AVIARY_BOX_DIR and AVIARY_BOX_RUN_DIR",
            folder.display()
        );
    }
    Ok(())
}

fn is_empty(folder: &Path) -> Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("read {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_taken_and_one_with_content_is_not() {
        let place = tempfile::tempdir().unwrap();
        let (data, run) = (place.path().join("data"), place.path().join("run"));
        let layout = Layout::of(data.clone(), run.clone(), place.path().join("cache"));
        take(&layout).unwrap();
        std::fs::write(data.join("etcd"), "content").unwrap();
        take(&layout).unwrap();

        std::fs::remove_file(data.join(MARK)).unwrap();
        let refused = check(&layout).unwrap_err().to_string();
        assert!(refused.contains(&data.display().to_string()), "{refused}");
    }
}

//! Which files belong to the repository.

use anyhow::Context as _;
use std::path::Path;
use std::process::Command;

/// The files that git knows, or would take in, and that match a pattern or are in a folder.
pub(crate) fn tracked(root: &Path, pattern: &str) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            pattern,
        ])
        .current_dir(root)
        .output()
        .context("run git ls-files")?;
    anyhow::ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).context("file names are not UTF-8")?;
    let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
    // What was removed and not committed yet is still listed.
    names.retain(|name| root.join(name).exists());
    Ok(names)
}

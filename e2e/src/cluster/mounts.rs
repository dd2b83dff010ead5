//! What is mounted beneath the box's folders.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

/// A line of the kernel's mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) target: PathBuf,
    pub(crate) kind: String,
}

/// Every mount of this machine, in the order they were made.
pub(crate) fn all() -> Result<Vec<Mount>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    Ok(table.lines().filter_map(parse).collect())
}

/// The mounts at or beneath `folder`.
pub(crate) fn beneath(folder: &Path) -> Result<Vec<Mount>> {
    let mut mounts = all()?;
    mounts.retain(|mount| mount.target.starts_with(folder));
    Ok(mounts)
}

/// Whether something is mounted exactly there.
pub(crate) fn is_mounted(target: &Path) -> Result<bool> {
    Ok(all()?.iter().any(|mount| mount.target == target))
}

/// Unmount all at or beneath `folder`, the newest first.
pub(crate) fn unmount_beneath(folder: &Path) -> Result<()> {
    for mount in beneath(folder)?.iter().rev() {
        // Detached when still in use: the last user is a process that is being ended.
        unmount(&mount.target, UnmountFlags::empty())
            .or_else(|_| unmount(&mount.target, UnmountFlags::DETACH))
            .with_context(|| format!("unmount {}", mount.target.display()))?;
    }
    Ok(())
}

fn parse(line: &str) -> Option<Mount> {
    let target = line.split(' ').nth(4)?;
    let (_, rest) = line.split_once(" - ")?;
    Some(Mount {
        target: PathBuf::from(unescape(target)),
        kind: rest.split(' ').next()?.to_owned(),
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_the_mount_table() {
        let line = r"61 28 0:53 / /run/a\040b rw,relatime shared:3 - tmpfs tmpfs rw,size=1k";
        let expected = Mount {
            target: PathBuf::from("/run/a b"),
            kind: "tmpfs".to_owned(),
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(r"a\9\"), r"a\9\");
    }
}

//! The box's cgroup: pods live beneath it, and nothing else does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::layout::NODE_NAME;
use super::{mounts, process, shell};

/// Make the cgroup in every hierarchy: the kubelet wants its root to exist.
pub(crate) fn create() -> Result<()> {
    for folder in folders()? {
        if folder.exists() {
            continue;
        }
        hand_down_controllers(folder.parent().unwrap_or(Path::new("/")))?;
        fs::create_dir(&folder).with_context(|| format!("create cgroup {}", folder.display()))?;
        // In version 1 a new cpuset is empty, and no process may enter it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let parent = folder.parent().unwrap_or(Path::new("/")).join(file);
            if let (Ok(value), true) = (fs::read_to_string(parent), folder.join(file).exists()) {
                fs::write(folder.join(file), value.trim())
                    .with_context(|| format!("fill {file} of {}", folder.display()))?;
            }
        }
    }
    Ok(())
}

/// In version 2 a cgroup has only the controllers that its parent hands down; the
/// kubelet wants these of its root.
fn hand_down_controllers(parent: &Path) -> Result<()> {
    let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    let wanted: Vec<String> = available
        .split_whitespace()
        .filter(|name| ["cpu", "cpuset", "hugetlb", "memory", "pids"].contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let file = parent.join("cgroup.subtree_control");
    fs::write(&file, wanted.join(" ")).with_context(|| format!("write {}", file.display()))
}

/// Which controllers the parents of the box's cgroups hand down, by the file that says so. Version 1 has no such file.
pub(crate) fn handed_down() -> Result<BTreeMap<PathBuf, String>> {
    let files = folders()?.into_iter().filter_map(|folder| {
        let file = folder.parent()?.join("cgroup.subtree_control");
        let controllers = fs::read_to_string(&file).ok()?;
        Some((file, controllers.trim().to_owned()))
    });
    Ok(files.collect())
}

/// Hand down no more than was handed down before.
pub(crate) fn take_back(before: &BTreeMap<PathBuf, String>) {
    for (file, controllers) in before {
        let now = fs::read_to_string(file).unwrap_or_default();
        let before: Vec<&str> = controllers.split_whitespace().collect();
        for added in now.split_whitespace().filter(|name| !before.contains(name)) {
            // The kernel refuses when another cgroup has come to use the controller.
            let _ = fs::write(file, format!("-{added}"));
        }
    }
}

/// The box's cgroups that exist.
pub(crate) fn existing() -> Result<Vec<PathBuf>> {
    let mut folders = folders()?;
    folders.retain(|folder| folder.exists());
    Ok(folders)
}

/// The processes of pods.
pub(crate) fn processes() -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    for folder in existing()? {
        collect(&folder, &mut pids);
    }
    Ok(pids)
}

/// End every pod as a kubelet does: the first process of each container is asked
/// to end, and after `grace` all are made to.
pub(crate) async fn end_processes(grace: Duration) -> Result<()> {
    for pid in processes()? {
        match Standing::of(pid) {
            Standing::First { heeds_term: true } => process::signal_pid(pid, Signal::TERM)?,
            // The kernel keeps a signal without a handler from a first process.
            Standing::First { heeds_term: false } => process::signal_pid(pid, Signal::KILL)?,
            Standing::Other => {}
        }
    }
    if wait_until_empty(grace).await.is_ok() {
        return Ok(());
    }
    for pid in processes()? {
        process::signal_pid(pid, Signal::KILL)?;
    }
    wait_until_empty(Duration::from_secs(20)).await
}

/// Remove the empty cgroups, the innermost first.
pub(crate) async fn remove() -> Result<()> {
    for folder in existing()? {
        // The kernel takes a moment to let go of a cgroup after its last process.
        shell::wait_for(Duration::from_secs(10), || async {
            Ok(remove_tree(&folder)
                .map_err(|error| format!("remove {}: {error}", folder.display())))
        })
        .await?;
    }
    Ok(())
}

fn folders() -> Result<Vec<PathBuf>> {
    let mut roots: Vec<_> = mounts::all()?
        .into_iter()
        .filter(|mount| mount.target.starts_with("/sys/fs/cgroup"))
        .filter(|mount| matches!(mount.kind.as_str(), "cgroup" | "cgroup2"))
        .map(|mount| mount.target.join(NODE_NAME))
        .collect();
    roots.sort();
    roots.dedup();
    if roots.is_empty() {
        bail!("no cgroup hierarchy is mounted under /sys/fs/cgroup");
    }
    Ok(roots)
}

async fn wait_until_empty(deadline: Duration) -> Result<()> {
    shell::wait_for(deadline, || async {
        let left = processes()?;
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("processes of pods to end: {left:?}"))
        })
    })
    .await
}

fn collect(folder: &Path, pids: &mut BTreeSet<i32>) {
    let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(folder) {
        collect(&child, pids);
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for child in children(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A process's place in its container.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// Number 1 in a pid namespace of its own.
    First {
        heeds_term: bool,
    },
    Other,
}

impl Standing {
    fn of(pid: i32) -> Self {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
    }

    fn read(status: &str) -> Self {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let pids = field("NSpid:").unwrap_or_default();
        if pids.split_whitespace().skip(1).last() != Some("1") {
            return Self::Other;
        }
        let caught = field("SigCgt:").map(str::trim).unwrap_or_default();
        let caught = u64::from_str_radix(caught, 16).unwrap_or_default();
        Self::First {
            heeds_term: caught & (1 << (Signal::TERM.as_raw() - 1)) != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing;

    #[test]
    fn the_first_process_of_a_container_is_told_by_its_status() {
        let read = |pids: &str, caught: &str| {
            Standing::read(&format!("Name:\tx\nNSpid:\t{pids}\nSigCgt:\t{caught}\n"))
        };
        let first = |heeds_term| Standing::First { heeds_term };
        assert_eq!(read("7001\t1", "0000000000004000"), first(true));
        assert_eq!(read("7001\t1", "0000000000000002"), first(false));
        assert_eq!(read("7001\t12", "0000000000004000"), Standing::Other);
        assert_eq!(read("1", "0000000000004000"), Standing::Other);
        assert_eq!(Standing::read(""), Standing::Other);
    }
}

//! Settings of the machine that parts of the box change, and places they write
//! to that no option moves: noted before the first start, put back by `down`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::{cgroups, network, shell};

/// What the kubelet sets for the whole machine when it starts.
const SETTINGS: &[&str] = &[
    "/proc/sys/kernel/keys/root_maxbytes",
    "/proc/sys/kernel/keys/root_maxkeys",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
];

/// Folders outside the box's own that its parts create, parents before children.
const FOLDERS: &[&str] = &[
    "/run/containerd",
    "/run/containerd/s",
    "/run/containerd/fifo",
    "/var/lib/cni",
    "/var/lib/cni/results",
    "/var/lib/kubelet",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet/seccomp",
    "/var/log/containers",
];

/// Where containerd's shims listen, whatever containerd's own folders are.
const SHIM_SOCKETS: &str = "/run/containerd/s";

/// Files the kubelet leaves in folders of its own choosing.
const KUBELET_FILES: &[&str] = &[
    "/var/lib/kubelet/device-plugins/DEPRECATION",
    "/var/lib/kubelet/device-plugins/kubelet.sock",
    "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint",
];

/// The machine as it was before the box.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Before {
    settings: BTreeMap<String, String>,
    absent_folders: Vec<PathBuf>,
    #[serde(default)]
    handed_down_controllers: BTreeMap<PathBuf, String>,
}

impl Before {
    fn lacked(&self, folder: &str) -> bool {
        let folder = Path::new(folder);
        self.absent_folders.iter().any(|absent| absent == folder)
    }
}

/// Note the machine's state unless that was done already.
pub(crate) fn note(layout: &Layout) -> Result<()> {
    let file = record(layout);
    if file.exists() {
        return Ok(());
    }
    let settings = SETTINGS.iter().filter_map(|path| {
        let value = fs::read_to_string(path).ok()?;
        Some(((*path).to_owned(), value.trim().to_owned()))
    });
    let before = Before {
        settings: settings.collect(),
        absent_folders: FOLDERS
            .iter()
            .map(PathBuf::from)
            .filter(|folder| !folder.exists())
            .collect(),
        handed_down_controllers: cgroups::handed_down()?,
    };
    // Moved into place whole: half a record would restore half the machine.
    let unfinished = file.with_added_extension("unfinished");
    shell::write(&unfinished, serde_json::to_vec_pretty(&before)?)?;
    fs::rename(&unfinished, &file).context("keep the record of the machine")
}

/// Put the settings back and remove what was written outside the box's folders.
pub(crate) fn restore(layout: &Layout) -> Result<()> {
    let file = record(layout);
    let Ok(content) = fs::read(&file) else {
        return Ok(());
    };
    let before: Before =
        serde_json::from_slice(&content).with_context(|| format!("read {}", file.display()))?;
    for (path, value) in &before.settings {
        let now = fs::read_to_string(path).unwrap_or_default();
        if now.trim() != value {
            fs::write(path, value).with_context(|| format!("set {path} back to {value}"))?;
        }
    }
    cgroups::take_back(&before.handed_down_controllers);
    for stray in stray_files(layout) {
        shell::remove_file(&stray)?;
    }
    if before.lacked(SHIM_SOCKETS) {
        dead_sockets(Path::new(SHIM_SOCKETS))
            .iter()
            .try_for_each(|socket| shell::remove_file(socket))?;
    }
    if before.lacked("/var/lib/kubelet") {
        KUBELET_FILES
            .iter()
            .try_for_each(|file| shell::remove_file(Path::new(file)))?;
    }
    for folder in before.absent_folders.iter().rev() {
        // One that is not empty has found another user by now.
        let _ = fs::remove_dir(folder);
    }
    shell::remove_file(&file)
}

/// Files of this box in folders shared with others.
pub(crate) fn stray_files(layout: &Layout) -> Vec<PathBuf> {
    let mut files = network::cni_cache_files();
    files.extend(container_log_links(layout));
    files
}

/// The kubelet links every container's log in a fixed folder.
fn container_log_links(layout: &Layout) -> Vec<PathBuf> {
    let logs = layout.pod_logs();
    fs::read_dir("/var/log/containers")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|link| fs::read_link(link).is_ok_and(|target| target.starts_with(&logs)))
        .collect()
}

/// Sockets of the shims of running containers; each container notes its own.
pub(crate) fn shim_sockets(layout: &Layout) -> BTreeSet<PathBuf> {
    let tasks = layout
        .containerd_state()
        .join("io.containerd.runtime.v2.task/k8s.io");
    fs::read_dir(tasks)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect()
}

/// Sockets that nobody listens on: shims that were killed leave theirs, and
/// containerd forgets them.
fn dead_sockets(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|socket| {
            UnixStream::connect(socket)
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        })
        .collect()
}

/// Whether settings are still to be put back.
pub(crate) fn is_noted(layout: &Layout) -> bool {
    record(layout).exists()
}

fn record(layout: &Layout) -> PathBuf {
    layout.data().join("machine-before.json")
}

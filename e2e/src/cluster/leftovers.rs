//! What of the box is still on this machine.

use anyhow::Result;

use super::layout::{HOST_LINK, LOCK_FILE, Layout};
use super::{cgroups, lock, machine, mounts, network, process, volumes};

/// Everything that `down` should have removed, in words.
pub(crate) async fn find(layout: &Layout) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut add = |item: String| found.push(item);

    process::running(layout)
        .iter()
        .map(process::BoxProcess::describe)
        .for_each(&mut add);
    for pid in cgroups::processes()? {
        add(format!("process {pid} of a pod"));
    }
    for folder in cgroups::existing()? {
        add(format!("cgroup {}", folder.display()));
    }
    for folder in [layout.run(), layout.data()] {
        for mount in mounts::beneath(folder)? {
            add(format!(
                "{} mounted on {}",
                mount.kind,
                mount.target.display()
            ));
        }
    }
    for device in volumes::loop_devices_beneath(layout.data()).await? {
        add(format!("loop device {device}"));
    }
    // Routes, bridges and iptables rules are in the box's network or hang on this link.
    if network::link_exists() {
        add(format!("network link {HOST_LINK}"));
    }
    for file in machine::stray_files(layout) {
        add(format!("file {}", file.display()));
    }
    if machine::is_noted(layout) {
        add("kernel settings that were not put back".to_owned());
    }
    if layout.run().exists() {
        add(format!("folder {}", layout.run().display()));
    }
    // While `down` looks, it holds the lock itself and removes its file afterwards.
    if lock::is_left() {
        add(format!("file {LOCK_FILE}"));
    }
    Ok(found)
}

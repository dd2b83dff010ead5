//! The Debian packages the box runs on, installed when missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::layout::Layout;
use super::progress::Progress;
use super::shell;

/// Each package and a file that shows it is there.
const PACKAGES: &[(&str, &str)] = &[
    ("busybox", "/bin/busybox"),
    ("containerd", "/usr/bin/containerd"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("etcd-server", "/usr/bin/etcd"),
    ("iproute2", "/bin/ip"),
    ("iptables", "/usr/sbin/iptables"),
    ("runc", "/usr/sbin/runc"),
    ("xfsprogs", "/sbin/mkfs.xfs"),
];

const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";
const OUR_POLICY: &str = "#!/bin/sh\n# Made by aviary-e2e while it installs packages.\nexit 101\n";

/// Install what the box needs and the machine lacks.
pub(crate) async fn install(layout: &Layout, progress: &Progress) -> Result<()> {
    install_these(layout, progress, PACKAGES).await
}

/// Install what is missing of packages, each with a file that shows it is there.
pub(crate) async fn install_these(
    layout: &Layout,
    progress: &Progress,
    packages: &[(&str, &str)],
) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "install {} by hand: only Debian's apt-get is known here",
            missing.join(", ")
        );
    }
    let what = format!("Installing {}", missing.join(", "));
    progress
        .step(&what, install_missing(layout, &missing))
        .await
}

async fn install_missing(layout: &Layout, missing: &[&str]) -> Result<()> {
    let log = layout.logs().join("apt-get.log");
    let _policy = ServicePolicy::hold_back()?;
    let install = [&["install", "--no-install-recommends"], missing].concat();
    if apt_get(&install, &log).await.is_ok() {
        return Ok(());
    }
    // The lists are missing or older than the archive.
    apt_get(&["update"], &log).await?;
    apt_get(&install, &log).await
}

async fn apt_get(arguments: &[&str], log: &Path) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(["-y", "-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    shell::logged(command, log).await
}

/// Keeps packages from starting their services: the box runs its own etcd and
/// containerd. A policy the machine has already does the same or is its
/// owner's wish; ours goes when this is dropped.
struct ServicePolicy {
    ours: bool,
}

impl ServicePolicy {
    fn hold_back() -> Result<Self> {
        let path = Path::new(SERVICE_POLICY);
        let left_by_us = fs::read_to_string(path).is_ok_and(|content| content == OUR_POLICY);
        if path.exists() && !left_by_us {
            return Ok(Self { ours: false });
        }
        fs::write(path, OUR_POLICY).with_context(|| format!("write {SERVICE_POLICY}"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("make {SERVICE_POLICY} executable"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for ServicePolicy {
    fn drop(&mut self) {
        if self.ours {
            // A policy left here is found and removed by the next installation.
            let _ = fs::remove_file(SERVICE_POLICY);
        }
    }
}

//! Where the box keeps its things on this machine, and the names and addresses it uses.
//!
//! Everything that `down` has to find again is named here.

use std::path::{Path, PathBuf};

/// The node's name, its cgroup's name and the prefix of most other names.
pub(crate) const NODE_NAME: &str = "aviary-box";
/// The machine's end of the link into the box.
pub(crate) const HOST_LINK: &str = "aviary0";
/// The box's end of that link.
pub(crate) const NODE_LINK: &str = "aviary-node";
/// The bridge, inside the box, that pods hang on.
pub(crate) const POD_BRIDGE: &str = "aviary-pods";
/// The CNI network's name; CNI's cache files start with it.
pub(crate) const CNI_NETWORK: &str = "aviary-box";

/// The machine as pods and the node see it.
pub const HOST_ADDRESS: &str = "10.245.0.1";
/// The node: the apiserver, the kubelet and NodePorts answer here.
pub const NODE_ADDRESS: &str = "10.245.0.2";
pub(crate) const LINK_PREFIX_LENGTH: u8 = 30;
pub(crate) const POD_RANGE: &str = "10.244.0.0/22";
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";
pub(crate) const API_SERVICE_ADDRESS: &str = "10.96.0.1";
pub(crate) const DNS_SERVICE_ADDRESS: &str = "10.96.0.10";
pub(crate) const API_PORT: u16 = 6443;

/// Held by `up` and `down`. One box a machine, whatever folders it uses, so one lock a machine.
pub(crate) const LOCK_FILE: &str = "/run/lock/aviary-box.lock";

const USUAL_DATA: &str = "/var/lib/aviary-box";
const USUAL_RUN: &str = "/run/aviary-box";

/// The folders of the box.
#[derive(Clone, Debug)]
pub struct Layout {
    data: PathBuf,
    run: PathBuf,
    cache: PathBuf,
}

impl Layout {
    /// `AVIARY_BOX_DIR`, `AVIARY_BOX_RUN_DIR` and `AVIARY_CACHE`, or the usual places.
    pub fn from_environment() -> Self {
        let folder = |variable: &str, default: PathBuf| {
            std::env::var_os(variable)
                .filter(|value| !value.is_empty())
                .map_or(default, PathBuf::from)
        };
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        Self::of(
            folder("AVIARY_BOX_DIR", USUAL_DATA.into()),
            folder("AVIARY_BOX_RUN_DIR", USUAL_RUN.into()),
            folder("AVIARY_CACHE", home.join(".cache/aviary")),
        )
    }

    pub(crate) fn of(data: PathBuf, run: PathBuf, cache: PathBuf) -> Self {
        Self { data, run, cache }
    }

    /// Whether it is one of the folders that a box has unless it is told otherwise.
    pub(crate) fn is_usual(folder: &Path) -> bool {
        [USUAL_DATA, USUAL_RUN].map(Path::new).contains(&folder)
    }

    /// What outlives a reboot: etcd, certificates, logs, images, volumes.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What does not: sockets, the network namespace, running containers.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// What outlives `down` and is shared by every clone: built tools, layer digests.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of("admin")
    }

    pub(crate) fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.certificates().join(format!("{user}.kubeconfig"))
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.data.join("pki")
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.data.join("config")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// One JSON line per API request that was answered.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.log")
    }

    pub(crate) fn pod_logs(&self) -> PathBuf {
        self.data.join("pod-logs")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    pub(crate) fn network_namespace(&self) -> PathBuf {
        self.run.join("network")
    }

    pub(crate) fn containerd_state(&self) -> PathBuf {
        self.run.join("containerd")
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }
}

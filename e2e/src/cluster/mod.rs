//! A real Kubernetes on this machine: etcd, kube-apiserver, controller manager,
//! scheduler, kubelet, kube-proxy, CoreDNS, containerd, and volumes that grow.
//!
//! [`Cluster`] brings it up, takes it down and says how it is. Tests and the demo
//! use whatever cluster [`Target::from_environment`] names: the box, or the one
//! that `KUBECONFIG` points to. Images get into the box by [`Cluster::load_image`],
//! and into a cluster of one's own by the command that `AVIARY_LOAD_IMAGE` names.
//!
//! `docs/guides/box.md` describes it for those who use it.

pub use self::layout::{HOST_ADDRESS, Layout, NODE_ADDRESS};
pub use self::progress::Progress;
pub use self::runtime::Loaded;
pub use self::single_node::{Cluster, Data};
pub use self::status::Status;
pub use self::target::Target;

mod addons;
mod certificates;
mod cgroups;
mod claim;
mod client;
mod components;
mod configuration;
pub mod image;
mod layout;
mod leftovers;
mod lock;
mod machine;
mod mounts;
mod network;
pub(crate) mod packages;
mod process;
mod progress;
pub mod provisioner;
mod quantity;
mod runtime;
pub mod shell;
mod single_node;
mod status;
pub mod system_images;
mod target;
mod tools;
mod volumes;

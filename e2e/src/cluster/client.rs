//! Clients of a cluster, from a kubeconfig.

use std::path::Path;

use anyhow::{Context, Result};
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

/// A client for the cluster of a kubeconfig.
pub(super) async fn client(kubeconfig: &Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("read {} (is the cluster up?)", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use {}", kubeconfig.display()))?;
    Client::try_from(config).with_context(|| format!("connect by {}", kubeconfig.display()))
}

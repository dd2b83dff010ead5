//! Which cluster tests and demo work on: the box, or one of the user's own.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use kube::Client;

use super::image::ImageSpec;
use super::{Cluster, Progress, client};

/// A cluster to work on.
#[derive(Clone, Debug)]
pub enum Target {
    /// The box of this machine.
    Box(Cluster),
    /// The cluster that `KUBECONFIG` points to. Its owner brings it up and loads
    /// images into it.
    Own {
        /// The file `KUBECONFIG` names.
        kubeconfig: PathBuf,
    },
}

impl Target {
    /// The cluster that `KUBECONFIG` points to, or else the box.
    pub fn from_environment() -> Self {
        let cluster = Cluster::from_environment();
        match std::env::var_os("KUBECONFIG").map(PathBuf::from) {
            Some(kubeconfig)
                if !kubeconfig.as_os_str().is_empty()
                    && kubeconfig != cluster.kubeconfig_path() =>
            {
                Self::Own { kubeconfig }
            }
            _ => Self::Box(cluster),
        }
    }

    /// Bring the box up if that is the target and it is not.
    pub async fn ensure_up(&self, progress: &Progress) -> Result<()> {
        match self {
            Self::Box(cluster) => cluster.up(progress).await,
            Self::Own { .. } => Ok(()),
        }
    }

    /// The kubeconfig to use.
    pub fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Box(cluster) => cluster.kubeconfig_path(),
            Self::Own { kubeconfig } => kubeconfig.clone(),
        }
    }

    /// A client with the kubeconfig's rights.
    pub async fn client(&self) -> Result<Client> {
        let path: &Path = &self.kubeconfig();
        client(path).await
    }

    /// Give the box an image. A cluster of the user's own has to have it already.
    pub async fn load_image(&self, spec: ImageSpec) -> Result<()> {
        if let Self::Box(cluster) = self {
            cluster.load_image(spec).await?;
        }
        Ok(())
    }

    /// The box, for what only it has, such as the audit log.
    pub fn as_box(&self) -> Result<&Cluster> {
        match self {
            Self::Box(cluster) => Ok(cluster),
            Self::Own { kubeconfig } => bail!(
                "this needs the box, but KUBECONFIG points to {}",
                kubeconfig.display()
            ),
        }
    }
}

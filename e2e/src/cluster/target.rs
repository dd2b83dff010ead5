//! Which cluster tests and demo work on: the box, or one of the user's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::Client;
use tokio::process::Command;

use super::client::client;
use super::image::ImageSpec;
use super::progress::Progress;
use super::shell;
use super::single_node::Cluster;

/// A cluster to work on.
#[derive(Clone, Debug)]
pub enum Target {
    /// The box of this machine.
    Box(Cluster),
    /// The cluster that `KUBECONFIG` points to. Its owner brings it up, and says
    /// in `AVIARY_LOAD_IMAGE` how images get into it.
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

    /// The path of `kubectl`, `helm` or another tool, built when missing.
    pub async fn tool(&self, name: &str, progress: &Progress) -> Result<PathBuf> {
        match self {
            Self::Box(cluster) => cluster.tool(name, progress).await,
            Self::Own { .. } => Cluster::from_environment().tool(name, progress).await,
        }
    }

    /// Give the cluster an image. For one of the user's own its archive is
    /// written, and the command in `AVIARY_LOAD_IMAGE` is run with its path.
    pub async fn load_image(&self, spec: ImageSpec) -> Result<()> {
        match self {
            Self::Box(cluster) => cluster.load_image(spec).await.map(drop),
            Self::Own { .. } => hand_over(spec).await,
        }
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

async fn hand_over(spec: ImageSpec) -> Result<()> {
    let loader = std::env::var("AVIARY_LOAD_IMAGE").context(
        "KUBECONFIG names a cluster of your own: say what command gives it an image archive, such as AVIARY_LOAD_IMAGE='kind load image-archive'",
    )?;
    let folder = tempfile::tempdir().context("make a folder for the archive")?;
    let archive = folder.path().join("image.tar");
    Cluster::from_environment()
        .save_image(spec, archive.clone())
        .await?;
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{loader} \"$1\""), "sh"])
        .arg(&archive);
    shell::output(command).await.map(drop)
}

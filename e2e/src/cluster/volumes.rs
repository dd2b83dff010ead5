//! Volumes: XFS on loop devices over sparse files, so that they have a size of
//! their own, fill up like disks, and grow while in use.
//!
//! XFS and not ext4: to grow ext4 while mounted takes CAP_SYS_RESOURCE, which
//! root does not have everywhere.
//!
//! What pods see is the folder `data` *inside* the filesystem. While a volume is
//! not mounted that path does not exist, so a pod waits rather than write beneath
//! the mount.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

use super::{mounts, shell};

/// The smallest filesystem that has room for its journal and some data.
const SMALLEST: u64 = 16 << 20;
/// Below this XFS wants to be told that small is meant.
const SMALLEST_SUPPORTED: u64 = 300 << 20;

/// The folder that holds every volume.
#[derive(Clone, Debug)]
pub(crate) struct Volumes {
    folder: PathBuf,
}

impl Volumes {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The path that pods are given.
    pub(crate) fn published_path(&self, name: &str) -> PathBuf {
        self.mount_point(name).join("data")
    }

    /// Names of the volumes that exist.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Make a volume, or finish making it, and mount it.
    pub(crate) async fn create(&self, name: &str, bytes: u64) -> Result<()> {
        let image = self.image(name);
        if !image.exists() {
            let unfinished = image.with_extension("unfinished");
            shell::create_folder(&self.folder.join(name))?;
            File::create(&unfinished)
                .and_then(|file| file.set_len(bytes.max(SMALLEST)))
                .with_context(|| format!("create {}", unfinished.display()))?;
            let mut options = vec!["-q", "-f"];
            if bytes < SMALLEST_SUPPORTED {
                options.push("--unsupported");
            }
            let options = options.into_iter().map(Path::new);
            shell::run("mkfs.xfs", options.chain([unfinished.as_path()])).await?;
            fs::rename(&unfinished, &image).context("put the new volume in place")?;
        }
        self.mount(name).await?;
        shell::create_folder(&self.published_path(name))
    }

    /// Mount an existing volume unless it is mounted.
    pub(crate) async fn mount(&self, name: &str) -> Result<()> {
        let target = self.mount_point(name);
        if mounts::is_mounted(&target)? {
            return Ok(());
        }
        shell::create_folder(&target)?;
        // mount makes the loop device such that it goes away with its last mount.
        let options = ["-t", "xfs", "-o", "loop"].map(Path::new);
        let image = self.image(name);
        shell::run(
            "mount",
            options.into_iter().chain([image.as_path(), &target]),
        )
        .await?;
        Ok(())
    }

    /// Make a mounted volume bigger; it is never made smaller.
    pub(crate) async fn grow(&self, name: &str, bytes: u64) -> Result<()> {
        let image = self.image(name);
        let file = File::options()
            .write(true)
            .open(&image)
            .with_context(|| format!("open {}", image.display()))?;
        if file.metadata().context("measure the volume")?.len() < bytes {
            file.set_len(bytes).context("lengthen the volume")?;
            file.sync_all().context("keep the volume's length")?;
        }
        for device in loop_devices(&image).await? {
            shell::run("losetup", ["--set-capacity", &device]).await?;
        }
        let target = self.mount_point(name);
        shell::run("xfs_growfs", [Path::new("-d"), &target]).await?;
        Ok(())
    }

    /// Unmount and remove a volume once no pod has it any more.
    pub(crate) async fn destroy(&self, name: &str) -> Result<()> {
        let target = self.mount_point(name);
        if mounts::is_mounted(&target)? {
            unmount(&target, UnmountFlags::empty())
                .with_context(|| format!("unmount {}", target.display()))?;
        }
        let image = self.image(name);
        shell::wait_for(Duration::from_secs(5), || async {
            let devices = loop_devices(&image).await?;
            Ok(match devices.first() {
                None => Ok(()),
                Some(device) => Err(format!("{device} to be free of pods")),
            })
        })
        .await?;
        shell::remove_folder(&self.folder.join(name))
    }

    fn image(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("image")
    }

    fn mount_point(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("mount")
    }
}

/// The loop devices whose file lies in `folder`.
pub(crate) async fn loop_devices_beneath(folder: &Path) -> Result<Vec<String>> {
    let listed = shell::run("losetup", ["-l", "-n", "-O", "NAME,BACK-FILE"]).await?;
    let ours = listed.lines().filter_map(|line| {
        let (device, file) = line.trim().split_once(char::is_whitespace)?;
        Path::new(file.trim())
            .starts_with(folder)
            .then(|| device.to_owned())
    });
    Ok(ours.collect())
}

async fn loop_devices(image: &Path) -> Result<Vec<String>> {
    let options = ["-n", "-O", "NAME", "-j"].map(Path::new);
    let listed = shell::run("losetup", options.into_iter().chain([image])).await?;
    Ok(listed.lines().map(|line| line.trim().to_owned()).collect())
}

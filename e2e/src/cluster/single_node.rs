//! The box itself: brings all its parts up in order, takes them down again, and gives
//! it images.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Client;

use super::client::client;
use super::components::{self, Components, Programs, STOP_AFTER_PODS, STOP_BEFORE_PODS};
use super::image::ImageSpec;
use super::layout::Layout;
use super::lock::Lock;
use super::progress::Progress;
use super::runtime::{self, Loaded};
use super::status::Status;
use super::{
    addons, certificates, cgroups, claim, leftovers, machine, mounts, network, packages, process,
    shell, system_images, tools, volumes,
};

const READY_DEADLINE: Duration = Duration::from_mins(2);

/// The box of this machine, up or not.
#[derive(Clone, Debug)]
pub struct Cluster {
    layout: Layout,
}

/// What `down` does with etcd, volumes, images and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// The next box begins empty.
    Remove,
    /// The next box goes on where this one ended.
    Keep,
}

impl Data {
    /// How long pods and components have to end by themselves. None when what
    /// they would write on their way out is removed anyway.
    fn graces(self) -> (Duration, Duration) {
        match self {
            Self::Remove => (Duration::ZERO, Duration::ZERO),
            Self::Keep => (Duration::from_secs(10), Duration::from_secs(10)),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::from_environment()
    }
}

impl Cluster {
    /// The box in the folders of [`Layout::from_environment`].
    pub fn from_environment() -> Self {
        Self {
            layout: Layout::from_environment(),
        }
    }

    /// Where the box keeps its things.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The administrator's kubeconfig; exists while the box is up.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// The apiserver's audit log: one JSON object a line, metadata only. Each
    /// answered request has one line of stage `ResponseComplete`; a watch has one
    /// of stage `ResponseStarted` when it begins and the other when it ends.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// A client with all rights.
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig_path()).await
    }

    /// The path of `kubectl`, `helm` or another tool, built when missing.
    pub async fn tool(&self, name: &str, progress: &Progress) -> Result<PathBuf> {
        tools::tool(&self.layout, progress, name).await
    }

    /// Bring up what is not up. With all healthy that takes a second or two.
    pub async fn up(&self, progress: &Progress) -> Result<()> {
        require_root()?;
        let _lock = Lock::take(progress).await?;
        claim::take(&self.layout)?;
        packages::install(&self.layout, progress).await?;
        let kubectl = self.tool("kubectl", progress).await?;
        let coredns = self.tool("coredns", progress).await?;
        let kubernetes = kubectl.parent().context("kubectl lies in no folder")?;

        progress
            .step("Preparing folders and network", self.prepare())
            .await?;
        let programs = Programs {
            kubernetes: kubernetes.to_owned(),
            aviary_e2e: components::own_program()?,
        };
        let components = Components::new(&self.layout, &programs)?;
        let control_plane = [
            &components.etcd,
            &components.containerd,
            &components.apiserver,
        ];
        for component in control_plane {
            self.start(progress, component).await?;
        }
        progress
            .step("Loading system images", self.load_system_images(&coredns))
            .await?;
        let client = self.client().await?;
        let alive = || process::check_alive(&self.layout, &control_plane);
        progress
            .step(
                "Waiting for the apiserver",
                addons::wait_for_api(&client, READY_DEADLINE, alive),
            )
            .await?;
        let heartbeat = addons::heartbeat(&client).await?;
        let mut stale = None;
        for component in &components.clients {
            if self.start(progress, component).await? && component.name == "kubelet" {
                stale = heartbeat.as_ref();
            }
        }
        progress
            .step("Applying addons", addons::apply(&self.layout, &kubectl))
            .await?;
        let all = components.all();
        let alive = || process::check_alive(&self.layout, &all);
        let whole = addons::wait_until_whole(&client, stale, READY_DEADLINE, alive);
        progress
            .step("Waiting for node and name resolution", whole)
            .await
    }

    /// Take everything down and check that nothing is left.
    pub async fn down(&self, data: Data, progress: &Progress) -> Result<()> {
        require_root()?;
        let lock = Lock::take(progress).await?;
        let layout = &self.layout;
        claim::check(layout)?;
        let (pod_grace, component_grace) = data.graces();
        progress
            .step(
                "Stopping what starts pods",
                self.stop(STOP_BEFORE_PODS, component_grace),
            )
            .await?;
        progress
            .step("Stopping pods", cgroups::end_processes(pod_grace))
            .await?;
        progress
            .step("Stopping the control plane", async {
                self.stop(STOP_AFTER_PODS, component_grace).await?;
                // containerd's shims, and whatever else a part of the box has left behind.
                process::end(layout, &process::running(layout), component_grace).await
            })
            .await?;
        progress
            .step("Removing mounts, network and cgroups", self.clean())
            .await?;
        if data == Data::Remove {
            shell::remove_folder(layout.data())?;
        }
        let left = self.leftovers().await?;
        if !left.is_empty() {
            bail!("left on this machine:\n  {}", left.join("\n  "));
        }
        lock.remove()
    }

    /// How the box is.
    pub async fn status(&self) -> Result<Status> {
        require_root()?;
        Status::of(&self.layout).await
    }

    /// What of the box is on this machine besides its data. Nothing, after `down`.
    pub async fn leftovers(&self) -> Result<Vec<String>> {
        require_root()?;
        leftovers::find(&self.layout).await
    }

    /// Build an image and give it to the box, unless it has that very content.
    pub async fn load_image(&self, spec: ImageSpec) -> Result<Loaded> {
        runtime::load(&self.layout, spec).await
    }

    /// Write an image as an OCI archive, for a cluster other than the box; gives its name and digest.
    pub async fn save_image(&self, spec: ImageSpec, archive: PathBuf) -> Result<String> {
        let layout = self.layout.clone();
        tokio::task::spawn_blocking(move || runtime::save(&layout, &spec, &archive)).await?
    }

    /// Give the box the images of an archive (OCI, or as `docker save` writes it).
    pub async fn load_archive(&self, archive: &Path) -> Result<String> {
        runtime::load_archive(&self.layout, archive).await
    }

    async fn prepare(&self) -> Result<()> {
        let layout = &self.layout;
        for folder in [
            layout.data(),
            layout.run(),
            &layout.logs(),
            &layout.volumes(),
        ] {
            shell::create_folder(folder)?;
        }
        machine::note(layout)?;
        certificates::ensure(layout)?;
        cgroups::create()?;
        network::ensure(layout).await
    }

    /// True when it did not run already.
    async fn start(&self, progress: &Progress, component: &process::Component) -> Result<bool> {
        let what = format!("Starting {}", component.name);
        progress
            .step(&what, process::ensure(&self.layout, component))
            .await
    }

    async fn load_system_images(&self, coredns: &Path) -> Result<()> {
        runtime::wait_until_ready(&self.layout, READY_DEADLINE).await?;
        self.load_image(system_images::pause()?).await?;
        self.load_image(system_images::coredns(coredns)).await?;
        self.load_image(system_images::busybox()?).await?;
        Ok(())
    }

    async fn stop(&self, names: &[&str], grace: Duration) -> Result<()> {
        for name in names {
            let mut processes = process::running(&self.layout);
            processes.retain(|process| process.component == *name && process.is_component());
            process::end(&self.layout, &processes, grace).await?;
        }
        Ok(())
    }

    async fn clean(&self) -> Result<()> {
        let layout = &self.layout;
        machine::shim_sockets(layout)
            .iter()
            .try_for_each(|socket| shell::remove_file(socket))?;
        network::remove().await?;
        for folder in [layout.run(), layout.data()] {
            mounts::unmount_beneath(folder)?;
        }
        cgroups::remove().await?;
        machine::restore(layout)?;
        // Loop devices go by themselves once the kernel has let go of their mounts.
        shell::wait_for(Duration::from_secs(20), || async {
            let devices = volumes::loop_devices_beneath(layout.data()).await?;
            Ok(match devices.first() {
                None => Ok(()),
                Some(device) => Err(format!("{device} to be free")),
            })
        })
        .await?;
        shell::remove_folder(layout.run())
    }
}

fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the box needs root: its parts are mounts, networks and cgroups");
    }
    Ok(())
}

//! The images that the box itself needs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::image::{ImageSpec, Layer};

/// Holds a pod's namespaces open.
pub(crate) const PAUSE_IMAGE: &str = "aviary.dev/box/pause:1";
/// Resolves names in the box.
pub(crate) const DNS_IMAGE: &str = "aviary.dev/box/coredns:1";
/// A small system for looking around in pods; see [`busybox`].
pub const BUSYBOX_IMAGE: &str = "aviary.dev/box/busybox:1";

const BUSYBOX: &str = "/bin/busybox";

pub(crate) fn pause() -> Result<ImageSpec> {
    let program = Layer::new().file(BUSYBOX, 0o755, BUSYBOX);
    Ok(ImageSpec::new(PAUSE_IMAGE)
        .layer(program.libraries_of(Path::new(BUSYBOX))?)
        .entrypoint([BUSYBOX, "sleep", "infinity"]))
}

pub(crate) fn coredns(program: &Path) -> ImageSpec {
    ImageSpec::new(DNS_IMAGE)
        .layer(Layer::base().file("/coredns", 0o755, program))
        .entrypoint(["/coredns"])
}

/// A shell and the usual small programs, from Debian's busybox. The box always
/// has it.
pub fn busybox() -> Result<ImageSpec> {
    let listed = Command::new(BUSYBOX)
        .arg("--list")
        .output()
        .with_context(|| format!("ask {BUSYBOX} for its commands"))?;
    let names = String::from_utf8(listed.stdout).context("read busybox's commands")?;
    let programs = Layer::base()
        .file(BUSYBOX, 0o755, BUSYBOX)
        .libraries_of(Path::new(BUSYBOX))?;
    let programs = names
        .lines()
        .filter(|name| *name != "busybox")
        .fold(programs, |layer, name| {
            layer.link(format!("/bin/{name}"), BUSYBOX)
        });
    let mut spec = ImageSpec::new(BUSYBOX_IMAGE)
        .layer(programs)
        .entrypoint(["/bin/sh"]);
    spec.user = 0;
    spec.env = vec![("PATH".to_owned(), "/bin".to_owned())];
    Ok(spec)
}

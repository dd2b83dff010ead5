//! The images that the box itself needs.

use std::path::Path;

use super::image::{ImageSpec, Layer};

/// Holds a pod's namespaces open.
pub(crate) const PAUSE_IMAGE: &str = "aviary.dev/box/pause:1";
/// Resolves names in the box.
pub(crate) const DNS_IMAGE: &str = "aviary.dev/box/coredns:1";
/// A small system for looking around in pods; see [`busybox`].
pub const BUSYBOX_IMAGE: &str = "aviary.dev/box/busybox:1";

const BUSYBOX: &str = "/bin/busybox";

pub(crate) fn pause() -> ImageSpec {
    ImageSpec::new(PAUSE_IMAGE)
        .layer(Layer::new().file("/busybox", 0o755, BUSYBOX))
        .entrypoint(["/busybox", "sleep", "infinity"])
}

pub(crate) fn coredns(program: &Path) -> ImageSpec {
    ImageSpec::new(DNS_IMAGE)
        .layer(Layer::base().file("/coredns", 0o755, program))
        .entrypoint(["/coredns"])
}

/// A shell and the usual small programs, from Debian's static busybox.
pub fn busybox() -> ImageSpec {
    let commands = [
        "cat", "dd", "df", "echo", "env", "grep", "head", "httpd", "id", "ls", "mkdir", "mv", "nc",
        "nslookup", "ps", "rm", "seq", "sh", "sleep", "stat", "sync", "tail", "test", "touch",
        "true", "wget",
    ];
    let programs = Layer::base().file(BUSYBOX, 0o755, BUSYBOX);
    let programs = commands.iter().fold(programs, |layer, command| {
        layer.link(format!("/bin/{command}"), BUSYBOX)
    });
    let mut spec = ImageSpec::new(BUSYBOX_IMAGE)
        .layer(programs)
        .entrypoint(["/bin/sh"]);
    spec.user = 0;
    spec.env = vec![("PATH".to_owned(), "/bin".to_owned())];
    spec
}

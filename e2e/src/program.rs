//! The `aviary` program, built from this checkout: for users, for tests, or to record how it runs.
//!
//! What users get is laid out and inlined by a recorded profile (docs/decisions/0011): the code that a
//! request of the gateway runs through then lies together.

use crate::checkout::repository;
use crate::cluster::{Progress, shell};
use anyhow::{Context as _, Result, bail};
use sha2::Digest as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Chooses how it is built.
const VARIABLE: &str = "AVIARY_PROFILE";
/// What `.ci/profile` recorded.
const RECORDED: &str = "operator/aviary/gateway.profdata";

/// How it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As users get it: nine minutes on two cores the first time.
    Release,
    /// As it is there anyway when this program is built: quick to make, slower to run.
    Dev,
    /// To write down, when it ends, what of it ran how often.
    Instrumented,
}

/// Builds it, in the usual way unless the environment chooses another, and gives its path.
pub async fn build(usual: Build, progress: &Progress) -> Result<PathBuf> {
    let what = "Building the aviary binary (several minutes the first time)";
    progress.step(what, Build::chosen(usual)?.build()).await
}

impl Build {
    fn chosen(usual: Self) -> Result<Self> {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("") => Ok(usual),
            Ok("release") => Ok(Self::Release),
            Ok("dev") => Ok(Self::Dev),
            Ok("instrumented") => Ok(Self::Instrumented),
            Ok(other) => bail!("{VARIABLE}={other}: there are release, dev and instrumented"),
        }
    }

    async fn build(self) -> Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| repository().join("target"), PathBuf::from);
        match self {
            Self::Dev => {
                // One selection of packages, so that no dependency is built twice.
                cargo(&["--workspace", "--bins"], &target, None).await?;
                Ok(target.join("debug/aviary"))
            }
            Self::Release => {
                let mut flag = OsString::from("-Cprofile-use=");
                flag.push(recorded(&target)?);
                optimized(&target, flag).await
            }
            Self::Instrumented => {
                let target = target.join("instrumented");
                optimized(&target, "-Cprofile-generate".into()).await
            }
        }
    }
}

/// Both builds name the machine they are for: symbols have the names in one that they have in the other,
/// and what runs at build time is spared the flag.
async fn optimized(target: &Path, flag: OsString) -> Result<PathBuf> {
    let machine = host().await?;
    let arguments = [
        "--profile",
        "release",
        "--package",
        "aviary",
        "--target",
        &machine,
    ];
    cargo(&arguments, target, Some(flag)).await?;
    Ok(target.join(machine).join("release/aviary"))
}

async fn cargo(arguments: &[&str], target: &Path, flag: Option<OsString>) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet"])
        .args(arguments)
        .arg("--target-dir")
        .arg(target)
        .current_dir(repository());
    if let Some(flag) = flag {
        // Instead of RUSTFLAGS, in which no path may have a blank.
        command.env("CARGO_ENCODED_RUSTFLAGS", flag);
    }
    shell::output(command).await.map(drop)
}

/// The machine this is, as the compiler calls it.
async fn host() -> Result<String> {
    let mut command = Command::new("rustc");
    command.arg("-vV");
    let version = shell::output(command).await?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not say which machine this is")?;
    Ok(host.to_owned())
}

/// A copy of the recorded profile whose name changes with its content. One that is there is left alone:
/// cargo builds every crate anew when the file is younger than what it built.
fn recorded(target: &Path) -> Result<PathBuf> {
    let recorded = repository().join(RECORDED);
    let folder = target.join("profiles");
    let copy = folder.join(format!("{}.profdata", digest(&recorded)?));
    if !copy.exists() {
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let unfinished = copy.with_extension("unfinished");
        std::fs::copy(&recorded, &unfinished)
            .and_then(|_| std::fs::rename(&unfinished, &copy))
            .with_context(|| format!("write {}", copy.display()))?;
    }
    std::path::absolute(&copy).with_context(|| format!("find {}", copy.display()))
}

/// A short name for the content of a file.
pub(crate) fn digest(file: &Path) -> Result<String> {
    let content = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    Ok(hex::encode(&sha2::Sha256::digest(content)[..6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_profile_is_one_and_goes_by_its_content() {
        let target = tempfile::tempdir().unwrap();
        let copy = recorded(target.path()).unwrap();
        let age = |copy: &Path| std::fs::metadata(copy).unwrap().modified().unwrap();
        let first = age(&copy);
        assert_eq!(recorded(target.path()).unwrap(), copy);
        assert_eq!(age(&copy), first, "what was built with it is still good");
        assert!(copy.is_absolute());
        let content = std::fs::read(&copy).unwrap();
        // What LLVM's indexed profiles begin with.
        assert!(content.starts_with(b"\xfflprofi\x81"));
        let name = copy.file_stem().unwrap().to_str().unwrap();
        assert_eq!(name, digest(&copy).unwrap());
    }
}

//! Where libchdb is found, and how it gets there: one file from an npm package, kept in a cache.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release this crate is written and tested against. The C interface is
/// stable across the 26.7 series; access control relies on details of it.
pub const VERSION: &str = "26.7.3-stable.1";

/// Names the library outright, before the cache is looked at.
pub const LIBRARY_VARIABLE: &str = "AVIARY_LIBCHDB";

/// Moves the cache away from `~/.cache/aviary`.
pub const CACHE_VARIABLE: &str = "AVIARY_CACHE";

const FILE_NAME: &str = "libchdb.so";

/// Why there is no libchdb to load.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A path was given, and nothing is there.
    #[error("no libchdb at {path}, which {origin} names")]
    NotThere {
        /// The path that was given.
        path: PathBuf,
        /// What gave it.
        origin: &'static str,
    },
    /// Nothing was given, and the cache is empty.
    #[error(
        "libchdb {VERSION} is not in the cache ({path}): install the npm package {package} there, \
         or name a copy with --library or {LIBRARY_VARIABLE}"
    )]
    NotCached {
        /// Where the cache would hold it.
        path: PathBuf,
        /// The package that carries it.
        package: &'static str,
    },
    /// There is neither a home directory nor an explicit cache.
    #[error("no cache directory: set {CACHE_VARIABLE} or HOME")]
    NoCache,
    /// There is no build of libchdb for this machine.
    #[error("libchdb is not published for {architecture}")]
    Architecture {
        /// The machine's architecture.
        architecture: &'static str,
    },
    /// A file or directory of the cache could not be used.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `npm` could not be run or failed.
    #[error("npm could not fetch {package}: {reason}")]
    Npm {
        /// The package asked for.
        package: String,
        /// The exit status and the last lines it printed.
        reason: String,
    },
}

/// Finds libchdb: an explicit path first, then the environment variable
/// [`LIBRARY_VARIABLE`], then the cache.
pub fn locate(explicit: Option<&Path>) -> Result<PathBuf, LibraryError> {
    if let Some(path) = explicit {
        return existing(path, "--library");
    }
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        return existing(Path::new(&path), LIBRARY_VARIABLE);
    }
    let path = cached()?;
    if path.is_file() {
        return Ok(path);
    }
    Err(LibraryError::NotCached {
        path,
        package: package()?,
    })
}

/// Makes sure the cache holds libchdb, fetching it with `npm` where it does
/// not, and returns its path. Safe against several at once and against being
/// killed: the file appears whole, by a rename, and one process fetches while
/// the others wait.
pub fn install() -> Result<PathBuf, LibraryError> {
    let target = cached()?;
    if target.is_file() {
        return Ok(target);
    }
    let folder = target.parent().map_or_else(PathBuf::new, Path::to_owned);
    fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
    let lock_path = folder.join("install.lock");
    let lock = File::create(&lock_path).map_err(io_error("create", &lock_path))?;
    lock.lock().map_err(io_error("lock", &lock_path))?;
    if target.is_file() {
        return Ok(target);
    }

    let scratch = folder.join(format!("install.{}", std::process::id()));
    let fetched = fetch_with_npm(&scratch).and_then(|library| {
        fs::rename(&library, &target).map_err(io_error("move the library to", &target))
    });
    // What is left of a fetch, good or bad, is of no use.
    let _ = fs::remove_dir_all(&scratch);
    fetched.map(|()| target)
}

fn fetch_with_npm(scratch: &Path) -> Result<PathBuf, LibraryError> {
    let name = package()?;
    let package = format!("{name}@{VERSION}");
    fs::create_dir_all(scratch).map_err(io_error("create", scratch))?;
    let failed = |reason: String| LibraryError::Npm {
        package: package.clone(),
        reason,
    };
    let output = Command::new("npm")
        .args([
            "install",
            "--no-save",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
        ])
        .arg("--prefix")
        .arg(scratch)
        .arg(&package)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.trim().lines().rev().take(5).collect();
        return Err(failed(format!(
            "{}: {}",
            output.status,
            lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
        )));
    }
    let library = scratch.join("node_modules").join(name).join(FILE_NAME);
    if library.is_file() {
        Ok(library)
    } else {
        Err(failed(format!("the package holds no {FILE_NAME}")))
    }
}

fn existing(path: &Path, origin: &'static str) -> Result<PathBuf, LibraryError> {
    if path.is_file() {
        // One file must have one name, whatever folder a process runs in.
        return fs::canonicalize(path).map_err(io_error("resolve", path));
    }
    Err(LibraryError::NotThere {
        path: path.to_owned(),
        origin,
    })
}

fn cached() -> Result<PathBuf, LibraryError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    cache_path(
        variable(CACHE_VARIABLE).as_deref(),
        variable("HOME").as_deref(),
    )
    .ok_or(LibraryError::NoCache)
}

fn cache_path(cache: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    let root = match (cache, home) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(home).join(".cache").join("aviary"),
        (None, None) => return None,
    };
    Some(root.join("libchdb").join(VERSION).join(FILE_NAME))
}

fn package() -> Result<&'static str, LibraryError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("@chdb/lib-linux-x64-gnu"),
        "aarch64" => Ok("@chdb/lib-linux-arm64-gnu"),
        architecture => Err(LibraryError::Architecture { architecture }),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LibraryError {
    let path = path.to_owned();
    move |source| LibraryError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_variable_wins_over_home() {
        let path = |cache: Option<&str>, home: Option<&str>| {
            cache_path(cache.map(OsStr::new), home.map(OsStr::new))
        };
        assert_eq!(
            path(Some("/c"), Some("/h")),
            Some(format!("/c/libchdb/{VERSION}/libchdb.so").into())
        );
        assert_eq!(
            path(None, Some("/h")),
            Some(format!("/h/.cache/aviary/libchdb/{VERSION}/libchdb.so").into())
        );
        assert_eq!(path(None, None), None);
    }

    #[test]
    fn an_explicit_path_must_exist() {
        let error = locate(Some(Path::new("/nowhere/libchdb.so"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/libchdb.so"), "{error}");
    }
}

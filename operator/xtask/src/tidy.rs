//! The house rules as a check: which crate may use which, generated files are
//! fresh, every crate inherits the workspace's lints, files stay short, and pages
//! and alerts name only what is there.

use crate::{documentation, generate};
use anyhow::Context as _;
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// What each crate may use of the workspace; docs/ARCHITECTURE.md says why.
const LAYERS: &[(&str, &[&str])] = &[
    ("aviary-crds", &[]),
    ("aviary-sql", &[]),
    ("aviary-plan", &["aviary-crds", "aviary-sql"]),
    (
        "aviary-clickhouse",
        &["aviary-crds", "aviary-plan", "aviary-sql"],
    ),
    (
        "aviary-controller",
        &["aviary-crds", "aviary-plan", "aviary-clickhouse"],
    ),
    ("aviary-gateway", &["aviary-crds", "aviary-sql"]),
    ("aviary-engine", &[]),
    (
        "aviary-cli",
        &[
            "aviary-crds",
            "aviary-sql",
            "aviary-plan",
            "aviary-clickhouse",
        ],
    ),
    (
        "aviary",
        &[
            "aviary-controller",
            "aviary-gateway",
            "aviary-engine",
            "aviary-cli",
        ],
    ),
    ("aviary-e2e", &["aviary-crds"]),
    (
        "xtask",
        &[
            "aviary-crds",
            "aviary-sql",
            "aviary-controller",
            "aviary-gateway",
        ],
    ),
];

/// Longer files are hard to hold in the head.
const LONGEST_FILE: usize = 600;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// Every rule that is broken, one line each.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let metadata = metadata(root)?;
    layering(&metadata, &mut complaints);
    lints(&metadata, &mut complaints)?;
    generated(root, &mut complaints)?;
    source_files(root, &mut complaints)?;
    documentation::paths(root, &mut complaints)?;
    documentation::metrics(root, &mut complaints)?;
    documentation::decisions(root, &mut complaints)?;
    Ok(complaints)
}

fn metadata(root: &Path) -> anyhow::Result<Metadata> {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("read cargo metadata")
}

fn layering(metadata: &Metadata, complaints: &mut Vec<String>) {
    for package in &metadata.packages {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            complaints.push(format!("crate `{}` has no place in the layering: add it to LAYERS and docs/ARCHITECTURE.md", package.name));
            continue;
        };
        // Tests may reach further: they prove that the layers fit together.
        let used = package
            .dependencies
            .iter()
            .filter(|d| d.path.is_some() && d.kind.as_deref() != Some("dev"));
        for dependency in used.filter(|d| !allowed.contains(&d.name.as_str())) {
            complaints.push(format!(
                "`{}` must not use `{}`",
                package.name, dependency.name
            ));
        }
    }
}

/// Undocumented public items are a lint of the workspace; a crate that does not inherit the lints would escape it.
fn lints(metadata: &Metadata, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    for package in &metadata.packages {
        let manifest = std::fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("read {}", package.manifest_path))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            complaints.push(format!(
                "`{}` does not inherit the workspace's lints",
                package.name
            ));
        }
    }
    Ok(())
}

fn generated(root: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let files = generate::files()?;
    for folder in generate::FOLDERS {
        for name in tracked(root, folder)? {
            if !files.contains_key(Path::new(&name)) {
                complaints.push(format!(
                    "{name} is in a generated folder, but nothing generates it"
                ));
            }
        }
    }
    for (path, content) in files {
        if std::fs::read_to_string(root.join(&path)).ok().as_deref() != Some(&content) {
            complaints.push(format!(
                "{} is stale: run `cargo xtask generate`",
                path.display()
            ));
        }
    }
    Ok(())
}

/// The files that git knows, or would take in, and that match a pattern or are in a folder.
pub(crate) fn tracked(root: &Path, pattern: &str) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            pattern,
        ])
        .current_dir(root)
        .output()
        .context("run git ls-files")?;
    anyhow::ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).context("file names are not UTF-8")?;
    let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
    // What was removed and not committed yet is still listed.
    names.retain(|name| root.join(name).exists());
    Ok(names)
}

fn source_files(root: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    for name in tracked(root, "*.rs")? {
        let Ok(text) = std::fs::read_to_string(root.join(&name)) else {
            continue;
        };
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            complaints.push(format!(
                "{name} has {lines} lines, more than {LONGEST_FILE}: is it still one purpose?"
            ));
        }
        let opening = text
            .lines()
            .find(|line| !line.starts_with("#!"))
            .unwrap_or_default();
        if !opening.starts_with("//!") {
            complaints.push(format!(
                "{name} does not open with a `//!` sentence that says what it is for"
            ));
        }
    }
    Ok(())
}

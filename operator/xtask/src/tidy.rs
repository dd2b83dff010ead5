//! The house rules as a check: which crate may use which, no circles of modules
//! within a crate, a map that agrees with the code, generated files are fresh, every crate inherits the workspace's lints, files stay short, and pages
//! and alerts name only what is there.

use crate::tracked::tracked;
use crate::{circles, documentation, generate, map};
use anyhow::Context as _;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may use of the workspace; docs/ARCHITECTURE.md says why.
const LAYERS: &[(&str, &[&str])] = &[
    ("aviary-crds", &[]),
    ("aviary-sql", &[]),
    ("aviary-runtime", &[]),
    ("aviary-plan", &["aviary-crds", "aviary-sql"]),
    (
        "aviary-clickhouse",
        &["aviary-crds", "aviary-plan", "aviary-sql"],
    ),
    (
        "aviary-controller",
        &[
            "aviary-crds",
            "aviary-runtime",
            "aviary-plan",
            "aviary-clickhouse",
        ],
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
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

/// A crate of a package.
#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

impl Metadata {
    /// The folder of each package in the repository, and its name.
    fn folders(&self) -> Vec<(String, &str)> {
        let folder = |package: &Package| {
            let manifest = Path::new(&package.manifest_path);
            let folder = manifest.parent().unwrap_or(manifest);
            let folder = folder.strip_prefix(&self.workspace_root).unwrap_or(folder);
            folder.display().to_string()
        };
        let packages = self.packages.iter();
        packages
            .map(|package| (folder(package), package.name.as_str()))
            .collect()
    }
}

impl Package {
    /// The first file of each of its crates that is no test, benchmark or example.
    fn roots(&self) -> Vec<PathBuf> {
        let built = |target: &&Target| {
            target
                .kind
                .iter()
                .any(|kind| kind == "lib" || kind == "bin")
        };
        let targets = self.targets.iter().filter(built);
        targets.map(|target| target.src_path.clone()).collect()
    }
}

/// Every rule that is broken, one line each.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let metadata = metadata(root)?;
    layering(&metadata, &mut complaints);
    lints(&metadata, &mut complaints)?;
    for package in &metadata.packages {
        circles::check(
            &metadata.workspace_root,
            &package.name,
            &package.roots(),
            &mut complaints,
        )?;
    }
    map::check(root, &metadata.folders(), &mut complaints)?;
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

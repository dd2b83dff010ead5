//! The Go programs of the box, built from `e2e/tools/*/go.mod` into a cache that
//! every clone on the machine shares.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::layout::Layout;
use super::progress::Progress;
use super::shell;

/// The programs that one go.mod builds.
struct Toolset {
    folder: &'static str,
    /// The module whose version the programs are to report.
    module: &'static str,
    packages: &'static [&'static str],
    /// Linker variables, with `{version}`, `{major}` and `{minor}` of the module.
    variables: &'static [&'static str],
    /// What a first build takes on two cores.
    first_build: &'static str,
}

const TOOLSETS: &[Toolset] = &[
    Toolset {
        folder: "kubernetes",
        module: "k8s.io/kubernetes",
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
        ],
        variables: &[
            "k8s.io/component-base/version.gitVersion=v{version}",
            "k8s.io/component-base/version.gitMajor={major}",
            "k8s.io/component-base/version.gitMinor={minor}",
            "k8s.io/component-base/version.gitTreeState=clean",
        ],
        first_build: "5 minutes",
    },
    Toolset {
        folder: "coredns",
        module: "github.com/coredns/coredns",
        packages: &["github.com/coredns/coredns"],
        variables: &[],
        first_build: "2 minutes",
    },
    Toolset {
        folder: "helm",
        module: "helm.sh/helm/v3",
        packages: &["helm.sh/helm/v3/cmd/helm"],
        variables: &["helm.sh/helm/v3/internal/version.version=v{version}"],
        first_build: "1 minute",
    },
];

/// The path of a program such as `kubelet` or `helm`, built first when needed.
pub(crate) async fn tool(layout: &Layout, progress: &Progress, name: &str) -> Result<PathBuf> {
    let Some(toolset) = TOOLSETS.iter().find(|toolset| toolset.builds(name)) else {
        let known: Vec<_> = TOOLSETS.iter().flat_map(Toolset::programs).collect();
        bail!("no tool `{name}`: there are {}", known.join(", "));
    };
    let recipe = toolset.recipe()?;
    let folder = layout.cache().join("tools").join(recipe.folder_name());
    if !folder.exists() {
        let what = format!(
            "Building {} {} (the first time about {})",
            toolset.programs().collect::<Vec<_>>().join(", "),
            recipe.version,
            toolset.first_build,
        );
        progress.step(&what, recipe.build(&folder)).await?;
    }
    Ok(folder.join(name))
}

impl Toolset {
    fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.packages
            .iter()
            .map(|package| package.rsplit('/').next().unwrap_or(package))
    }

    fn builds(&self, name: &str) -> bool {
        self.programs().any(|program| program == name)
    }

    fn recipe(&self) -> Result<Recipe> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tools")
            .join(self.folder);
        let read = |name: &str| {
            let path = source.join(name);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let (modules, sums) = (read("go.mod")?, read("go.sum")?);
        let version = required_version(&modules, self.module)
            .with_context(|| format!("{}: no version of {}", source.display(), self.module))?;
        let arguments = build_arguments(self, &version);
        let mut hash = Sha256::new();
        for part in [&modules, &sums, &arguments.join(" ")] {
            hash.update(part);
        }
        Ok(Recipe {
            toolset_folder: self.folder,
            digest: hex::encode(&hash.finalize()[..8]),
            source,
            version,
            arguments,
        })
    }
}

/// All that decides what a build gives.
struct Recipe {
    toolset_folder: &'static str,
    digest: String,
    source: PathBuf,
    version: String,
    arguments: Vec<String>,
}

impl Recipe {
    fn folder_name(&self) -> String {
        format!("{}-{}-{}", self.toolset_folder, self.version, self.digest)
    }

    /// Build beside `folder` and move there when complete, so that a killed
    /// build is never taken for a finished one.
    async fn build(&self, folder: &Path) -> Result<()> {
        let lock_path = folder.with_added_extension("lock");
        if let Some(parent) = folder.parent() {
            shell::create_folder(parent)?;
        }
        let lock = File::create(&lock_path).context("open the lock of the build")?;
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
            .await?
            .context("lock the build")?;
        if !folder.exists() {
            self.build_alone(folder).await?;
        }
        drop(lock);
        Ok(())
    }

    async fn build_alone(&self, folder: &Path) -> Result<()> {
        let unfinished = folder.with_added_extension("unfinished");
        shell::remove_folder(&unfinished)?;
        shell::create_folder(&unfinished)?;
        let mut command = Command::new("nice");
        command
            .args(["-n", "5", "go"])
            .args(&self.arguments[..1])
            .arg("-o")
            .arg(&unfinished)
            .args(&self.arguments[1..])
            .current_dir(&self.source)
            .env("CGO_ENABLED", "0");
        let log = folder.with_added_extension("log");
        shell::logged(command, &log)
            .await
            .context("build Go tools (is a Go of at least the version in go.mod installed?)")?;
        fs::rename(&unfinished, folder).context("put the finished build in place")
    }
}

fn build_arguments(toolset: &Toolset, version: &str) -> Vec<String> {
    let mut numbers = version.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let mut linker = "-s -w".to_owned();
    for variable in toolset.variables {
        let value = variable
            .replace("{version}", version)
            .replace("{major}", major)
            .replace("{minor}", minor);
        linker.push_str(&format!(" -X {value}"));
    }
    let fixed = ["build", "-trimpath", "-buildvcs=false", "-ldflags", &linker];
    fixed
        .iter()
        .chain(toolset.packages)
        .map(|argument| (*argument).to_owned())
        .collect()
}

/// The version of a module in the text of a go.mod, without its `v`.
fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("require ").unwrap_or(line);
        let version = line.strip_prefix(module)?.strip_prefix(" v")?;
        version.split_whitespace().next().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_version_of_a_module() {
        let go_mod =
            "require (\n\ta.b/c/d v9.9.9\n\ta.b/c v1.2.3 // indirect\n)\nrequire e.f v0.1.0\n";
        assert_eq!(required_version(go_mod, "a.b/c").as_deref(), Some("1.2.3"));
        assert_eq!(required_version(go_mod, "e.f").as_deref(), Some("0.1.0"));
        assert_eq!(required_version(go_mod, "x.y"), None);
    }

    #[test]
    fn every_toolset_has_its_go_mod() {
        for toolset in TOOLSETS {
            let recipe = toolset.recipe().unwrap();
            assert!(recipe.version.contains('.'), "{}", recipe.version);
        }
    }
}

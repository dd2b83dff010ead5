//! Repository tasks: `generate` writes what is derived from the code, `tidy`
//! refuses what the house rules do not allow. Run as `cargo xtask <task>`.

mod circles;
mod documentation;
mod generate;
mod map;
mod modules;
mod rbac;
mod reference;
mod tidy;
mod tracked;

use clap::Parser;
use std::path::{Path, PathBuf};

/// Repository tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Write the CRD manifests, the chart's CRDs and RBAC, and the reference pages.
    Generate,
    /// Check the layering, circles of modules, the map, generated files, file lengths and lints;
    /// fails with a list.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Generate => generate::write(repository()),
        Task::Tidy => {
            let complaints = tidy::check(repository())?;
            anyhow::ensure!(
                complaints.is_empty(),
                "not tidy:\n- {}",
                complaints.join("\n- ")
            );
            eprintln!("tidy");
            Ok(())
        }
    }
}

/// The root of the repository.
fn repository() -> &'static Path {
    static ROOT: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .components()
            .collect()
    });
    &ROOT
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let complaints = super::tidy::check(super::repository()).unwrap();
        assert!(
            complaints.is_empty(),
            "not tidy:\n- {}",
            complaints.join("\n- ")
        );
    }
}

//! Applies the tenants' manifests as a user would.

use super::stage::Stage;
use super::tenants::Tenants;
use anyhow::{Context as _, Result};
use std::io::Write as _;
use tempfile::NamedTempFile;

/// All manifests in a file.
pub(crate) fn file_of(tenants: &Tenants) -> Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .context("make a file for the manifests")?;
    file.write_all(tenants.manifests().as_bytes())
        .context("write the manifests")?;
    Ok(file)
}

/// Applies them with kubectl.
pub(crate) async fn apply(stage: &Stage, file: &NamedTempFile) -> Result<()> {
    let path = file.path().to_string_lossy();
    stage
        .kubectl(&["apply", "--server-side", "-f", &path])
        .await
        .map(drop)
}

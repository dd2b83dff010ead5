//! How the box is, for people and for scripts.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;

use super::client::client;
use super::components::{STOP_AFTER_PODS, STOP_BEFORE_PODS};
use super::layout::Layout;
use super::{addons, process};

/// How the box is.
#[derive(Clone, Debug)]
pub struct Status {
    /// Each component and the pid it runs as.
    components: Vec<(String, Option<i32>)>,
    /// What keeps the cluster from being whole.
    missing: Option<String>,
    kubeconfig: PathBuf,
    audit_log: PathBuf,
}

impl Status {
    /// Whether everything runs and the cluster answers.
    pub fn is_up(&self) -> bool {
        self.missing.is_none() && self.components.iter().all(|(_, pid)| pid.is_some())
    }

    /// Whether nothing runs.
    pub fn is_down(&self) -> bool {
        self.components.iter().all(|(_, pid)| pid.is_none())
    }

    pub(super) async fn of(layout: &Layout) -> Result<Self> {
        let running = process::running(layout);
        let pid = |name: &str| {
            let main = running
                .iter()
                .find(|process| process.component == name && process.is_component());
            main.map(|process| process.pid)
        };
        let mut components: Vec<_> = STOP_AFTER_PODS
            .iter()
            .rev()
            .chain(STOP_BEFORE_PODS)
            .map(|name| ((*name).to_owned(), pid(name)))
            .collect();
        components.sort();
        let mut status = Self {
            components,
            missing: None,
            kubeconfig: layout.kubeconfig(),
            audit_log: layout.audit_log(),
        };
        if !status.is_down() {
            status.missing = match missing(layout).await {
                Ok(missing) => missing,
                Err(error) => Some(format!("the apiserver does not answer: {error:#}")),
            };
        }
        Ok(status)
    }
}

async fn missing(layout: &Layout) -> Result<Option<String>> {
    let client = client(&layout.kubeconfig()).await?;
    addons::api_is_ready(&client).await?;
    addons::missing(&client).await
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_down() {
            return writeln!(out, "down");
        }
        writeln!(out, "{}", if self.is_up() { "up" } else { "not whole" })?;
        for (name, pid) in &self.components {
            match pid {
                Some(pid) => writeln!(out, "  {name:<24} pid {pid}")?,
                None => writeln!(out, "  {name:<24} not running")?,
            }
        }
        if let Some(missing) = &self.missing {
            writeln!(out, "  {missing}")?;
        }
        writeln!(
            out,
            "  kubeconfig               {}",
            self.kubeconfig.display()
        )?;
        writeln!(
            out,
            "  audit log                {}",
            self.audit_log.display()
        )
    }
}

//! nginx in front of the engine, as somebody would set it up who wants nothing but to pass requests on.
//!
//! It runs in the network and in the cgroups of the gateway's pod: what the kernel does to bring packets from
//! pod to pod and to keep account of a pod counts as time of the process, and has to be the same for both.

use super::processes::{Cpu, Process};
use super::stage::{GatewayPod, Stage};
use crate::support::eventually;
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const PORT: u16 = 18123;

/// A running nginx of our own.
pub(crate) struct Nginx {
    child: Child,
    base: String,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it beside the gateway.
    pub(crate) async fn start(stage: &Stage, gateway: &GatewayPod) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for nginx")?;
        let file = folder.path().join("nginx.conf");
        let listen = format!("{}:{PORT}", gateway.address);
        std::fs::write(&file, configuration(folder.path(), &listen, &stage.engine))
            .context("write nginx's configuration")?;
        let mut network = std::ffi::OsString::from("--net=");
        network.push(gateway.process.network());
        // nsenter replaces itself by nginx, so the child's id is nginx's.
        let child = Command::new("nsenter")
            .arg(network)
            .args(["nginx", "-e"])
            .arg(folder.path().join("error.log"))
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start nginx")?;
        let nginx = Self {
            child,
            base: format!("http://{listen}"),
            _folder: folder,
        };
        nginx.wait_until_it_answers().await?;
        for process in nginx.processes() {
            process.join(gateway.process)?;
        }
        Ok(nginx)
    }

    /// Where it answers.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What of the CPU its processes have used so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let used = self.processes().map(Process::cpu);
        used.reduce(|sum, cpu| Ok(sum? + cpu?))
            .unwrap_or(Ok(Cpu::default()))
    }

    /// MiB of memory of its processes; pages that they share count for each.
    pub(crate) fn memory(&self) -> Result<f64> {
        self.processes().map(Process::memory).sum()
    }

    /// Ends it, workers included.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            kill_process(pid, Signal::TERM).context("end nginx")?;
        }
        self.child.wait().await.context("wait for nginx to end")?;
        Ok(())
    }

    fn processes(&self) -> impl Iterator<Item = Process> {
        self.child
            .id()
            .map(Process::family)
            .unwrap_or_default()
            .into_iter()
    }

    async fn wait_until_it_answers(&self) -> Result<()> {
        let url = format!("{}/ping", self.base);
        eventually("nginx", async || {
            Ok(match reqwest::get(&url).await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(answer.status().to_string()),
                Err(error) => Err(error.to_string()),
            })
        })
        .await
    }
}

/// Keep-alive on both sides, no log, otherwise nginx's defaults.
fn configuration(folder: &Path, listen: &str, engine: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 10000000;
  upstream engine {{
    server {engine};
    keepalive 32;
    keepalive_requests 10000000;
  }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

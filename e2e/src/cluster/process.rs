//! Starting, finding and ending the box's processes.
//!
//! A process of the box carries the box's run folder, its component and a hash
//! of how it was started in its environment. That is how it is found again, so
//! there is no pid file that could be stale or name a recycled pid, and nothing
//! is lost when `up` is killed between starting a process and noting it. Signals
//! go through a pidfd that was opened before the environment was checked.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::layout::Layout;
use super::shell;

const BOX_VARIABLE: &str = "AVIARY_BOX";
const COMPONENT_VARIABLE: &str = "AVIARY_BOX_COMPONENT";
const IDENTITY_VARIABLE: &str = "AVIARY_BOX_IDENTITY";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which network a component lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// The box's own namespace.
    Box,
    /// The machine's.
    Machine,
}

/// A program that `up` keeps running.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Configuration it reads at start; a change of them restarts it.
    pub(crate) files: Vec<(PathBuf, String)>,
    pub(crate) network: Network,
}

impl Component {
    /// Changes whenever a running process would differ from one started now.
    fn identity(&self) -> Result<String> {
        let program = fs::metadata(&self.program)
            .with_context(|| format!("look at {}", self.program.display()))?;
        let mut hash = Sha256::new();
        hash.update(format!(
            "{} {:?} {:?} {} {}",
            self.program.display(),
            self.arguments,
            self.network,
            program.size(),
            program.mtime_nsec() + program.mtime() * 1_000_000_000,
        ));
        for (path, content) in &self.files {
            hash.update(format!("{} {content}", path.display()));
        }
        Ok(hex::encode(&hash.finalize()[..12]))
    }

    fn program_name(&self) -> &OsStr {
        self.program.file_name().unwrap_or_default()
    }
}

/// A running process of the box.
#[derive(Clone, Debug)]
pub(crate) struct BoxProcess {
    pub(crate) pid: i32,
    pub(crate) component: String,
    identity: String,
    executable: PathBuf,
}

impl BoxProcess {
    /// Whether it is the component itself and not something the component started.
    pub(crate) fn is_main_of(&self, component: &str, program: &OsStr) -> bool {
        self.component == component && self.executable.file_name() == Some(program)
    }

    /// Whether it is a component and not something that one started, such as a
    /// shim of containerd: those carry the same environment.
    pub(crate) fn is_component(&self) -> bool {
        let program = match self.component.as_str() {
            "provisioner" => "aviary-e2e",
            name => name,
        };
        self.is_main_of(&self.component, OsStr::new(program))
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "process {} ({}, {})",
            self.pid,
            self.component,
            self.executable.display()
        )
    }
}

/// Start `component` unless it runs already as it should. True when it was started.
pub(crate) async fn ensure(layout: &Layout, component: &Component) -> Result<bool> {
    let identity = component.identity()?;
    let (current, outdated): (Vec<_>, Vec<_>) = running(layout)
        .into_iter()
        .filter(|process| process.is_main_of(component.name, component.program_name()))
        .partition(|process| process.identity == identity);
    if !current.is_empty() && outdated.is_empty() {
        return Ok(false);
    }
    let strays: Vec<_> = current.into_iter().chain(outdated).collect();
    end(layout, &strays, Duration::from_secs(10)).await?;
    start(layout, component, &identity).await?;
    Ok(true)
}

/// Fail with the last lines of its log when a component no longer runs.
pub(crate) fn check_alive(layout: &Layout, components: &[&Component]) -> Result<()> {
    let processes = running(layout);
    for component in components {
        let alive = processes
            .iter()
            .any(|process| process.is_main_of(component.name, component.program_name()));
        if !alive {
            let log = log_file(layout, component.name);
            bail!("{} ended; {}", component.name, shell::tail(&log, 20));
        }
    }
    Ok(())
}

/// Every process of this box, whoever in it started it.
pub(crate) fn running(layout: &Layout) -> Vec<BoxProcess> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| read_process(layout, pid))
        .collect()
}

/// Ask processes to end, and after `grace` make them.
pub(crate) async fn end(layout: &Layout, processes: &[BoxProcess], grace: Duration) -> Result<()> {
    for (signal, patience) in [
        (Signal::TERM, grace),
        (Signal::KILL, Duration::from_secs(20)),
    ] {
        let alive = still_running(layout, processes);
        if alive.is_empty() {
            return Ok(());
        }
        for process in &alive {
            send(layout, process, signal)?;
        }
        let ended = shell::wait_for(patience, || async {
            let alive = still_running(layout, processes);
            Ok(match alive.first() {
                None => Ok(()),
                Some(first) => Err(format!("{} to end", first.describe())),
            })
        })
        .await;
        if signal == Signal::KILL {
            ended?;
        }
    }
    Ok(())
}

/// Send a signal to a process of which only the pid is known to be ours.
/// A process that is gone already is no error.
pub(crate) fn signal_pid(pid: i32, signal: Signal) -> Result<()> {
    match open(pid)? {
        Some(handle) => deliver(&handle, pid, signal),
        None => Ok(()),
    }
}

pub(crate) fn log_file(layout: &Layout, component: &str) -> PathBuf {
    layout.logs().join(format!("{component}.log"))
}

async fn start(layout: &Layout, component: &Component, identity: &str) -> Result<()> {
    for (path, content) in &component.files {
        shell::write(path, content)?;
    }
    let log = log_file(layout, component.name);
    let output = fresh_log(&log)?;
    let mut child = command(layout, component)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", layout.data())
        .env(BOX_VARIABLE, layout.run())
        .env(COMPONENT_VARIABLE, component.name)
        .env(IDENTITY_VARIABLE, identity)
        .current_dir(layout.data())
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("share the log file")?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("start {}", component.program.display()))?;
    // nsenter and setsid replace themselves by the program, which is then found.
    shell::wait_for(Duration::from_secs(10), || {
        let ended = child.try_wait();
        let found = running(layout)
            .iter()
            .any(|process| process.is_main_of(component.name, component.program_name()));
        let log = &log;
        async move {
            match ended.context("look after the process")? {
                Some(status) => bail!("ended with {status}; {}", shell::tail(log, 20)),
                None if found => Ok(Ok(())),
                None => Ok(Err("the program to run".to_owned())),
            }
        }
    })
    .await
}

/// `setsid` puts the process into a session of its own, out of reach of the
/// terminal's signals.
fn command(layout: &Layout, component: &Component) -> Command {
    let mut command = match component.network {
        Network::Machine => Command::new("setsid"),
        Network::Box => {
            let mut command = Command::new("nsenter");
            let mut namespace = std::ffi::OsString::from("--net=");
            namespace.push(layout.network_namespace());
            command.arg(namespace).arg("setsid");
            command
        }
    };
    command.arg(&component.program).args(&component.arguments);
    command
}

/// An empty log; the one before is kept beside it.
fn fresh_log(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        shell::create_folder(folder)?;
    }
    if log.exists() {
        fs::rename(log, log.with_extension("log.previous")).context("put the old log aside")?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {}", log.display()))
}

fn still_running(layout: &Layout, processes: &[BoxProcess]) -> Vec<BoxProcess> {
    processes
        .iter()
        .filter(|process| is_same(layout, process))
        .cloned()
        .collect()
}

fn is_same(layout: &Layout, process: &BoxProcess) -> bool {
    read_process(layout, process.pid)
        .is_some_and(|now| now.component == process.component && now.identity == process.identity)
}

fn send(layout: &Layout, process: &BoxProcess, signal: Signal) -> Result<()> {
    match open(process.pid)? {
        // Checked after opening: from here on the handle means this very process.
        Some(handle) if is_same(layout, process) => deliver(&handle, process.pid, signal),
        _ => Ok(()),
    }
}

fn open(pid: i32) -> Result<Option<OwnedFd>> {
    let Some(raw) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(handle)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("open process {pid}")),
    }
}

fn deliver(handle: &OwnedFd, pid: i32, signal: Signal) -> Result<()> {
    match pidfd_send_signal(handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("signal process {pid}")),
    }
}

/// A zombie's environment is empty, so a process that has ended is not found.
fn read_process(layout: &Layout, pid: i32) -> Option<BoxProcess> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let environment = fs::read(folder.join("environ")).ok()?;
    let value = |name: &str| {
        environment.split(|byte| *byte == 0).find_map(|variable| {
            let rest = variable.strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        })
    };
    if value(BOX_VARIABLE)? != layout.run().as_os_str().as_bytes() {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(BoxProcess {
        pid,
        component: text(value(COMPONENT_VARIABLE)?),
        identity: text(value(IDENTITY_VARIABLE)?),
        executable: executable(&folder)?,
    })
}

/// The kernel marks a program whose file was replaced, as a new build does.
fn executable(folder: &Path) -> Option<PathBuf> {
    let link = fs::read_link(folder.join("exe")).ok()?;
    let bytes = link.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

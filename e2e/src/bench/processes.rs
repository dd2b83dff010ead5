//! CPU time and memory of processes, from /proc.

use anyhow::{Context as _, Result};
use rustix::process::Pid;
use std::fs;
use std::ops::{Add, Sub};
use std::path::{Path, PathBuf};

/// The unit of times in /proc, which is part of Linux's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
}

/// Seconds of CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    /// In the program itself.
    pub(crate) user: f64,
    /// In the kernel on its behalf.
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            user: self.user - other.user,
            system: self.system - other.system,
        }
    }
}

impl Process {
    /// The process with this id and its children.
    pub(crate) fn family(pid: u32) -> Vec<Self> {
        all()
            .filter(|process| {
                process.pid == pid
                    || process
                        .read("stat")
                        .ok()
                        .and_then(|stat| parent(&stat))
                        .is_some_and(|parent| parent == pid)
            })
            .collect()
    }

    /// What of the CPU it has used so far.
    pub(crate) fn cpu(self) -> Result<Cpu> {
        let stat = self.read("stat")?;
        cpu(&stat).with_context(|| format!("/proc/{}/stat is not as expected", self.pid))
    }

    /// MiB of memory it has now.
    pub(crate) fn memory(self) -> Result<f64> {
        self.status("VmRSS")
    }

    /// The most MiB of memory it had since [`Process::forget_peak`].
    pub(crate) fn peak_memory(self) -> Result<f64> {
        self.status("VmHWM")
    }

    /// Lets the peak begin anew.
    pub(crate) fn forget_peak(self) -> Result<()> {
        let path = self.path("clear_refs");
        fs::write(&path, "5").with_context(|| format!("write {}", path.display()))
    }

    /// The network it is in.
    pub(crate) fn network(self) -> PathBuf {
        self.path("ns/net")
    }

    /// Moves it into the cgroups of another.
    pub(crate) fn join(self, other: Self) -> Result<()> {
        for folder in cgroups(&other.read("cgroup")?) {
            let file = folder.join("cgroup.procs");
            fs::write(&file, self.pid.to_string())
                .with_context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    fn status(self, field: &str) -> Result<f64> {
        let status = self.read("status")?;
        mebibytes(&status, field).with_context(|| format!("/proc/{}/status: {field}", self.pid))
    }

    fn read(self, file: &str) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }
}

impl From<Pid> for Process {
    fn from(pid: Pid) -> Self {
        Self {
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
        }
    }
}

fn all() -> impl Iterator<Item = Process> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(|pid| Process { pid })
}

/// The folders of the cgroups in `/proc/<pid>/cgroup`, those of version 1 and the one of version 2.
fn cgroups(text: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let folder = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let hierarchy = match controllers.strip_prefix("name=").unwrap_or(controllers) {
            "" if root.join("unified").exists() => root.join("unified"),
            "" => root.to_owned(),
            controllers => root.join(controllers),
        };
        Some(hierarchy.join(path.trim_start_matches('/')))
    };
    text.lines().filter_map(folder).collect()
}

/// The fields after the name, which may hold spaces and parentheses itself.
fn fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split_ascii_whitespace().collect())
}

fn parent(stat: &str) -> Option<u32> {
    fields(stat)?.get(1)?.parse().ok()
}

fn cpu(stat: &str) -> Option<Cpu> {
    let fields = fields(stat)?;
    let seconds =
        |index: usize| Some(fields.get(index)?.parse::<u64>().ok()? as f64 / TICKS_PER_SECOND);
    Some(Cpu {
        user: seconds(11)?,
        system: seconds(12)?,
    })
}

fn mebibytes(status: &str, field: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_parent_of_a_process_with_an_odd_name() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 25 5 6 20 0 1 0 100 1 1";
        assert_eq!(parent(stat), Some(7));
        let used = cpu(stat).unwrap();
        assert!((used.user - 1.5).abs() < 1e-9 && (used.system - 0.25).abs() < 1e-9);
        assert!((used.total() - 1.75).abs() < 1e-9);
        assert_eq!(cpu("42 (cut"), None);
    }

    #[test]
    fn memory_in_mebibytes() {
        let status = "Name:\taviary\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert!((mebibytes(status, "VmHWM").unwrap() - 20.0).abs() < 1e-9);
        assert!((mebibytes(status, "VmRSS").unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(mebibytes(status, "Vm"), None);
    }

    #[test]
    fn cgroups_of_both_versions() {
        let found = cgroups("4:memory:/box/pod\n2:cpu,cpuacct:/box\n9:name=systemd:/\n");
        let expected = ["memory/box/pod", "cpu,cpuacct/box", "systemd/"];
        assert_eq!(
            found,
            expected.map(|path| Path::new("/sys/fs/cgroup").join(path))
        );
        assert!(cgroups("0::/box/pod")[0].ends_with("box/pod"));
    }

    #[test]
    fn this_process_is_found_and_uses_cpu() {
        let own = Process {
            pid: std::process::id(),
        };
        assert!(Process::family(std::process::id()).contains(&own));
        assert!(own.memory().unwrap() > 0.0);
        assert!(own.cpu().is_ok());
    }
}

//! Running the machine's programs, and waiting for what they bring about.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const POLL: Duration = Duration::from_millis(50);

/// Run a program to its end and return what it printed; its error output
/// becomes the error.
pub(crate) async fn run<I, S>(program: &str, arguments: I) -> Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    output(command).await
}

/// Run a prepared command as [`run`] does.
pub async fn output(mut command: Command) -> Result<String> {
    let line = describe(&command);
    let finished = command.output().await;
    answer(&line, finished.with_context(|| format!("start `{line}`"))?)
}

/// Run a prepared command as [`run`] does, with `input` as its standard input.
pub async fn fed(mut command: Command, input: impl AsRef<[u8]>) -> Result<String> {
    let line = describe(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{line}`"))?;
    let mut stdin = child.stdin.take().context("reach its standard input")?;
    let written = stdin.write_all(input.as_ref()).await;
    drop(stdin);
    let finished = child.wait_with_output().await;
    // A broken pipe is only what follows from the program's own complaint.
    let answer = answer(
        &line,
        finished.with_context(|| format!("wait for `{line}`"))?,
    )?;
    written.with_context(|| format!("write to `{line}`"))?;
    Ok(answer)
}

/// What a program printed. One that failed may have said why on either of its outputs.
fn answer(line: &str, finished: Output) -> Result<String> {
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    if !finished.status.success() {
        let complaint = String::from_utf8_lossy(&finished.stderr);
        let complaint = format!("{}\n{}", complaint.trim(), text.trim());
        bail!("`{line}`: {}: {}", finished.status, complaint.trim());
    }
    Ok(text)
}

/// Run a talkative command with its output in a log file, whose last lines
/// become the error.
pub(crate) async fn logged(mut command: Command, log: &Path) -> Result<()> {
    let line = describe(&command);
    let file = append(log)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("share the log file")?)
        .stderr(file)
        .status()
        .await
        .with_context(|| format!("start `{line}`"))?;
    if !status.success() {
        bail!("`{line}`: {status}\n{}", tail(log, 20));
    }
    Ok(())
}

/// Ask until `condition` answers with a value; what it still misses becomes
/// the error when time is up.
pub(crate) async fn wait_for<T, F, Fut>(deadline: Duration, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Result<T, String>>>,
{
    let started = Instant::now();
    loop {
        match condition().await? {
            Ok(value) => return Ok(value),
            Err(missing) if started.elapsed() > deadline => {
                bail!("not within {} s: {missing}", deadline.as_secs())
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let content = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    format!("last lines of {}:\n  {}", log.display(), last.join("\n  "))
}

/// Write a file and the folders above it.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        create_folder(parent)?;
    }
    std::fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

/// Remove a file if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    absent_is_fine(std::fs::remove_file(path)).with_context(|| format!("remove {}", path.display()))
}

/// Remove a folder and all in it if it is there.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    absent_is_fine(std::fs::remove_dir_all(path))
        .with_context(|| format!("remove {}", path.display()))
}

fn absent_is_fine(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Make a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))
}

fn append(log: &Path) -> Result<File> {
    if let Some(parent) = log.parent() {
        create_folder(parent)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {}", log.display()))
}

fn describe(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

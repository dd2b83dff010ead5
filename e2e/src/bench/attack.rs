//! Who attack a gateway in the benchmark: a process of their own, so that nobody who is measured waits for their threads.

use anyhow::{Context as _, Result};
use futures::future::join_all;
use rustix::process::{Pid, setpriority_process};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// How long each attack goes on.
pub(crate) const DURATION: Duration = Duration::from_secs(10);
/// Before an attacker tries again that was cut off: with 500 of them, a flood of connections would be another
/// attack than what they send.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two bytes of an upload that trickles.
const TRICKLE: Duration = Duration::from_millis(200);
/// Attackers have machines of their own, and here the same cores as the gateway: they run when nobody else wants to.
const LOWEST_PRIORITY: i32 = 19;
/// The environment's variable with the token: arguments can be read by everybody.
const TOKEN: &str = "AVIARY_ATTACK_TOKEN";
/// The subcommand of `aviary-e2e` that attacks.
const SUBCOMMAND: &str = "attack";

/// One kind of attack on the gateway at this address.
#[derive(clap::Args, Clone, Debug)]
pub struct Attack {
    /// What to send
    #[arg(value_enum)]
    kind: Kind,
    /// The gateway, without a port
    address: String,
    /// The attacker's own token
    #[arg(long, env = TOKEN, hide_env_values = true)]
    token: String,
}

/// What attackers send.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CompressedUploads,
    EmptyRows,
    UnfinishedHeads,
    TricklingUploads,
    WrongTokens,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        self.argument().replace('-', " ")
    }

    fn argument(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn clients(self) -> usize {
        match self {
            Self::CompressedUploads => 60,
            Self::EmptyRows => 8,
            Self::UnfinishedHeads => 500,
            Self::TricklingUploads => 96,
            Self::WrongTokens => 16,
        }
    }
}

impl Attack {
    pub(crate) fn new(kind: Kind, address: &str, token: &str) -> Self {
        Self {
            kind,
            address: address.to_owned(),
            token: token.to_owned(),
        }
    }

    /// Has a process of its own attack, until it is done.
    pub(crate) async fn by_others(&self) -> Result<()> {
        let program = std::env::current_exe().context("find this program")?;
        let attackers = Command::new(program)
            .args([SUBCOMMAND, &self.kind.argument(), &self.address])
            .env(TOKEN, &self.token)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .status();
        let status = attackers.await.context("start the attackers")?;
        anyhow::ensure!(status.success(), "the attackers ended with {status}");
        Ok(())
    }
}

/// Attacks, with as many clients as the attack needs.
pub async fn run(attack: Attack) -> Result<()> {
    step_back()?;
    let arms = Arms {
        newlines: newlines()?,
        empty_rows: empty_rows()?,
        attack,
    };
    let clients = (0..arms.attack.kind.clients()).map(|number| arms.repeat(number));
    // They do not end by themselves.
    let _ = timeout(DURATION, join_all(clients)).await;
    Ok(())
}

/// Takes the lowest priority. Where Linux groups processes by session, priorities count within a
/// session only, and its group has one of its own.
fn step_back() -> Result<()> {
    rustix::process::setsid().context("begin a session")?;
    let group = Path::new("/proc/self/autogroup");
    if group.exists() {
        let priority = LOWEST_PRIORITY.to_string();
        std::fs::write(group, priority).context("write /proc/self/autogroup")?;
    }
    let threads = std::fs::read_dir("/proc/self/task").context("list the threads")?;
    for thread in threads {
        let name = thread.context("list the threads")?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        let id = id.and_then(Pid::from_raw);
        setpriority_process(id, LOWEST_PRIORITY).context("take the lowest priority")?;
    }
    Ok(())
}

/// The attack, and what it sends, made once.
struct Arms {
    attack: Attack,
    newlines: Vec<u8>,
    empty_rows: Vec<u8>,
}

impl Arms {
    /// One attacker, who begins anew when he is refused or cut off.
    async fn repeat(&self, number: usize) {
        for round in 0_usize.. {
            // What becomes of an attack is the gateway's to say, and seen in the figures.
            let _ = self.once(number, round).await;
            if !matches!(self.attack.kind, Kind::EmptyRows | Kind::WrongTokens) {
                sleep(PAUSE).await;
            }
        }
    }

    async fn once(&self, number: usize, round: usize) -> Result<()> {
        let mut client = TcpStream::connect((self.attack.address.as_str(), 8080)).await?;
        let token = &self.attack.token;
        let upload = |headers: &str| {
            format!(
                "POST /v0/events?name=events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
            )
        };
        match self.attack.kind {
            Kind::CompressedUploads => {
                let head = upload("Content-Encoding: zstd\r\nContent-Length: 1000000\r\n");
                client.write_all(head.as_bytes()).await?;
                client.write_all(&self.newlines).await?;
            }
            Kind::EmptyRows => {
                let rows = &self.empty_rows;
                let length = format!(
                    "Content-Encoding: gzip\r\nContent-Length: {}\r\n",
                    rows.len()
                );
                client.write_all(upload(&length).as_bytes()).await?;
                client.write_all(rows).await?;
            }
            Kind::UnfinishedHeads => {
                let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(120 * 1024));
                client.write_all(head.as_bytes()).await?;
            }
            Kind::TricklingUploads => {
                let head = upload("Content-Length: 100000000\r\n");
                client.write_all(head.as_bytes()).await?;
                client.write_all("x".repeat(100_000).as_bytes()).await?;
                loop {
                    client.write_all(b"x").await?;
                    sleep(TRICKLE).await;
                }
            }
            Kind::WrongTokens => {
                let head = format!(
                    "GET /v0/pipes HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer wrong-{number}-{round}\r\nConnection: close\r\n\r\n"
                );
                client.write_all(head.as_bytes()).await?;
            }
        }
        // Until it is answered or cut off.
        client.read(&mut [0; 1024]).await.map(drop)?;
        Ok(())
    }
}

/// A few hundred bytes of zstd that are 8 MiB of newlines, with a window for all of them, and no end.
fn newlines() -> Result<Vec<u8>> {
    let mut packing = zstd::Encoder::new(Vec::new(), 1)?;
    packing.window_log(23)?;
    packing.write_all(&vec![b'\n'; 8 << 20])?;
    packing.flush()?;
    Ok(std::mem::take(packing.get_mut()))
}

/// Some kilobytes of gzip that are ten million bytes of empty objects.
fn empty_rows() -> Result<Vec<u8>> {
    let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packing.write_all("{}\n".repeat(3_333_333).as_bytes())?;
    Ok(packing.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_small() {
        assert!(newlines().unwrap().len() < 10_000);
        assert!(empty_rows().unwrap().len() < 100_000);
    }
}

//! wrk, the load generator: one round against one address, and what it reports.

use super::statistics::median;
use crate::cluster::shell;
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

/// A request to send over and over.
pub(crate) struct Load {
    url: String,
    script: PathBuf,
    _folder: TempDir,
}

/// What one round found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Round {
    /// Answers.
    pub(crate) requests: f64,
    /// Answers per second.
    pub(crate) rate: f64,
    /// Milliseconds that half of the answers took at most.
    pub(crate) p50: f64,
    /// Milliseconds that 99 of 100 answers took at most.
    pub(crate) p99: f64,
}

/// A request, and the rounds in which it was sent so far.
pub(crate) struct Series {
    pub(crate) load: Load,
    rounds: Vec<Round>,
}

impl Series {
    pub(crate) fn new(load: Load) -> Self {
        Self {
            load,
            rounds: Vec::new(),
        }
    }

    /// Sends it for one more round.
    pub(crate) async fn add_round(&mut self, connections: usize, duration: Duration) -> Result<()> {
        self.rounds
            .push(self.load.round(connections, duration).await?);
        Ok(())
    }

    /// The median of a figure over the rounds.
    pub(crate) fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(&self.rounds.iter().map(of).collect::<Vec<_>>())
    }

    /// Answers in all rounds.
    pub(crate) fn requests(&self) -> f64 {
        self.rounds.iter().map(|round| round.requests).sum()
    }
}

impl Load {
    /// GET of `url` with headers. They hold secrets, so they go in by a file and not by arguments.
    pub(crate) fn new(url: String, headers: &[(&str, &str)]) -> Result<Self> {
        Self::of(url, headers, Vec::new())
    }

    /// POST of a body, which has no `]==]` in it.
    pub(crate) fn post(url: String, headers: &[(&str, &str)], body: &str) -> Result<Self> {
        // Lua drops a line break that comes first.
        let body = format!("wrk.method = [[POST]]\nwrk.body = [==[\n{body}]==]");
        Self::of(url, headers, vec![body])
    }

    fn of(url: String, headers: &[(&str, &str)], mut lines: Vec<String>) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for wrk's script")?;
        let script = folder.path().join("request.lua");
        let headers = headers.iter();
        lines.extend(
            headers.map(|(name, value)| format!("wrk.headers[ [[{name}]] ] = [[{value}]]")),
        );
        std::fs::write(&script, lines.join("\n")).context("write wrk's script")?;
        Ok(Self {
            url,
            script,
            _folder: folder,
        })
    }

    /// Sends it over so many connections, as often as answers come for this long.
    pub(crate) async fn round(&self, connections: usize, duration: Duration) -> Result<Round> {
        let mut command = Command::new("wrk");
        command
            .args(["--threads", "1", "--latency", "--timeout", "10s"])
            .args(["--connections", &connections.to_string()])
            .args(["--duration", &format!("{}s", duration.as_secs())])
            .arg("--script")
            .arg(&self.script)
            .arg(&self.url);
        let output = shell::output(command).await?;
        parse(&output).with_context(|| format!("{}: wrk printed\n{output}", self.url))
    }
}

fn parse(output: &str) -> Result<Round> {
    let lines = || output.lines().map(str::trim);
    for bad in ["Non-2xx", "Socket errors"] {
        ensure!(
            !lines().any(|line| line.starts_with(bad)),
            "not every request got its answer"
        );
    }
    let after = |start: &str| lines().find_map(|line| line.strip_prefix(start).map(str::trim));
    let latency = |share| after(share).and_then(milliseconds);
    let rate = after("Requests/sec:").and_then(|text| text.parse().ok());
    let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok());
    Ok(Round {
        requests: requests.context("no number of requests")?,
        rate: rate.context("no rate")?,
        p50: latency("50%").context("no p50")?,
        p99: latency("99%").context("no p99")?,
    })
}

fn milliseconds(text: &str) -> Option<f64> {
    let unit_start = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_start);
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
Running 3s test @ http://10.96.0.17/v0/pipes/one.json?n=7
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.61ms    1.02ms  19.53ms   83.11%
    Req/Sec     6.17k   402.11     6.80k    73.33%
  Latency Distribution
     50%    2.44ms
     75%    2.99ms
     90%  730.00us
     99%    1.10s 
  18427 requests in 3.00s, 5.23MB read
Requests/sec:   6139.80
Transfer/sec:      1.74MB
";

    #[test]
    fn what_wrk_prints_is_read() {
        let round = parse(OUTPUT).unwrap();
        let expected = Round {
            requests: 18_427.0,
            rate: 6_139.8,
            p50: 2.44,
            p99: 1_100.0,
        };
        assert_eq!(round, expected);
        assert_eq!(milliseconds("730.00us").map(f64::round), Some(1.0));
    }

    #[test]
    fn a_round_with_errors_does_not_count() {
        let refused = format!("{OUTPUT}  Non-2xx or 3xx responses: 3\n");
        let lost = format!("{OUTPUT}  Socket errors: connect 0, read 1, write 0, timeout 0\n");
        for output in [
            refused.as_str(),
            lost.as_str(),
            "",
            "wrk: unable to connect",
        ] {
            assert!(parse(output).is_err(), "{output}");
        }
    }
}

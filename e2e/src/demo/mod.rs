//! `make demo`: the whole path, from `kubectl apply` to `curl`, with every part real.

pub mod dataset;

use crate::checkout::repository;
use crate::cluster::{Layout, Progress, Target, shell};
use crate::product::{self, kubectl};
use crate::program::Build;
use crate::support::{ClickHouse, Gateway};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::process::Command;

const NAMESPACE: &str = "demo";

/// Rows and seconds of one file's way in.
struct Loaded {
    data_source: &'static str,
    rows_in: u64,
    quarantined: u64,
    took: Duration,
}

/// Starts what is not running, loads the flights, asks the endpoints, and says what to try next.
pub async fn run(progress: &Progress) -> Result<()> {
    let target = Target::from_environment();
    target.ensure_up(progress).await?;
    // To look at, it need not be fast: optimising takes longer than all of the rest.
    product::install(&target, Build::Dev, progress).await?;
    let files = progress
        .step("Fetching the flights of 2013", async {
            dataset::folder(Layout::from_environment().cache())
        })
        .await?;
    progress
        .step("Applying config/samples/flights", apply(&target))
        .await?;

    let gateway = Gateway::shared(&target.client().await?).await?;
    let gateway = gateway.base();
    let loader = token(&target, "loader").await?;
    let reader = token(&target, "reader").await?;
    progress
        .step(
            "Emptying the tables of an earlier run",
            empty_tables(&target),
        )
        .await?;
    let mut loaded = Vec::new();
    for file in &dataset::FILES {
        let what = format!("Sending {}.csv ({} rows)", file.data_source, file.rows);
        loaded.push(
            progress
                .step(&what, load(gateway, &loader, &files, file))
                .await?,
        );
    }
    report_rows(&loaded);
    report_answers(gateway, &reader).await?;
    report_next(&target, gateway);
    Ok(())
}

async fn apply(target: &Target) -> Result<()> {
    let folder = repository().join("config/samples/flights");
    kubectl(target, &["apply", "-k", &folder.to_string_lossy()]).await?;
    kubectl(
        target,
        &[
            "-n",
            NAMESPACE,
            "wait",
            "--for=condition=Ready",
            "--timeout=120s",
            "--all",
            "workspaces,datasources,pipes,accesstokens",
        ],
    )
    .await
    .map(drop)
}

/// The demo can be run again: rows of the last time go first, so that the counts are of this run.
async fn empty_tables(target: &Target) -> Result<()> {
    let clickhouse = ClickHouse::shared(&target.client().await?).await?;
    for file in &dataset::FILES {
        for table in [
            file.data_source.to_owned(),
            format!("{}_quarantine", file.data_source),
        ] {
            clickhouse
                .query(&format!("TRUNCATE TABLE demo_flights.`{table}`"))
                .await?;
        }
    }
    Ok(())
}

async fn token(target: &Target, name: &str) -> Result<String> {
    let template = "go-template={{.data.token | base64decode}}";
    kubectl(
        target,
        &["-n", NAMESPACE, "get", "secret", name, "-o", template],
    )
    .await
}

async fn load(gateway: &str, token: &str, folder: &Path, file: &dataset::File) -> Result<Loaded> {
    let path = folder.join(format!("{}.csv", file.data_source));
    let url = format!(
        "{gateway}/v0/datasources?name={}&mode=append&format=csv",
        file.data_source
    );
    let started = Instant::now();
    let answer = curl(
        token,
        &[
            "--upload-file",
            &path.to_string_lossy(),
            "--request",
            "POST",
            &url,
        ],
    )
    .await?;
    let took = started.elapsed();
    let answer: Value =
        serde_json::from_str(&answer).with_context(|| format!("the gateway answered {answer}"))?;
    let count = |key: &str| {
        answer[key]
            .as_u64()
            .with_context(|| format!("the gateway answered {answer}"))
    };
    let (rows_in, quarantined) = (count("successful_rows")?, count("quarantined_rows")?);
    ensure!(
        rows_in + quarantined == file.rows,
        "{} has {} rows, but {rows_in} are in the table and {quarantined} in quarantine",
        path.display(),
        file.rows
    );
    Ok(Loaded {
        data_source: file.data_source,
        rows_in,
        quarantined,
        took,
    })
}

/// The token goes in by standard input, since arguments are for everybody to see.
async fn curl(token: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail-with-body"])
        .args(["--config", "-"])
        .args(arguments);
    let header = format!("header = \"Authorization: Bearer {token}\"\n");
    shell::fed(command, header).await
}

#[expect(clippy::print_stdout, reason = "this is what the demo is for")]
fn report_rows(loaded: &[Loaded]) {
    println!(
        "\n{:<12} {:>9} {:>12} {:>9}",
        "data source", "rows in", "quarantined", "seconds"
    );
    for file in loaded {
        println!(
            "{:<12} {:>9} {:>12} {:>9.2}",
            file.data_source,
            file.rows_in,
            file.quarantined,
            file.took.as_secs_f64()
        );
    }
    let rows: u64 = loaded.iter().map(|file| file.rows_in).sum();
    let quarantined: u64 = loaded.iter().map(|file| file.quarantined).sum();
    let took: Duration = loaded.iter().map(|file| file.took).sum();
    println!(
        "{:<12} {rows:>9} {quarantined:>12} {:>9.2}",
        "all",
        took.as_secs_f64()
    );
}

/// Asks as curl does and prints what it prints: one row a line, as the gateway wrote it.
#[expect(clippy::print_stdout, reason = "this is what the demo is for")]
async fn report_answers(gateway: &str, reader: &str) -> Result<()> {
    for question in [
        "carrier_delays.ndjson?month=7&origin=JFK",
        "delay_by_wind.ndjson",
        "busiest_days.ndjson?limit=5",
    ] {
        let url = format!("{gateway}/v0/pipes/{question}");
        let started = Instant::now();
        let answer = curl(reader, &[&url]).await?;
        let took = started.elapsed().as_secs_f64();
        let rows = answer.lines().count();
        ensure!(rows > 0, "{question} has no rows");
        println!(
            "\n$ curl -H \"Authorization: Bearer $reader\" '{url}'\n{}",
            answer.trim_end()
        );
        println!("  {rows} rows in {took:.3} s");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the demo is for")]
fn report_next(target: &Target, gateway: &str) {
    let program = std::env::current_exe().unwrap_or_else(|_| "target/debug/aviary-e2e".into());
    let gateway = match target {
        Target::Box(_) => format!("gateway={gateway}"),
        Target::Own { .. } => {
            "kubectl -n aviary-system port-forward service/aviary-gateway 8080:80 & gateway=http://127.0.0.1:8080".to_owned()
        }
    };
    println!(
        r#"
It goes on running. What to try next:

  eval "$({program} env)"                      # kubectl and helm on PATH, KUBECONFIG, and FLIGHTS: the folder of the CSV files
  {gateway}
  reader=$(kubectl -n demo get secret reader -o jsonpath='{{.data.token}}' | base64 -d)
  loader=$(kubectl -n demo get secret loader -o jsonpath='{{.data.token}}' | base64 -d)

  kubectl get aviary -A
  kubectl -n demo edit pipe busiest-days       # goes live when you save; a broken one leaves the last good one live
  kubectl -n demo describe datasource weather
  curl -H "Authorization: Bearer $reader" "$gateway/v0/pipes/busiest_days.json?limit=3"
  curl -H "Authorization: Bearer $loader" "$gateway/v0/events?name=airlines&wait=true" -d '{{"carrier":"XX","name":"Example Air"}}'
  curl -H "Authorization: Bearer $loader" "$gateway/v0/datasources?name=airlines&mode=append&format=csv" --data-binary "@$FLIGHTS/airlines.csv"
  make down                                    # when you are done"#,
        program = program.display()
    );
}

//! What checking every row costs: the same file through the gateway, past the landing and through it, and by a
//! direct INSERT.

use super::report::{Figure, Report};
use super::stage::Stage;
use super::statistics::median;
use crate::checkout::repository;
use crate::cluster::{Layout, Progress};
use crate::demo::dataset;
use crate::support::{self, Scene};
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use url::Url;

const ROUNDS: usize = 4;
/// The flights this many times over, for a steadier figure.
const COPIES: usize = 3;
/// Of the rows per second of an INSERT by hand, what is left past the landing, and through its views.
const FAST_RATE: f64 = 0.9;
const LANDED_RATE: f64 = 0.45;
/// The workspace's name and that of the table that is filled directly.
const WORKSPACE: &str = "bench";
const DIRECT: &str = "filled_directly";

/// The data sources: the demo's, and one more like it with a column of a type that has to go through the landing.
const FAST: &str = "flights";
const LANDED: &str = "flights_landed";

/// The ways in, and where each leads.
struct Ways {
    directly: Upload,
    fast: Upload,
    landed: Upload,
    /// Every table that a round fills.
    tables: Vec<String>,
}

/// A request that sends the file.
struct Upload {
    url: String,
    headers: Vec<String>,
}

/// Runs the rounds in a namespace of their own.
pub(crate) async fn measure(stage: &Stage, progress: &Progress) -> Result<Report> {
    let flights = dataset::folder(Layout::from_environment().cache())?.join("flights.csv");
    let folder = tempfile::tempdir().context("make a folder for the file")?;
    let file = folder.path().join("flights.csv");
    let rows = repeat(&flights, &file)?;
    support::run_alone("bench-ingestion", async move |scene: Scene| {
        compare(stage, progress, &scene, &file, rows).await
    })
    .await
}

async fn compare(
    stage: &Stage,
    progress: &Progress,
    scene: &Scene,
    file: &Path,
    rows: u64,
) -> Result<Report> {
    let ways = ways(stage, scene).await?;
    let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
    let what = format!("Sending {rows} rows directly and through the gateway, {ROUNDS} rounds");
    progress
        .step(&what, async {
            for round in 0..ROUNDS {
                // Every round begins with another way.
                for turn in 0..seconds.len() {
                    let way = (turn + round) % seconds.len();
                    empty(scene, &ways).await?;
                    let taken = match way {
                        0 => insert(scene, &ways, file, rows).await?,
                        1 => append(&ways.fast, file, rows).await?,
                        _ => append(&ways.landed, file, rows).await?,
                    };
                    seconds[way].push(taken);
                }
            }
            Ok(())
        })
        .await?;
    let [direct, fast, landed] = seconds.map(|seconds| rows as f64 / median(&seconds));
    let title = format!("CSV of {rows} rows: medians of {ROUNDS} rounds");
    let ratio = |name: &str, rate: f64| Figure::new(name, rate / direct, "");
    Ok(Report::new(title)
        .with(ratio("rows/s, gateway / direct INSERT", fast).at_least(FAST_RATE))
        .with(ratio("the same, through the landing views", landed).at_least(LANDED_RATE))
        .with(Figure::new("rows/s, direct INSERT", direct, "/s"))
        .with(Figure::new("rows/s, gateway", fast, "/s"))
        .with(Figure::new("rows/s, gateway, landing", landed, "/s")))
}

/// The data source of the demo, one like it that has no fast path, and a plain table of the same shape beside them.
async fn ways(stage: &Stage, scene: &Scene) -> Result<Ways> {
    scene.workspace(WORKSPACE).await?;
    let flights = flights_manifest()?;
    scene.apply(&flights.to_string()).await?;
    scene.apply(&landed(flights)?.to_string()).await?;
    let token = scene.token(WORKSPACE, "bench").await?;
    for name in [FAST, LANDED] {
        scene.ready("DataSource", &name.replace('_', "-")).await?;
    }
    let database = scene.database(WORKSPACE);
    let direct = format!("`{database}`.`{DIRECT}`");
    scene
        .clickhouse
        .query(&format!("CREATE TABLE {direct} AS `{database}`.`{FAST}`"))
        .await?;
    let insert = Url::parse_with_params(
        &format!("http://{}/", stage.engine),
        [
            ("query", format!("INSERT INTO {direct} FORMAT CSVWithNames")),
            ("format_csv_null_representation", "NA".to_owned()),
        ],
    )
    .context("the engine's address")?;
    let (user, password) = stage.clickhouse.administrator();
    let published = |name: &str| Upload {
        url: format!(
            "{}/v0/datasources?name={name}&mode=append&format=csv",
            stage.gateway.base()
        ),
        headers: vec![format!("Authorization: Bearer {token}")],
    };
    let quarantines = [FAST, LANDED].map(|name| format!("{name}_quarantine"));
    let tables = [DIRECT, FAST, LANDED].map(str::to_owned);
    Ok(Ways {
        directly: Upload {
            url: insert.into(),
            headers: vec![
                format!("X-ClickHouse-User: {user}"),
                format!("X-ClickHouse-Key: {password}"),
            ],
        },
        fast: published(FAST),
        landed: published(LANDED),
        tables: tables
            .into_iter()
            .chain(quarantines)
            .map(|table| format!("`{database}`.`{table}`"))
            .collect(),
    })
}

/// Sends the file to the gateway; gives the seconds until all its rows were acknowledged.
async fn append(way: &Upload, file: &Path, rows: u64) -> Result<f64> {
    let (answer, seconds) = way.send(file).await?;
    let answer: Value =
        serde_json::from_str(&answer).with_context(|| format!("the gateway answered {answer}"))?;
    ensure!(
        answer["successful_rows"] == rows && answer["quarantined_rows"] == 0,
        "of {rows} rows, the gateway counts {answer}"
    );
    Ok(seconds)
}

/// Inserts the file directly; gives the seconds until ClickHouse answered.
async fn insert(scene: &Scene, ways: &Ways, file: &Path, rows: u64) -> Result<f64> {
    let (_, seconds) = ways.directly.send(file).await?;
    let database = scene.database(WORKSPACE);
    let count = scene
        .clickhouse
        .query(&format!("SELECT count() FROM `{database}`.`{DIRECT}`"))
        .await?;
    ensure!(
        count == rows.to_string(),
        "of {rows} rows, {count} are in the table"
    );
    Ok(seconds)
}

/// All ways begin with empty tables, so that merges of earlier rounds burden neither.
async fn empty(scene: &Scene, ways: &Ways) -> Result<()> {
    for table in &ways.tables {
        let truncate = format!("TRUNCATE TABLE {table}");
        scene.clickhouse.query(&truncate).await?;
    }
    Ok(())
}

impl Upload {
    /// Streams the file by curl; gives the answer and curl's own measure of seconds.
    async fn send(&self, file: &Path) -> Result<(String, f64)> {
        // Headers hold secrets, and arguments are for everybody to see. Both servers take the
        // body at once, so nothing is gained by asking for leave.
        let mut headers = tempfile::NamedTempFile::new().context("make a file for headers")?;
        writeln!(headers, "{}\nExpect:", self.headers.join("\n")).context("write headers")?;
        let body = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body"])
            .arg("--header")
            .arg(format!("@{}", headers.path().display()))
            .args(["--request", "POST", "--upload-file", "-"])
            .args(["--write-out", "\n%{time_total}", &self.url])
            .stdin(Stdio::from(body))
            .output()
            .await
            .context("run curl")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (answer, seconds) = text.rsplit_once('\n').unwrap_or((&text, ""));
        ensure!(
            output.status.success(),
            "{}: {}{answer}",
            self.url,
            String::from_utf8_lossy(&output.stderr)
        );
        let seconds = seconds.trim().parse().context("curl printed no time")?;
        Ok((answer.to_owned(), seconds))
    }
}

/// The demo's data source, for the namespace and workspace of the measurement.
fn flights_manifest() -> Result<Value> {
    let path = repository().join("config/samples/flights/data-sources.yaml");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    for document in serde_yaml::Deserializer::from_str(&text) {
        let mut object = Value::deserialize(document).context("read the demo's data sources")?;
        if object["metadata"]["name"] == "flights" {
            object["metadata"] = json!({"name": "flights"});
            object["spec"]["workspace"] = json!(WORKSPACE);
            return Ok(object);
        }
    }
    anyhow::bail!("{} has no data source flights", path.display())
}

/// The same under another name, with one more column: empty, and of a type that only the landing's views convert.
fn landed(mut flights: Value) -> Result<Value> {
    flights["metadata"] = json!({"name": LANDED.replace('_', "-")});
    let columns = flights["spec"]["columns"].as_array_mut();
    columns
        .context("the demo's data source has columns")?
        .push(json!({"name": "fare", "type": "Nullable(BFloat16)"}));
    Ok(flights)
}

/// Writes the rows of a CSV file [`COPIES`] times under its one header; gives their number.
fn repeat(from: &Path, to: &Path) -> Result<u64> {
    let target = std::fs::File::create(to).with_context(|| format!("create {}", to.display()))?;
    let mut target = BufWriter::new(target);
    let mut rows = 0;
    for copy in 0..COPIES {
        let source =
            std::fs::File::open(from).with_context(|| format!("open {}", from.display()))?;
        let mut lines = BufReader::new(source).lines();
        let header = lines.next().context("the file is empty")?;
        if copy == 0 {
            writeln!(target, "{}", header.context("read the header")?).context("write")?;
        }
        for line in lines {
            writeln!(target, "{}", line.context("read a row")?).context("write")?;
            rows += 1;
        }
    }
    target.flush().context("write")?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_repeated_and_the_header_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
        std::fs::write(&from, "x,y\n1,2\n3,NA\n").unwrap();
        assert_eq!(repeat(&from, &to).unwrap(), 6);
        assert_eq!(
            std::fs::read_to_string(&to).unwrap(),
            "x,y\n1,2\n3,NA\n1,2\n3,NA\n1,2\n3,NA\n"
        );
    }

    #[test]
    fn the_demo_has_the_data_source() {
        let manifest = flights_manifest().unwrap();
        assert_eq!(manifest["kind"], "DataSource");
        assert_eq!(manifest["spec"]["columns"].as_array().unwrap().len(), 19);
        let landed = landed(manifest).unwrap();
        assert_eq!(landed["spec"]["columns"].as_array().unwrap().len(), 20);
    }
}

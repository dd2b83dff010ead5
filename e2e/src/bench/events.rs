//! What one event costs, and how many of them go in: through the gateway, and by the same INSERT sent directly.

use super::report::{Figure, Report};
use super::stage::Stage;
use super::wrk::{Load, Round, Series};
use crate::cluster::Progress;
use crate::support::{self, Scene};
use anyhow::{Context as _, Result};
use std::time::Duration;
use url::Url;

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
/// Over one connection, 16 and many.
const CONNECTIONS: [usize; 3] = [1, 16, MANY];
const MANY: usize = 128;
/// Events in a request.
const SIZES: [usize; 2] = [1, HUNDRED];
const HUNDRED: usize = 100;

/// Of the latency of an INSERT sent directly, over one connection.
const LATENCY: f64 = 1.3;
/// Of its rate, over many: events that wait together go together.
const RATE: f64 = 5.0;
/// Rows per second over many connections, a hundred a request, and the milliseconds in which 99 of 100 are answered.
const ROWS: f64 = 120_000.0;
const P99: f64 = 1_000.0;

/// No limit of the workspace may end the load.
const OBJECTS: &str = "
apiVersion: aviary.dev/v1alpha1
kind: Workspace
metadata: {name: bench}
spec:
  clusterRef: {name: shared, namespace: clickhouse}
  deletionPolicy: Delete
  limits: {requestsPerSecond: 1000000}
---
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {name: plain}
spec:
  workspace: bench
  sortingKey: [at]
  columns:
    - {name: at, type: DateTime64(3)}
    - {name: user, type: UInt64}
    - {name: event, type: LowCardinality(String)}
    - {name: page, type: String}
    - {name: seconds, type: Float64}
    - {name: mobile, type: Bool}
---
apiVersion: aviary.dev/v1alpha1
kind: DataSource
metadata: {name: nested}
spec:
  workspace: bench
  sortingKey: [at]
  columns:
    - {name: at, type: DateTime64(3)}
    - {name: user, type: UInt64}
    - {name: event, type: LowCardinality(String)}
    - {name: amount, type: 'Decimal(18, 4)'}
    - {name: tags, type: Array(LowCardinality(String))}
    - {name: labels, type: 'Map(String, String)'}
    - {name: cart, type: 'Array(Tuple(sku String, count UInt16))'}
";

/// The data sources, and an event for each.
const SOURCES: [(&str, &str); 2] = [
    (
        "plain",
        r#"{"at":"2024-08-12T21:31:12.269Z","user":12345678,"event":"view","page":"/shelf/7","seconds":1.25,"mobile":true}"#,
    ),
    (
        "nested",
        r#"{"at":"2024-08-12T21:31:12.269Z","user":12345678,"event":"buy","amount":19.9,"tags":["sale","new"],"labels":{"from":"mail","to":"shelf"},"cart":[{"sku":"a-1","count":2},{"sku":"b-2","count":1}]}"#,
    ),
];

/// One kind of request, its two ways, and the rounds of each.
struct Case {
    source: &'static str,
    size: usize,
    connections: usize,
    gateway: Series,
    direct: Series,
}

/// Runs the rounds in a namespace of their own.
pub(crate) async fn measure(stage: &Stage, progress: &Progress) -> Result<Report> {
    support::run_alone("bench-events", async move |scene: Scene| {
        compare(stage, progress, &scene).await
    })
    .await
}

async fn compare(stage: &Stage, progress: &Progress, scene: &Scene) -> Result<Report> {
    let mut cases = cases(stage, scene).await?;
    let what = format!(
        "Sending events directly and through the gateway, {} kinds of requests, {ROUNDS} rounds of {} s",
        cases.len(),
        ROUND.as_secs()
    );
    progress
        .step(&what, async {
            for round in 0..ROUNDS {
                for case in &mut cases {
                    case.run(scene, round % 2 == 0).await?;
                }
            }
            Ok(())
        })
        .await?;
    Ok(report(&cases))
}

/// The data sources, and beside each a plain table of the same shape.
async fn cases(stage: &Stage, scene: &Scene) -> Result<Vec<Case>> {
    scene.apply(OBJECTS).await?;
    let token = scene.token("bench", "bench").await?;
    let bearer = format!("Bearer {token}");
    let (user, password) = stage.clickhouse.administrator();
    let administrator = [("X-ClickHouse-User", user), ("X-ClickHouse-Key", password)];
    let mut cases = Vec::new();
    for (source, event) in SOURCES {
        scene.ready("DataSource", source).await?;
        let [table, direct] = tables(scene, source);
        let create = format!(
            "CREATE TABLE {direct} AS {table} SETTINGS parts_to_delay_insert = 1000000, parts_to_throw_insert = 1000000"
        );
        scene.clickhouse.query(&create).await?;
        let insert = Url::parse_with_params(
            &format!("http://{}/", stage.engine),
            [
                ("query", format!("INSERT INTO {direct} FORMAT JSONEachRow")),
                ("date_time_input_format", "best_effort".to_owned()),
                ("wait_end_of_query", "1".to_owned()),
            ],
        )
        .context("the engine's address")?;
        let events = format!("{}/v0/events?name={source}&wait=true", stage.gateway.base());
        for size in SIZES {
            let body = format!("{event}\n").repeat(size);
            for connections in CONNECTIONS {
                let headers = [("Authorization", bearer.as_str())];
                cases.push(Case {
                    source,
                    size,
                    connections,
                    gateway: Series::new(Load::post(events.clone(), &headers, &body)?),
                    direct: Series::new(Load::post(insert.to_string(), &administrator, &body)?),
                });
            }
        }
    }
    Ok(cases)
}

/// The data source's table, and the one that is filled directly.
fn tables(scene: &Scene, source: &str) -> [String; 2] {
    let database = scene.database("bench");
    [
        format!("`{database}`.`{source}`"),
        format!("`{database}`.`{source}_filled_directly`"),
    ]
}

impl Case {
    async fn run(&mut self, scene: &Scene, is_gateway_first: bool) -> Result<()> {
        for turn in [is_gateway_first, !is_gateway_first] {
            for table in tables(scene, self.source) {
                let truncate = format!("TRUNCATE TABLE {table}");
                scene.clickhouse.query(&truncate).await?;
            }
            let way = if turn {
                &mut self.gateway
            } else {
                &mut self.direct
            };
            way.add_round(self.connections, ROUND).await?;
        }
        Ok(())
    }

    fn name(&self) -> String {
        let events = if self.size == 1 { "event" } else { "events" };
        format!(
            "{} {events} x {}, {}",
            self.size, self.connections, self.source
        )
    }
}

fn report(cases: &[Case]) -> Report {
    let title =
        format!("Events: so many a request x so many connections, medians of {ROUNDS} rounds");
    cases.iter().fold(Report::new(title), with_case)
}

fn with_case(report: Report, case: &Case) -> Report {
    let ratio = |of: fn(&Round) -> f64| case.gateway.median(of) / case.direct.median(of);
    let latency = Figure::new(
        format!("{}: p50, gateway / direct", case.name()),
        ratio(|round| round.p50),
        "",
    );
    let rate = Figure::new(
        format!("{}: rate, gateway / direct", case.name()),
        ratio(|round| round.rate),
        "",
    );
    let (latency, rate) = match (case.size, case.connections) {
        (1, 1) => (latency.at_most(LATENCY), rate),
        (1, MANY) => (latency, rate.at_least(RATE)),
        _ => (latency, rate),
    };
    let direct = case.direct.median(|round| round.p50);
    let rows = case.gateway.median(|round| round.rate) * case.size as f64;
    let rows = Figure::new(format!("{}: rows/s", case.name()), rows, "/s");
    let p99 = case.gateway.median(|round| round.p99);
    let p99 = Figure::new(format!("{}: p99", case.name()), p99, "ms");
    let (rows, p99) = match (case.size, case.connections) {
        (HUNDRED, MANY) => (rows.at_least(ROWS), p99.at_most(P99)),
        _ => (rows, p99),
    };
    report
        .with(latency.note(format!("directly {direct:.2} ms")))
        .with(rate)
        .with(rows)
        .with(p99)
}

//! Exactly once: ClickHouse and two gateways are killed and frozen at random moments under load, and
//! clients that repeat what failed find every row once.
//!
//! The seed is printed; `AVIARY_TEST_SEED` repeats a run as far as its moments allow, and
//! `AVIARY_TEST_LOAD_SECONDS` makes it longer.

use super::harness::{Caller, Process, Scene, start_gateway_process};
use futures::future::{join, join_all};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Body, Method};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const SHOP: &str = "
kind: Workspace
metadata: {name: shop}
spec: {clusterRef: {name: shared}, limits: {requestsPerSecond: 100000}}
---
kind: DataSource
metadata: {name: direct}
spec: {workspace: shop, columns: [{name: id, type: Int64}]}
---
kind: DataSource
metadata: {name: landed}
spec:
  workspace: shop
  partitionKey: id % 3
  columns:
    - {name: id, type: Int64}
    - {name: rough, type: Nullable(BFloat16)}
---
kind: DataSource
metadata: {name: poisoned}
spec:
  workspace: shop
  columns:
    - {name: id, type: Int64}
    - {name: ratio, type: Int32, default: 'intDiv(10, id % 30000 - 500)'}
";

const CLIENTS: u64 = 8;
/// How long clients may take for what they have begun when nothing is killed any more.
const PATIENCE: Duration = Duration::from_secs(240);

/// Rows that a client sends under one key until it hears that they are stored.
struct Import {
    source: &'static str,
    key: String,
    format: &'static str,
    body: String,
    /// The numbers of its rows that belong into the table, and of those that do not.
    good: Vec<i64>,
    bad: Vec<i64>,
}

impl Import {
    /// The import of this number of a client, with numbers for rows that no other has.
    fn random(random: &mut StdRng, client: u64, number: u64) -> Self {
        let source = ["direct", "landed", "poisoned"][random.random_range(0..3)];
        let format = ["csv", "ndjson"][random.random_range(0..2)];
        // One event, a few, and files of several blocks.
        let rows = match random.random_range(0..10) {
            0..3 => 1,
            3..8 => random.random_range(2..200),
            8 => random.random_range(200..5_000),
            _ => random.random_range(20_000..60_000),
        };
        let dirty = random.random_range(2..1_000);
        let first = i64::try_from(client * 1_000_000_000 + number * 100_000).unwrap();
        let mut import = Self {
            source,
            key: format!("import-{client}-{number}"),
            format,
            body: String::new(),
            good: Vec::new(),
            bad: Vec::new(),
        };
        if format == "csv" {
            import.body.push_str("id\n");
        }
        for id in first..first + rows {
            let is_dirty = random.random_range(0..dirty) == 0;
            // A few rows at which ClickHouse throws.
            let is_poison = source == "poisoned" && id % 30_000 == 500;
            if is_dirty || is_poison {
                import.bad.push(id);
            } else {
                import.good.push(id);
            }
            let mark = if is_dirty { "x" } else { "" };
            let _ = match format {
                "csv" => writeln!(import.body, "{id}{mark}"),
                _ => writeln!(import.body, "{{\"id\": \"{id}{mark}\"}}"),
            };
        }
        import
    }

    /// The body at once, or in pieces, so that it may break off anywhere.
    fn body(&self, random: &mut StdRng) -> Body {
        if random.random_bool(0.5) {
            return self.body.clone().into();
        }
        let size = random.random_range(1_000..200_000);
        let pieces: Vec<Vec<u8>> = self
            .body
            .as_bytes()
            .chunks(size)
            .map(<[u8]>::to_vec)
            .collect();
        Body::wrap_stream(futures::stream::unfold(
            pieces.into_iter(),
            async |mut pieces| {
                let piece = pieces.next()?;
                sleep(Duration::from_millis(1)).await;
                Some((Ok::<_, io::Error>(piece), pieces))
            },
        ))
    }

    /// Sends it until it is stored; how often. What else it is told is an answer of a moment at which
    /// something was away.
    async fn send(&self, gateways: &[Caller; 2], random: &mut StdRng) -> u32 {
        let path = format!(
            "/v0/datasources?name={}&format={}",
            self.source, self.format
        );
        let mut attempts = 0;
        loop {
            attempts += 1;
            // Some do not wait for the answer, so that the same import is on its way twice.
            let hurried = random.random_range(0..4) == 0;
            let patience = if hurried { 5..500 } else { 30_000..60_000 };
            let caller = &gateways[random.random_range(0..2)];
            let sent = caller
                .request(Method::POST, &path)
                .header("Idempotency-Key", &self.key)
                .timeout(Duration::from_millis(random.random_range(patience)))
                .body(self.body(random))
                .send()
                .await;
            if let Ok(answer) = sent {
                let status = answer.status().as_u16();
                match (status, answer.json::<serde_json::Value>().await) {
                    (200, Ok(receipt)) => {
                        let stored = &receipt["successful_rows"];
                        assert!(stored.is_null() || *stored == self.good.len(), "{receipt}");
                        return attempts;
                    }
                    (503, _) | (_, Err(_)) => {}
                    (status, Ok(error)) => panic!("{status}: {error}"),
                }
            }
            sleep(Duration::from_millis(random.random_range(1..300))).await;
        }
    }
}

/// What all clients had stored, and in how many attempts.
#[derive(Default)]
struct Sent {
    imports: u64,
    attempts: u32,
    /// The numbers that each table should have.
    tables: BTreeMap<String, Vec<i64>>,
}

impl Sent {
    fn add(&mut self, import: Import, attempts: u32) {
        self.imports += 1;
        self.attempts += attempts;
        let quarantine = format!("{}_quarantine", import.source);
        self.tables
            .entry(quarantine)
            .or_default()
            .extend(import.bad);
        let table = self.tables.entry(import.source.to_owned());
        table.or_default().extend(import.good);
    }
}

/// One client, until the load ends.
async fn load(client: u64, seed: u64, gateways: &[Caller; 2], end: &CancellationToken) -> Sent {
    let mut random = StdRng::seed_from_u64(seed + 1 + client);
    let mut sent = Sent::default();
    while !end.is_cancelled() {
        let import = Import::random(&mut random, client, sent.imports);
        let attempts = import.send(gateways, &mut random).await;
        sent.add(import, attempts);
    }
    sent
}

/// What is killed and frozen.
struct Victims {
    scene: Scene,
    gateways: [Process; 2],
    kills: [u32; 2],
}

impl Victims {
    async fn harm(&mut self, random: &mut StdRng) {
        let away = Duration::from_millis(random.random_range(0..1_000));
        let one = random.random_range(0..2);
        match random.random_range(0..10) {
            0..4 => {
                self.scene.engine.kill();
                sleep(away).await;
                tokio::task::block_in_place(|| self.scene.revive());
                self.kills[0] += 1;
            }
            4..7 => {
                let gateway = &mut self.gateways[one];
                gateway.kill();
                sleep(away).await;
                let (port, replica) = (gateway.address.port(), self.scene.admin.url());
                *gateway =
                    tokio::task::block_in_place(|| start_gateway_process(port, &replica, SHOP));
                self.kills[1] += 1;
            }
            7 => freeze(&self.scene.engine, away).await,
            _ => freeze(&self.gateways[one], 3 * away).await,
        }
    }
}

async fn freeze(process: &Process, time: Duration) {
    process.freeze();
    sleep(time).await;
    process.thaw();
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_there_once_whatever_is_killed() {
    let seed = variable("AVIARY_TEST_SEED").unwrap_or_else(rand::random);
    let length = Duration::from_secs(variable("AVIARY_TEST_LOAD_SECONDS").unwrap_or(15));
    println!("AVIARY_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let scene = Scene::new("kills", SHOP).await;
    copy(&scene).await;
    let replica = scene.admin.url();
    let gateway = || start_gateway_process(0, &replica, SHOP);
    let gateways = [gateway(), gateway()];
    let callers = [&gateways[0], &gateways[1]].map(|gateway| Caller::new(gateway.address, "token"));
    let mut victims = Victims {
        scene,
        gateways,
        kills: [0, 0],
    };

    let end = CancellationToken::new();
    let clients = join_all((0..CLIENTS).map(|client| load(client, seed, &callers, &end)));
    let harm = async {
        let begun = Instant::now();
        while begun.elapsed() < length {
            sleep(Duration::from_millis(random.random_range(0..1_500))).await;
            victims.harm(&mut random).await;
        }
        end.cancel();
    };
    let all = tokio::time::timeout(length + PATIENCE, join(clients, harm)).await;
    let (sent, ()) = all.expect("clients do not end");

    let mut total = Sent::default();
    for sent in sent {
        total.imports += sent.imports;
        total.attempts += sent.attempts;
        for (table, numbers) in sent.tables {
            total.tables.entry(table).or_default().extend(numbers);
        }
    }
    let [engine, gateway] = victims.kills;
    let Sent {
        imports, attempts, ..
    } = total;
    println!(
        "{imports} imports in {attempts} attempts; ClickHouse killed {engine} times, gateways {gateway} times"
    );
    assert!(imports > 0 && attempts > u32::try_from(imports).unwrap());
    let copied = total.tables["direct"].clone();
    total.tables.insert("copied".to_owned(), copied);
    let mut faults = String::new();
    for (table, numbers) in total.tables {
        compare(&victims.scene, &table, numbers, &mut faults).await;
    }
    assert!(faults.is_empty(), "AVIARY_TEST_SEED={seed}{faults}");
}

/// A table behind a view, as somebody may have it.
async fn copy(scene: &Scene) {
    let (copied, view, direct) = (
        scene.shop.table("copied"),
        scene.shop.table("copying"),
        scene.shop.table("direct"),
    );
    for sql in [
        format!(
            "CREATE TABLE {copied} (id Int64) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 10000"
        ),
        format!(
            "CREATE MATERIALIZED VIEW {view} TO {copied} DEFINER = default SQL SECURITY DEFINER AS SELECT id FROM {direct}"
        ),
    ] {
        scene.admin.query(&sql).await;
    }
}

/// Says which rows are missing, and which are there more than once.
async fn compare(scene: &Scene, table: &str, mut expected: Vec<i64>, faults: &mut String) {
    expected.sort_unstable();
    let sql = format!(
        "SELECT toInt64(trimRight(toString(id), 'x')) AS number FROM {} ORDER BY number",
        scene.shop.table(table)
    );
    let found = scene.admin.query(&sql).await;
    let found: Vec<i64> = found.lines().map(|line| line.parse().unwrap()).collect();
    if found == expected {
        return;
    }
    let mut counts: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
    expected
        .iter()
        .for_each(|number| counts.entry(*number).or_default().0 += 1);
    found
        .iter()
        .for_each(|number| counts.entry(*number).or_default().1 += 1);
    counts.retain(|_, (expected, found)| expected != found);
    let count = counts.len();
    let shown: Vec<_> = counts.iter().take(20).collect();
    let _ = write!(
        faults,
        "\n{table}: {count} rows are not as often there as they should be; number: (should, is): {shown:?}"
    );
}

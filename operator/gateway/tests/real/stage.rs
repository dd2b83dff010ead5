//! What all tests of this binary share: ClickHouse, two tenants, and a gateway.

use super::harness::{self, ALL, Admin, Caller, Log, Process, Served, Workspace};
use aviary_crds::published::PublishedWorkspace;
use aviary_gateway::GatewayArgs;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Runtime;

/// What is served.
pub(crate) struct Stage {
    engine: Process,
    served: Served,
    pub(crate) shop: Workspace,
}

const SHOP: &str = "
kind: Workspace
metadata: {name: shop}
spec: {clusterRef: {name: shared}, limits: {requestsPerSecond: 100000}}
---
kind: DataSource
metadata: {name: sales}
spec:
  workspace: shop
  columns:
    - {name: id, type: Int32}
    - {name: city, type: Nullable(String)}
---
kind: DataSource
metadata: {name: orders}
spec:
  workspace: shop
  sortingKey: [id]
  columns:
    - {name: id, type: UInt32}
    - {name: at, type: DateTime, jsonPath: $.meta.at}
    - {name: city, type: LowCardinality(String)}
    - {name: amount, type: Float64, default: '0.5'}
    - {name: note, type: Nullable(String), jsonPath: '$.[\"the note\"]'}
    - {name: tags, type: Array(String), jsonPath: '$.tags[:]'}
---
kind: DataSource
metadata: {name: dirt}
spec:
  workspace: shop
  csv: {header: Absent, nullMarkers: [NA]}
  columns:
    - {name: number, type: Int16}
    - {name: text, type: String}
    - {name: time, type: Nullable(DateTime64(3))}
---
kind: DataSource
metadata: {name: lists}
spec:
  workspace: shop
  columns:
    - {name: id, type: UInt32}
    - {name: floats, type: Array(Float64)}
    - {name: times, type: \"Array(DateTime64(3, 'UTC'))\"}
    - {name: ids, type: Array(UUID)}
    - {name: texts, type: 'Map(String, Array(String))'}
---
kind: DataSource
metadata: {name: days}
spec:
  workspace: shop
  partitionKey: day
  sortingKey: [day]
  columns:
    - {name: day, type: Date}
---
kind: DataSource
metadata: {name: balance}
spec:
  workspace: shop
  engine: {type: CollapsingMergeTree, sign: sign}
  sortingKey: [id]
  columns:
    - {name: id, type: UInt32}
    - {name: sign, type: Int8}
---
kind: DataSource
metadata: {name: unseen}
spec:
  workspace: shop
  columns:
    - {name: id, type: UInt32}
    - {name: price, type: 'Decimal(9, 2)'}
---
kind: DataSource
metadata: {name: direct}
spec:
  workspace: shop
  columns:
    - {name: id, type: UInt32}
    - {name: word, type: Nullable(String)}
---
kind: Pipe
metadata: {name: echo}
spec:
  workspace: shop
  description: Gives back what it is given.
  nodes:
    - name: answer
      sql: >
        SELECT {{ Int32(number, 7, description='A number') }} AS number, {{ String(word, 'none', enum=['none', 'hi', 'a&b= ;']) }} AS word,
        {{ Array(ids, 'Int64', '1,2') }} AS ids, {{ UInt8(needed) }} AS needed
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: given}
spec:
  workspace: shop
  nodes:
    - name: answer
      sql: >
        SELECT {{ DateTime(second, '1970-01-01') }} AS second, {{ DateTime64(moment, '1970-01-01') }} AS moment,
        toUnixTimestamp(second) AS unix, {{ Array(words, 'String', '') }} AS words
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: binary}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: \"SELECT unhex('61FF62') AS text, [unhex('FE')] AS list, map(unhex('C3'), unhex('FC')) AS map\"}
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: wide}
spec:
  workspace: shop
  nodes:
    - name: answer
      sql: >
        SELECT toUInt32(4294967295) AS uint32, toUInt64(18446744073709551615) AS uint64, toInt64(-1) AS int64,
        toInt128('-170141183460469231731687303715884105728') AS int128, toUInt256('12345678901234567890123456789') AS uint256,
        toDecimal64('1.5', 2) AS decimal
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: cities}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: 'SELECT city, count() AS sales FROM sales WHERE city IN ({{ Array(cities) }}) GROUP BY city ORDER BY city'}
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: numbers}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: 'SELECT number AS n, toString(number) AS text FROM numbers({{ UInt64(count, 1000000) }})'}
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: breaks}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: 'SELECT number AS n, throwIf(number = {{ UInt64(at) }}) AS thrown FROM numbers(10000000) SETTINGS max_block_size = 1000, max_threads = 1'}
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: slow}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: 'SELECT sum(sleepEachRow(0.1)) AS n, {{ String(mark) }} AS mark FROM numbers(600) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0'}
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: endless}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: 'SELECT number AS n, {{ String(mark) }} AS mark FROM system.numbers'}
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: nosy}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: 'SELECT count() AS n FROM test_other.secrets'}
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: typo}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: 'SELECT citty FROM sales'}
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: outward}
spec:
  workspace: shop
  nodes:
    - {name: answer, sql: \"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')\"}
  endpoint: {node: answer}
";

const OTHER: &str = "
kind: Workspace
metadata: {name: other}
spec: {clusterRef: {name: shared}}
---
kind: DataSource
metadata: {name: secrets}
spec: {workspace: other, columns: [{name: secret, type: String}]}
---
kind: Pipe
metadata: {name: peek}
spec:
  workspace: other
  nodes: [{name: answer, sql: 'SELECT secret FROM secrets'}]
  endpoint: {node: answer}
";

const TIGHT: &str = "
kind: Workspace
metadata: {name: tight}
spec: {clusterRef: {name: shared}, limits: {queryTimeout: 1s, queryMemory: 20Mi}}
---
kind: Pipe
metadata: {name: slow}
spec:
  workspace: tight
  nodes: [{name: answer, sql: 'SELECT sum(sleepEachRow(0.1)) AS n FROM numbers(600) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0'}]
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: endless}
spec:
  workspace: tight
  nodes: [{name: answer, sql: 'SELECT number AS n FROM system.numbers'}]
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: trickle}
spec:
  workspace: tight
  nodes: [{name: answer, sql: 'SELECT number AS n, sleepEachRow(0.1) AS s FROM numbers(600) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0'}]
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: large}
spec:
  workspace: tight
  nodes: [{name: answer, sql: 'SELECT length(groupArray(randomString(1000))) AS n FROM numbers(1000000)'}]
  endpoint: {node: answer}
---
kind: Pipe
metadata: {name: unbound}
spec:
  workspace: tight
  nodes: [{name: answer, sql: 'SELECT count() AS n FROM system.numbers SETTINGS max_execution_time = 0'}]
  endpoint: {node: answer}
";

pub(crate) const SHOP_TOKEN: &str = "shop-token";
/// A data source with a column of every type that has a way past the landing.
fn typed(name: &str, more: &str) -> String {
    format!(
        "---
kind: DataSource
metadata: {{name: {name}}}
spec:
  workspace: shop
  csv: {{header: Present}}
  columns:
    - {{name: id, type: UInt32}}
    - {{name: int8, type: Int8}}
    - {{name: int16, type: Int16}}
    - {{name: int32, type: Int32}}
    - {{name: int64, type: Int64}}
    - {{name: uint8, type: UInt8}}
    - {{name: uint16, type: UInt16}}
    - {{name: uint32, type: UInt32}}
    - {{name: uint64, type: UInt64}}
    - {{name: float32, type: Float32}}
    - {{name: float64, type: Float64}}
    - {{name: bool, type: Bool}}
    - {{name: date, type: Date}}
    - {{name: datetime, type: DateTime}}
    - {{name: datetime64, type: \"DateTime64(3, 'UTC')\"}}
    - {{name: text, type: String}}
    - {{name: category, type: LowCardinality(String)}}
    - {{name: optional, type: Nullable(Int32)}}
    - {{name: int128, type: Int128}}
    - {{name: uint256, type: UInt256}}
    - {{name: decimal, type: 'Decimal(9, 2)'}}
    - {{name: decimal128, type: 'Decimal(38, 10)'}}
    - {{name: decimal256, type: 'Nullable(Decimal(50, 3))'}}
    - {{name: fixed, type: FixedString(3)}}
    - {{name: fixed_category, type: LowCardinality(Nullable(FixedString(3)))}}
    - {{name: date32, type: Date32}}
    - {{name: zoned, type: \"DateTime('Asia/Tokyo')\"}}
    - {{name: zoned64, type: \"Nullable(DateTime64(6, 'Europe/Vienna'))\"}}
    - {{name: uuid, type: UUID}}
    - {{name: ipv4, type: IPv4}}
    - {{name: ipv6, type: Nullable(IPv6)}}
    - {{name: enum8, type: \"Enum8('x' = 1, 'it\\\\'s' = -2, '5' = 3)\"}}
    - {{name: enum16, type: \"Nullable(Enum16('x' = 1000))\"}}
    - {{name: total, type: 'SimpleAggregateFunction(sum, UInt64)'}}
    - {{name: texts, type: Array(LowCardinality(String))}}
    - {{name: numbers, type: 'Array(Nullable(Decimal(18, 4)))'}}
    - {{name: times, type: \"Array(Array(DateTime64(3, 'UTC')))\"}}
    - {{name: map, type: 'Map(LowCardinality(String), Int16)'}}
    - {{name: keyed, type: 'Map(UInt8, Array(String))'}}
    - {{name: pair, type: 'Tuple(a Int16, b Nullable(String))'}}
    - {{name: pairs, type: 'Array(Tuple(Float64, Bool))'}}
{more}"
    )
}

/// A column of a type that has none.
const LANDED: &str = "    - {name: none, type: Nullable(BFloat16)}\n";

/// Columns of the other types.
const MORE: &str = "    - {name: json, type: JSON}
    - {name: long, type: Nullable(FixedString(256))}
    - {name: deep, type: 'Map(String, Array(Tuple(String, Nullable(Int64))))'}
";
const TRIP: &str = "---
kind: Pipe
metadata: {name: trip}
spec:
  workspace: shop
  nodes: [{name: answer, sql: 'SELECT * FROM everything ORDER BY id'}]
  endpoint: {node: answer}
";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    // Tests have runtimes of their own; what they share lives on this one.
    std::thread::spawn(|| RUNTIME.block_on(build()))
        .join()
        .unwrap()
});

async fn build() -> Stage {
    let engine = harness::start_engine(&harness::scratch("real"), 0);
    let admin = Admin::new(engine.address);
    let manifests = [
        SHOP.to_owned(),
        typed("fast", ""),
        typed("landed", LANDED),
        typed("unlanded", ""),
        typed("everything", MORE),
        typed("back_csv", MORE),
        typed("back_ndjson", MORE),
        typed("back_parquet", MORE),
        TRIP.to_owned(),
    ];
    let shop = Workspace::make(&admin, &manifests.concat()).await;
    let other = Workspace::make(&admin, OTHER).await;
    let tight = Workspace::make(&admin, TIGHT).await;
    let served = harness::start_gateway(|args| {
        args.write_timeout = "1s".parse().unwrap();
        args.body_timeout = "1s".parse().unwrap();
        args.insert_block = "64Ki".parse().unwrap();
        args.insert_repeat = "2s".parse().unwrap();
    })
    .await;
    let index = served.gateway.index();
    shop.publish(index, SHOP_TOKEN, ALL);
    other.publish(index, "other-token", ALL);
    tight.publish(index, "tight-token", ALL);
    Stage {
        engine,
        served,
        shop,
    }
}

/// The shared stage.
pub(crate) fn stage() -> &'static Stage {
    &STAGE
}

impl Stage {
    pub(crate) fn admin(&self) -> Admin {
        Admin::new(self.engine.address)
    }

    /// Somebody who may do everything in the workspace `shop`.
    pub(crate) fn shop(&self) -> Caller {
        self.caller(SHOP_TOKEN)
    }

    pub(crate) fn caller(&self, token: &str) -> Caller {
        Caller::new(self.served.address, token)
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.served.address
    }

    /// Another gateway in front of the same ClickHouse, run in a way of a test's own.
    pub(crate) async fn gateway(&self, change: impl FnOnce(&mut GatewayArgs)) -> Served {
        let served = harness::start_gateway(change).await;
        self.shop.publish(served.gateway.index(), SHOP_TOKEN, ALL);
        served
    }

    /// The same with an access log.
    pub(crate) async fn logging_gateway(
        &self,
        change: impl FnOnce(&mut GatewayArgs),
    ) -> (Served, Log) {
        let (served, log) = harness::start_logging_gateway(change).await;
        self.shop.publish(served.gateway.index(), SHOP_TOKEN, ALL);
        (served, log)
    }

    pub(crate) fn counter(&self, series: &str) -> u64 {
        self.served.counter(series)
    }

    /// The workspace `shop` once more, under another name, with limits and scopes of a test's own.
    pub(crate) fn variant(
        &self,
        change: impl FnOnce(&mut PublishedWorkspace),
        scopes: &[(&str, &str)],
    ) -> Caller {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("variant-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut published = self.shop.published.clone();
        change(&mut published);
        let token = format!("token of {name}");
        self.shop.publish_as(
            self.served.gateway.index(),
            &name,
            &published,
            &token,
            scopes,
        );
        self.caller(&token)
    }
}

/// A mark by which a test finds its own queries and rows.
pub(crate) fn mark() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("mark{}x", NEXT.fetch_add(1, Ordering::Relaxed))
}

//! The `clickhouse` crate.

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};

use super::harness::{PASSWORD, address, database};

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Reading {
    id: u64,
    name: String,
    value: Option<f64>,
    tags: Vec<String>,
}

fn client(database: &str) -> Client {
    Client::default()
        .with_url(format!("http://{}", address()))
        .with_user("default")
        .with_password(PASSWORD)
        .with_database(database)
}

fn readings(count: u64) -> Vec<Reading> {
    (0..count)
        .map(|id| Reading {
            id,
            name: format!("reading {id}"),
            value: (id % 3 != 0).then_some(id as f64 / 4.0),
            tags: (0..id % 4).map(|tag| tag.to_string()).collect(),
        })
        .collect()
}

#[tokio::test]
async fn rows_go_in_and_come_out() {
    let name = database().await;
    for (table, compression) in [
        ("plain", clickhouse::Compression::None),
        ("packed", clickhouse::Compression::Lz4),
    ] {
        let client = client(&name).with_compression(compression);
        client
            .query("CREATE TABLE ? (id UInt64, name String, value Nullable(Float64), tags Array(String)) ENGINE = MergeTree ORDER BY id")
            .bind(clickhouse::sql::Identifier(table))
            .execute()
            .await
            .unwrap();
        let rows = readings(50_000);
        let mut insert = client.insert::<Reading>(table).await.unwrap();
        for row in &rows {
            insert.write(row).await.unwrap();
        }
        insert.end().await.unwrap();
        let found = client
            .query("SELECT ?fields FROM ? ORDER BY id")
            .bind(clickhouse::sql::Identifier(table))
            .fetch_all::<Reading>()
            .await
            .unwrap();
        assert_eq!(found, rows, "{table}");
    }
}

//! The `clickhouse` crate.

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};

use super::shared::{PASSWORD, address, admin, database};

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

#[tokio::test]
async fn values_are_bound_on_the_server() {
    let name = database().await;
    let text = "it's \\ a\ttest\n";
    let found: (String, i64, String) = client(&name)
        .query("SELECT {text:String}, {number:Int64}, {list:Array(String)}[2]")
        .param("text", text)
        .param("number", -5)
        .param("list", vec!["a", "b'c"])
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(found, (text.to_owned(), -5, "b'c".to_owned()));
}

#[tokio::test]
async fn failures_are_understood() {
    let name = database().await;
    for compression in [clickhouse::Compression::None, clickhouse::Compression::Lz4] {
        let client = client(&name).with_compression(compression);
        let error = client
            .query("SELECT * FROM nothing")
            .execute()
            .await
            .unwrap_err();
        assert!(error.to_string().contains("Code: 60."), "{error}");
        // A failure in the middle of the rows.
        let mut rows = client
            .query("SELECT throwIf(number = 3000000, 'in the middle') FROM numbers(4000000)")
            .fetch::<u8>()
            .unwrap();
        let error = loop {
            match rows.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the rows ended as if all were well"),
                Err(error) => break error,
            }
        };
        assert!(
            error.to_string().contains("in the middle"),
            "{compression:?}: {error}"
        );
        let refused = client
            .insert::<Reading>("nothing")
            .await
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(refused.contains("Code: 60."), "{refused}");
    }
}

#[tokio::test]
async fn bytes_and_options_pass() {
    let name = database().await;
    let mut bytes = client(&name)
        .with_setting("max_result_rows", "10")
        .query("SELECT number FROM numbers(3)")
        .fetch_bytes("CSV")
        .unwrap();
    assert_eq!(&bytes.collect().await.unwrap()[..], b"0\n1\n2\n");
    let mut insert = client(&name);
    admin()
        .ok(&format!(
            "CREATE TABLE {name}.t (a UInt8) ENGINE = MergeTree ORDER BY a"
        ))
        .await;
    insert.set_setting("async_insert", "1");
    insert.set_setting("wait_for_async_insert", "1");
    let mut formatted = insert.insert_formatted_with("INSERT INTO t FORMAT CSV");
    formatted.send("1\n2\n".into()).await.unwrap();
    formatted.end().await.unwrap();
    let sum: u64 = client(&name)
        .query("SELECT sum(a) FROM t")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(sum, 3);
}

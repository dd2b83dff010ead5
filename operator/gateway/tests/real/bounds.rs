//! What an upload may use of a gateway, and that it keeps nobody else from theirs.

use super::harness::{Answer, Caller, Served, eventually};
use super::stage::{SHOP_TOKEN, mark, stage};
use reqwest::Method;
use std::io::Write as _;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const APPEND: &str = "/v0/datasources?mode=append&name=";
const ALL: &[(&str, &str)] = &[("DATASOURCES:APPEND", "*")];

async fn parquet(sql: &str) -> Vec<u8> {
    let query = format!("{sql} FORMAT Parquet");
    stage().admin().bytes(&query).await
}

async fn count(city: &str) -> u64 {
    let table = stage().shop.table("sales");
    let sql = format!("SELECT count() FROM {table} WHERE city = '{city}'");
    stage().admin().number(&sql).await
}

/// A client that has begun to send rows.
async fn begun(served: &Served, rows: &str) -> TcpStream {
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST /v0/events?name=sales HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP_TOKEN}\r\nContent-Length: 100000000\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(rows.as_bytes()).await.unwrap();
    client
}

#[tokio::test]
async fn a_client_that_pauses_keeps_nobody_from_memory() {
    let served = stage()
        .gateway(|args| args.insert_memory = "64Ki".parse().unwrap())
        .await;
    let city = mark();
    let row = format!("{{\"id\": 1, \"city\": \"{city}\"}}\n");
    let _pausing = begun(&served, &format!("{row}{{\"id\":")).await;
    // What it has sent is stored meanwhile.
    eventually("the row is stored", async || count(&city).await == 1).await;
    let caller = Caller::new(served.address, SHOP_TOKEN);
    let other = tokio::time::timeout(Duration::from_secs(10), caller.events("sales", row));
    assert_eq!(other.await.expect("it waits for the first"), (1, 0));
}

#[tokio::test]
async fn rows_of_a_client_that_leaves_are_counted() {
    let served = stage().gateway(|_| {}).await;
    let row = "{\"id\": 1, \"city\": \"left\"}\n";
    drop(begun(&served, &row.repeat(3)).await);
    eventually("all rows are counted", async || served.rows("failed") == 3).await;
    assert_eq!(served.rows("stored"), 0);
}

#[tokio::test]
async fn a_client_that_is_slow_lets_others_go_first() {
    let served = stage()
        .gateway(|args| args.insert_memory = "64Ki".parse().unwrap())
        .await;
    // It never pauses, and never ends the line.
    let mut slow = begun(&served, &format!("{{\"city\": \"{}", "x".repeat(100_000))).await;
    let trickling = tokio::spawn(async move {
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let caller = Caller::new(served.address, SHOP_TOKEN);
    let row = "{\"id\": 1, \"city\": \"slow\"}";
    let other = tokio::time::timeout(Duration::from_secs(20), caller.events("sales", row));
    assert_eq!(other.await.expect("it waits for the first"), (1, 0));
    trickling.abort();
}

#[tokio::test]
async fn rows_pass_through_little_memory() {
    let served = stage()
        .gateway(|args| args.insert_memory = "128Ki".parse().unwrap())
        .await;
    let caller = Caller::new(served.address, SHOP_TOKEN);
    let city = mark();
    let long = "x".repeat(1_000_000);
    let csv = format!("1,{city}\n2,\"{long}\n\"\n3,{city}\n");
    assert_eq!(caller.csv("sales", csv).await, (3, 0));
    let select = format!("SELECT number::Int32 AS id, '{city}' AS city FROM numbers(100000)");
    let path = format!("{APPEND}sales&format=parquet");
    let uploads = (0..3).map(|_| async {
        let answer = caller.post(&path, parquet(&select).await).await;
        assert_eq!(answer.counts(), (100_000, 0), "{}", answer.text());
    });
    futures::future::join_all(uploads).await;
    assert_eq!(count(&city).await, 300_002);
}

#[tokio::test]
async fn parquet_is_measured_as_the_rows_it_holds() {
    let caller = stage().variant(|published| published.body_size_bytes = 1_000_000, ALL);
    let file =
        parquet("SELECT 1::Int32 AS id, repeat('x', 1000) AS city FROM numbers(100000)").await;
    assert!(file.len() < 500_000);
    let answer = caller
        .post(&format!("{APPEND}sales&format=parquet"), file)
        .await;
    let refused = (answer.status, answer.code());
    assert_eq!(refused, (413, "body_too_large".to_owned()));
    let acknowledged = answer.json()["acknowledged_rows"].as_u64().unwrap();
    assert!(acknowledged < 1000, "{acknowledged}");
}

#[tokio::test]
async fn parquet_without_any_column_is_refused() {
    let file = parquet("SELECT 1 AS stranger FROM numbers(10)").await;
    let answer = stage()
        .shop()
        .post(&format!("{APPEND}sales&format=parquet"), file)
        .await;
    let refused = (answer.status, answer.code());
    assert_eq!(refused, (400, "body_invalid".to_owned()));
    let reason = "none of the data source's columns";
    assert!(answer.text().contains(reason), "{}", answer.text());
}

#[tokio::test]
async fn zstd_may_look_back_eight_mebibytes() {
    let city = mark();
    let row = format!("{{\"id\": 1, \"city\": \"{city}\"}}\n");
    let send = async |window_bits: u32| {
        let mut packing = zstd::Encoder::new(Vec::new(), 1).unwrap();
        packing.window_log(window_bits).unwrap();
        packing.write_all(row.as_bytes()).unwrap();
        packing.flush().unwrap();
        let request = stage()
            .shop()
            .request(Method::POST, "/v0/events?name=sales&wait=true")
            .header("content-encoding", "zstd")
            .body(packing.finish().unwrap());
        Answer::of(request).await
    };
    assert_eq!(send(23).await.counts(), (1, 0));
    let refused = send(24).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(refused.code(), "body_invalid");
    assert!(refused.text().contains("8 MiB"), "{}", refused.text());
}

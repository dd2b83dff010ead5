//! What an upload may use of a gateway, and that it keeps nobody else from theirs.

use super::harness::{ALL, Answer, Caller, Served, eventually};
use super::stage::{SHOP_TOKEN, mark, stage};
use aviary_crds::ByteSize;
use aviary_gateway::GatewayArgs;
use futures::future::select_all;
use reqwest::Method;
use std::io::Write as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const APPEND: &str = "/v0/datasources?mode=append&name=";
async fn parquet(sql: &str) -> Vec<u8> {
    let query = format!("{sql} FORMAT Parquet");
    stage().admin().bytes(&query).await
}

async fn count(city: &str) -> u64 {
    let table = stage().shop.table("sales");
    let sql = format!("SELECT count() FROM {table} WHERE city = '{city}'");
    stage().admin().number(&sql).await
}

const NEIGHBOUR_TOKEN: &str = "neighbour-token";

/// A gateway of a test's own that serves a second workspace beside `shop`.
async fn gateway(change: impl FnOnce(&mut GatewayArgs)) -> Served {
    let served = stage().gateway(change).await;
    let shop = &stage().shop;
    let index = served.gateway.index();
    shop.publish_as(index, "neighbour", &shop.published, NEIGHBOUR_TOKEN, ALL);
    served
}

fn size(text: &str) -> ByteSize {
    text.parse().unwrap()
}

/// Bytes that a gateway counts as held for a use.
fn held(served: &Served, r#use: &str) -> usize {
    let name = format!("aviary_gateway_memory_held_bytes{{use=\"{use}\"}} ");
    let text = served.gateway.metrics().encode();
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap().parse().unwrap()
}

/// A client that has begun to send a body.
async fn begun(served: &Served, headers: &str, start: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST /v0/events?name=sales HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP_TOKEN}\r\nContent-Length: 100000000\r\n{headers}\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(start).await.unwrap();
    client
}

/// The neighbour's event is taken, and so soon that it cannot have waited for others.
async fn neighbour_is_served(served: &Served) {
    let neighbour = Caller::new(served.address, NEIGHBOUR_TOKEN);
    let row = "{\"id\": 1, \"city\": \"neighbour\"}";
    let served = tokio::time::timeout(Duration::from_secs(5), neighbour.events("sales", row));
    assert_eq!(served.await.expect("it waits for the others"), (1, 0));
}

/// The start of the answer, as far as it comes at once.
async fn answer_of(client: &mut TcpStream) -> String {
    let mut received = vec![0; 4096];
    let length = client.read(&mut received).await.unwrap();
    String::from_utf8_lossy(&received[..length]).into_owned()
}

#[tokio::test]
async fn a_client_that_pauses_keeps_nobody_from_memory() {
    let served = gateway(|args| args.insert_memory = Some(size("1Mi"))).await;
    let city = mark();
    let row = format!("{{\"id\": 1, \"city\": \"{city}\"}}\n");
    let mut pausing = Vec::new();
    for _ in 0..4 {
        let start = format!("{row}{{\"id\":");
        pausing.push(begun(&served, "", start.as_bytes()).await);
    }
    // What they have sent is stored meanwhile.
    eventually("the rows are stored", async || count(&city).await == 4).await;
    let caller = Caller::new(served.address, SHOP_TOKEN);
    assert_eq!(caller.events("sales", row).await, (1, 0));
    drop(pausing);
    eventually("all is given back", async || held(&served, "rows") == 0).await;
}

#[tokio::test]
async fn rows_of_a_client_that_leaves_are_counted() {
    let served = stage().gateway(|_| {}).await;
    let row = "{\"id\": 1, \"city\": \"left\"}\n";
    drop(begun(&served, "", row.repeat(3).as_bytes()).await);
    eventually("all rows are counted", async || served.rows("failed") == 3).await;
    assert_eq!(served.rows("stored"), 0);
}

#[tokio::test]
async fn uploads_of_one_workspace_wait_for_each_other_and_no_other_for_them() {
    let served = gateway(|args| args.insert_memory = Some(size("4Mi"))).await;
    let line = format!("{{\"city\": \"{}", "x".repeat(100_000));
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(begun(&served, "", line.as_bytes()).await);
    }
    eventually("the share is used up", async || {
        held(&served, "rows") > 5 << 18
    })
    .await;
    neighbour_is_served(&served).await;
    assert!(held(&served, "rows") < 5 << 19, "{}", held(&served, "rows"));
    // Those of the workspace itself are told so.
    let own = Caller::new(served.address, SHOP_TOKEN);
    let path = "/v0/events?name=sales&wait=true";
    let refused = own.post(path, "{\"id\": 1}\n").await;
    if refused.status != 200 {
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (503, "memory_in_use")
        );
        assert_eq!(refused.header("retry-after"), "2");
    }
    drop(slow);
    eventually("all is given back", async || held(&served, "rows") == 0).await;
}

#[tokio::test]
async fn windows_of_decoders_are_counted_before_they_are_made() {
    let served = gateway(|args| args.insert_memory = Some(size("64Mi"))).await;
    let mut packing = zstd::Encoder::new(Vec::new(), 1).unwrap();
    packing.window_log(23).unwrap();
    packing.write_all(&vec![b'\n'; 8 << 20]).unwrap();
    packing.flush().unwrap();
    let bomb = packing.finish().unwrap();
    assert!(bomb.len() < 10_000);
    let mut open = Vec::new();
    for _ in 0..12 {
        open.push(begun(&served, "Content-Encoding: zstd\r\n", &bomb).await);
    }
    eventually("the share is used up", async || {
        held(&served, "rows") > 24 << 20
    })
    .await;
    neighbour_is_served(&served).await;
    assert!(
        held(&served, "rows") <= 33 << 20,
        "{}",
        held(&served, "rows")
    );
    // Those who got their window wait for more of the body for longer than the others wait for room.
    let answers = open.iter_mut().map(|client| Box::pin(answer_of(client)));
    let first = tokio::time::timeout(Duration::from_secs(25), select_all(answers)).await;
    let (refused, ..) = first.expect("nobody is refused");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        refused.contains("retry-after: 2") && refused.contains("memory_in_use"),
        "{refused}"
    );
}

#[tokio::test]
async fn empty_rows_are_no_way_to_more_memory() {
    let served = gateway(|args| {
        args.insert_memory = Some(size("8Mi"));
        args.insert_block = "1Mi".parse().unwrap();
    })
    .await;
    let rows = 300_000;
    let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packing.write_all("{}\n".repeat(rows).as_bytes()).unwrap();
    let caller = Caller::new(served.address, SHOP_TOKEN);
    let request = caller
        .request(Method::POST, "/v0/events?name=direct&wait=true")
        .header("content-encoding", "gzip")
        .body(packing.finish().unwrap());
    let sending = tokio::spawn(Answer::of(request));
    let mut most = 0;
    while !sending.is_finished() {
        most = most.max(held(&served, "rows"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (stored, quarantined) = sending.await.unwrap().counts();
    assert_eq!(stored + quarantined, rows as u64);
    assert!((1 << 19..=6 << 20).contains(&most), "{most}");
}

#[tokio::test]
async fn an_upload_too_many_is_refused_at_once() {
    let served = gateway(|args| args.uploads_per_workspace = 2).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = begun(&served, "Expect: 100-continue\r\n", b"{").await;
        // Its body is asked for, so it is in.
        let answer = answer_of(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 100"), "{answer}");
        open.push(client);
    }
    let caller = Caller::new(served.address, SHOP_TOKEN);
    let path = "/v0/events?name=sales&wait=true";
    let refused = caller.post(path, "{\"id\": 1}\n").await;
    assert_eq!(refused.code(), "too_many_uploads");
    assert_eq!(refused.header("retry-after"), "1");
    neighbour_is_served(&served).await;
    drop(open);
    eventually("there is room again", async || {
        caller.post(path, "{\"id\": 1}\n").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn large_answers_are_counted_and_small_ones_find_room() {
    let served = gateway(|args| args.answer_memory = Some(size("512Ki"))).await;
    let caller = Caller::new(served.address, SHOP_TOKEN);
    let path = format!("/v0/pipes/endless.ndjson?mark={}", mark());
    let mut open = caller.request(Method::GET, &path).send().await.unwrap();
    assert!(open.chunk().await.unwrap().is_some());
    assert!(held(&served, "answers") >= 256 << 10);
    let refused = caller.get("/v0/pipes/numbers.csv?count=100000").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "memory_in_use")
    );
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(caller.get("/v0/pipes/echo.json?needed=1").await.status, 200);
    drop(open);
    eventually("all is given back", async || held(&served, "answers") == 0).await;
    let whole = caller.get("/v0/pipes/numbers.csv?count=100000").await;
    assert_eq!((whole.status, whole.text().lines().count()), (200, 100_001));
}

#[tokio::test]
async fn rows_pass_through_little_memory() {
    let served = gateway(|args| args.insert_memory = Some(size("8Mi"))).await;
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

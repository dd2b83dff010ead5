//! Output and input of any size: streamed, cut, cancelled.

use std::time::{Duration, Instant};

use futures::StreamExt as _;

use super::harness::{PATIENCE, finish, unique};
use super::shared::{PASSWORD, address, admin, database};

/// Whether a query with this text runs, as a query.
fn running(mark: &str) -> String {
    format!(
        "SELECT count() FROM system.processes WHERE query LIKE '%{mark}%' AND query NOT LIKE '%processes%'"
    )
}

#[tokio::test]
async fn output_flows_before_the_query_ends() {
    let started = Instant::now();
    let response = admin()
        .request(reqwest::Method::POST)
        .body("SELECT number, sleepEachRow(0.000001) FROM numbers(10000000000) FORMAT TSV")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let first = response.bytes_stream().next().await.unwrap().unwrap();
    assert!(first.starts_with(b"0\t0\n1\t0\n"));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_reader_who_leaves_ends_the_query() {
    let mark = unique("leaves");
    let response = admin()
        .request(reqwest::Method::POST)
        .body(format!(
            "SELECT number, '{mark}' FROM numbers(100000000000)"
        ))
        .send()
        .await
        .unwrap();
    let mut stream = response.bytes_stream();
    for _ in 0..10 {
        stream.next().await.unwrap().unwrap();
    }
    admin().eventually(&running(&mark), "1\n").await;
    drop(stream);
    admin().eventually(&running(&mark), "0\n").await;
}

#[tokio::test]
async fn a_client_who_does_not_wait_ends_the_query() {
    for query in [
        "SELECT count(), '{}' FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
        "SELECT count(), '{}' FROM numbers(1000000000000) WHERE sipHash64(number) = 1 FORMAT JSON",
        "SELECT number, '{}' FROM numbers(1000000000000) FORMAT JSON",
        "EXPLAIN ANALYZE SELECT count(), '{}' FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
        "INSERT INTO FUNCTION null('a UInt64, b String') SELECT sipHash64(number), '{}' FROM numbers(1000000000000)",
    ] {
        let mark = unique("waits");
        let text = query.replace("{}", &mark);
        let client = admin().with("wait_end_of_query", "1");
        let client = tokio::spawn(async move { client.post(text).await });
        admin().eventually(&running(&mark), "1\n").await;
        client.abort();
        admin().eventually(&running(&mark), "0\n").await;
    }
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_told_in_the_stream() {
    let mut response = admin()
        .request(reqwest::Method::POST)
        .body("SELECT number, throwIf(number = 2000000, 'in the middle') FROM numbers(3000000)")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let tag = response.headers()["x-clickhouse-exception-tag"]
        .to_str()
        .unwrap()
        .to_owned();
    let mut body = Vec::new();
    let cut = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(cut, "the connection must not end as if all were well");
    let text = String::from_utf8(body).unwrap();
    let (_, tail) = text.split_once("\r\n__exception__\r\n").unwrap();
    let message = tail
        .strip_prefix(&format!("{tag}\r\n"))
        .and_then(|tail| tail.strip_suffix(&format!(" {tag}\r\n__exception__\r\n")))
        .unwrap();
    let (message, length) = message.rsplit_once('\n').unwrap();
    assert!(
        message.starts_with("Code: 395. DB::Exception: in the middle"),
        "{message}"
    );
    assert_eq!(length.parse::<usize>().unwrap(), message.len() + 1);
}

#[tokio::test]
async fn a_large_body_is_inserted_while_it_comes() {
    let name = database().await;
    let here = admin().with("database", &name);
    here.ok("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let pieces = futures::stream::iter(0..200_u64).map(|piece| {
        let rows: String = (0..5000)
            .map(|row| format!("{}\n", piece * 5000 + row))
            .collect();
        Ok::<_, std::io::Error>(rows)
    });
    let insert = here
        .with("query", "INSERT INTO t FORMAT TSV")
        .request(reqwest::Method::POST)
        .body(reqwest::Body::wrap_stream(pieces));
    let answer = finish(insert).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        here.ok("SELECT count(), sum(a), uniqExact(a) FROM t").await,
        "1000000\t499999500000\t1000000\n"
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_acknowledged() {
    let name = database().await;
    let here = admin().with("database", &name);
    here.ok("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let mark = unique("broken");
    let pieces = futures::stream::iter(["1\n2\n", "3\n"])
        .map(|rows| Ok::<_, std::io::Error>(rows.to_owned()))
        .chain(futures::stream::once(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(std::io::Error::other("the client breaks off"))
        }));
    let insert = here
        .with(
            "query",
            &format!("INSERT INTO t SETTINGS log_comment = '{mark}' FORMAT TSV"),
        )
        .request(reqwest::Method::POST)
        .body(reqwest::Body::wrap_stream(pieces))
        .send()
        .await;
    assert!(insert.is_err(), "{insert:?}");
    here.eventually(&running(&mark), "0\n").await;
    assert_eq!(here.ok("SELECT count() FROM t").await, "0\n");
}

#[tokio::test]
async fn many_queries_run_side_by_side() {
    let queries = (0..40_u64).map(|number| async move {
        let query = format!("SELECT {number}, sleep(0.2)");
        assert_eq!(admin().ok(&query).await, format!("{number}\t0\n"));
    });
    let started = Instant::now();
    futures::future::join_all(queries).await;
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
}

/// Sends a request as its bytes are, all of it before the answer is looked at.
fn send_all(head: &str, body: &[u8]) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{head}\r\nHost: engine\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    for piece in body.chunks(64 * 1024) {
        stream.write_all(piece)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn a_large_upload_that_fails_early_is_told_why() {
    let rows = b"1\n".repeat(3 << 20);
    for (user, code) in [
        (
            format!("X-ClickHouse-User: default\r\nX-ClickHouse-Key: {PASSWORD}"),
            60,
        ),
        (
            "X-ClickHouse-User: default\r\nX-ClickHouse-Key: wrong".to_owned(),
            516,
        ),
    ] {
        let head = format!("POST /?query=INSERT+INTO+no_table+FORMAT+TSV HTTP/1.1\r\n{user}");
        let rows = rows.clone();
        let answer = tokio::task::spawn_blocking(move || send_all(&head, &rows))
            .await
            .unwrap()
            .unwrap();
        assert!(
            answer.contains(&format!("x-clickhouse-exception-code: {code}\r\n")),
            "{answer}"
        );
    }
}

//! What a workspace may use, and what those are told who want more.

use super::harness::{ALL, Answer, Caller, Served, eventually};
use super::stage::{SHOP_TOKEN, mark, stage};
use reqwest::Method;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

#[tokio::test]
async fn a_burst_of_twice_the_rate_and_no_more() {
    let caller = stage().variant(|published| published.requests_per_second = 5, ALL);
    let answers = futures::future::join_all((0..40).map(|_| caller.get("/v0/pipes"))).await;
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((10..=20).contains(&good), "{good}");
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.code(), "rate_limited");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.header("x-ratelimit-limit"), "5");
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
}

#[tokio::test]
async fn queries_at_once() {
    let caller = stage().variant(|published| published.concurrent_queries = 2, ALL);
    let path = format!("/v0/pipes/endless.ndjson?mark={}", mark());
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut response = caller.request(Method::GET, &path).send().await.unwrap();
        assert!(response.chunk().await.unwrap().is_some());
        open.push(response);
    }
    let refused = caller.get("/v0/pipes/echo.json?needed=1").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "too_many_queries")
    );
    assert_eq!(refused.header("retry-after"), "1");
    drop(open);
    eventually("a slot is free", async || {
        caller.get("/v0/pipes/echo.json?needed=1").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn time_and_memory_are_bounded_by_clickhouse() {
    let tight = stage().caller("tight-token");
    let slow = tight.get("/v0/pipes/slow.json").await;
    assert_eq!(
        (slow.status, slow.code().as_str()),
        (408, "query_timeout"),
        "{}",
        slow.text()
    );
    assert!(slow.text().contains("1000 ms"), "{}", slow.text());
    let large = tight.get("/v0/pipes/large.json").await;
    assert_eq!(
        (large.status, large.code().as_str()),
        (422, "query_too_large"),
        "{}",
        large.text()
    );
    // What a tenant writes into the SQL cannot lift the limit.
    let unbound = tight.get("/v0/pipes/unbound.json").await;
    assert!(
        matches!(unbound.status, 403 | 408),
        "{}: {}",
        unbound.status,
        unbound.text()
    );
}

/// ClickHouse breaks the connection off at the limit, which must not pass for a lost one.
#[tokio::test]
async fn an_answer_that_the_time_limit_cuts_is_said_to_be() {
    let tight = stage().caller("tight-token");
    // Its first rows are held back, so that there still is a status to say it in.
    let short = tight.get("/v0/pipes/trickle.ndjson").await;
    assert_eq!(
        (short.status, short.code().as_str()),
        (408, "query_timeout"),
        "{}",
        short.text()
    );
    let cut = || stage().counter("aviary_gateway_answers_cut_total{cause=\"limit\"}");
    let before = cut();
    let request = tight.request(Method::GET, "/v0/pipes/endless.ndjson");
    let mut endless = request.send().await.unwrap();
    assert_eq!(endless.status(), 200);
    while let Ok(piece) = endless.chunk().await {
        assert!(piece.is_some(), "the answer looks complete");
    }
    assert_eq!(cut(), before + 1);
}

#[tokio::test]
async fn bodies_are_measured_after_decompression() {
    let caller = stage().variant(|published| published.body_size_bytes = 2000, ALL);
    let rows = "{\"id\": 1, \"city\": \"Bonn\"}\n".repeat(1000);
    let plain = caller.post("/v0/events?name=sales", rows.clone()).await;
    assert_eq!(
        (plain.status, plain.code().as_str()),
        (413, "body_too_large")
    );
    let packed = zstd::encode_all(rows.as_bytes(), 3).unwrap();
    assert!(packed.len() < 2000);
    let request = caller
        .request(Method::POST, "/v0/events?name=sales")
        .header("content-encoding", "zstd")
        .body(packed);
    let answer = Answer::of(request).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "body_too_large")
    );
    assert_eq!(answer.json()["acknowledged_rows"], 0);
}

#[tokio::test]
async fn a_head_has_a_bound() {
    let long = "y".repeat(17_000);
    for request in [
        // Whatever else is to come.
        format!("GET / HTTP/1.1\r\nX: {long}"),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"),
    ] {
        let mut client = TcpStream::connect(stage().address()).await.unwrap();
        // The gateway may close while the rest is being written.
        let _ = client.write_all(request.as_bytes()).await;
        let mut received = Vec::new();
        let _ = client.read_to_end(&mut received).await;
        let text = String::from_utf8_lossy(&received);
        assert!(
            text.starts_with("HTTP/1.1 414") || text.starts_with("HTTP/1.1 431"),
            "{text}"
        );
    }
    let near = format!(
        "/v0/pipes/echo.json?needed=1&unknown={}",
        "y".repeat(15_000)
    );
    assert_eq!(stage().shop().get(&near).await.status, 200);
}

/// An answer to a client that comes from this address of the machine itself.
async fn ask_from(address: [u8; 4], served: &Served) -> (TcpStream, String) {
    ask_at(served.address, address).await
}

async fn ask_at(server: SocketAddr, address: [u8; 4]) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    let mut client = socket.connect(server).await.unwrap();
    // A client that is refused may find the connection closed already.
    let _ = client
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let mut received = vec![0; 1024];
    let length = client.read(&mut received).await.unwrap();
    received.truncate(length);
    (client, String::from_utf8(received).unwrap())
}

#[tokio::test]
async fn connections_have_a_bound_for_all_and_one_for_each_address() {
    let served = stage()
        .gateway(|args| {
            args.connections = Some(3);
            args.connections_per_address = Some(2);
        })
        .await;
    let (here, there) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let mut open = Vec::new();
    for address in [here, here, there] {
        let (client, answer) = ask_from(address, &served).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        open.push(client);
    }
    for address in [here, there] {
        let (mut client, answer) = ask_from(address, &served).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("Retry-After: 1\r\n"), "{answer}");
        assert!(answer.contains("\"too_many_connections\""), "{answer}");
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    }
    open.pop();
    let (_, answer) = ask_from(here, &served).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    eventually("another address is let in", async || {
        ask_from(there, &served).await.1.starts_with("HTTP/1.1 200")
    })
    .await;
}

/// Whoever has many connections to the port for metrics keeps nobody else from his probes.
#[tokio::test]
async fn connections_for_metrics_have_a_bound_for_all_and_one_for_each_address() {
    let served = stage().gateway(|_| {}).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap();
    let gateway = served.gateway.clone();
    tokio::spawn(async move { gateway.serve_metrics(listener).await });
    let address = |number: u8| [127, 0, 0, number];
    let mut open = Vec::new();
    for number in 1..=4 {
        for _ in 0..32 {
            let (client, answer) = ask_at(port, address(number)).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            open.push(client);
        }
        if number == 1 {
            let (_, answer) = ask_at(port, address(number)).await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        }
    }
    let (_, answer) = ask_at(port, address(5)).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    open.pop();
    eventually("another address is let in", async || {
        ask_at(port, address(5)).await.1.starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn many_unknown_tokens_are_not_even_looked_at() {
    let served = stage()
        .gateway(|args| args.failed_logins_per_address = 1)
        .await;
    let caller = |token: &str| Caller::new(served.address, token);
    let shop = caller(SHOP_TOKEN);
    assert_eq!(shop.get("/v0/pipes").await.status, 200);
    let index = served.gateway.index();
    let published = &stage().shop.published;
    stage()
        .shop
        .publish_as(index, "new", published, "new-token", ALL);
    let mut refused = None;
    for number in 0..20 {
        let answer = caller(&format!("wrong-{number}")).get("/v0/pipes").await;
        match answer.status {
            401 => {}
            _ => refused = Some(answer),
        }
    }
    let refused = refused.expect("all are looked at");
    let told = (refused.status, refused.code());
    assert_eq!(told, (429, "too_many_attempts".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(caller("new-token").get("/v0/pipes").await.status, 429);
    // Who has worked from this address is not held back, over an old connection or a new one.
    assert_eq!(shop.get("/v0/pipes").await.status, 200);
    assert_eq!(caller(SHOP_TOKEN).get("/v0/pipes").await.status, 200);
    eventually("a new token is looked at", async || {
        caller("new-token").get("/v0/pipes").await.status == 200
    })
    .await;
}

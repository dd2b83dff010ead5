//! Answers: formats, parameters, errors, and what becomes of a query when its
//! client leaves.

use super::harness::{Answer, Served, eventually};
use super::stage::{SHOP_TOKEN, mark, stage};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn every_format_comes_as_clickhouse_writes_it() {
    let caller = stage().shop();
    let json = caller.get("/v0/pipes/numbers.json?count=2").await;
    assert_eq!(json.status, 200, "{}", json.text());
    assert_eq!(
        json.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(json.header("content-length"), json.body.len().to_string());
    let body = json.json();
    assert_eq!(
        body["meta"],
        json!([{ "name": "n", "type": "UInt64" }, { "name": "text", "type": "String" }])
    );
    assert_eq!(
        body["data"],
        json!([{ "n": 0, "text": "0" }, { "n": 1, "text": "1" }])
    );
    assert_eq!(body["rows"], 2);
    assert!(body["statistics"]["elapsed"].is_number());

    let csv = caller.get("/v0/pipes/numbers.csv?count=2").await;
    assert_eq!(csv.text(), "\"n\",\"text\"\n0,\"0\"\n1,\"1\"\n");
    assert!(csv.header("content-type").starts_with("text/csv"));

    let ndjson = caller.get("/v0/pipes/numbers.ndjson?count=2").await;
    assert_eq!(
        ndjson.text(),
        "{\"n\":0,\"text\":\"0\"}\n{\"n\":1,\"text\":\"1\"}\n"
    );

    let parquet = caller.get("/v0/pipes/numbers.parquet?count=2").await;
    assert!(parquet.body.starts_with(b"PAR1") && parquet.body.ends_with(b"PAR1"));

    let empty = caller.get("/v0/pipes/numbers.ndjson?count=0").await;
    assert_eq!((empty.status, empty.body.len()), (200, 0));
}

#[tokio::test]
async fn a_large_answer_is_streamed_whole() {
    let answer = stage()
        .shop()
        .get("/v0/pipes/numbers.ndjson?count=1000000")
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), "");
    let text = answer.text();
    assert_eq!(text.lines().count(), 1_000_000);
    assert_eq!(
        text.lines().last(),
        Some("{\"n\":999999,\"text\":\"999999\"}")
    );
}

#[tokio::test]
async fn parameters_come_from_query_form_and_json() {
    let caller = stage().shop();
    let row = |answer: &Answer| answer.json()["data"][0].clone();
    let answer = caller.get("/v0/pipes/echo.json?needed=1").await;
    assert_eq!(
        row(&answer),
        json!({ "number": 7, "word": "none", "ids": [1, 2], "needed": 1 })
    );
    let answer = caller.get("/v0/pipes/echo.json?needed=2&word=a%26b%3D+%3B&ids=4&ids=9223372036854775807&unknown=1").await;
    assert_eq!(
        row(&answer),
        json!({ "number": 7, "word": "a&b= ;", "ids": [4, 9_223_372_036_854_775_807_i64], "needed": 2 })
    );
    let request = caller
        .request(Method::POST, "/v0/pipes/echo.json?needed=9&number=1")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("needed=3&ids=5%2C6");
    assert_eq!(
        row(&Answer::of(request).await),
        json!({ "number": 1, "word": "none", "ids": [5, 6], "needed": 3 })
    );
    let request = caller
        .request(Method::POST, "/v0/pipes/echo.json")
        .json(&json!({ "needed": 4, "word": "hi", "ids": [], "number": null }));
    assert_eq!(
        row(&Answer::of(request).await),
        json!({ "number": 7, "word": "hi", "ids": [], "needed": 4 })
    );
}

#[tokio::test]
async fn times_are_taken_as_javascript_writes_them() {
    let caller = stage().shop();
    let time = "2024-08-12T21:31:12.269Z";
    let path = format!("/v0/pipes/given.json?second={time}&moment={time}");
    let row = &caller.get(&path).await.json()["data"][0];
    assert_eq!(row["second"], "2024-08-12 21:31:12");
    assert_eq!(row["moment"], "2024-08-12 21:31:12.269000");
    assert_eq!(row["unix"], 1_723_498_272);
    let request = caller
        .request(Method::POST, "/v0/pipes/given.json")
        .json(&json!({ "second": "2024-08-12T23:31:12+02:00", "moment": 1_723_498_272_269_i64 }));
    let row = &Answer::of(request).await.json()["data"][0];
    assert_eq!(row["second"], "2024-08-12 21:31:12");
    assert_eq!(row["moment"], "2024-08-12 21:31:12.269000");
}

#[tokio::test]
async fn commas_in_the_elements_of_a_json_list_are_theirs() {
    let caller = stage().shop();
    for (given, words) in [
        (json!(["a,b"]), json!(["a,b"])),
        (json!([""]), json!([""])),
        (json!(["a,b", "c"]), json!(["a,b", "c"])),
        (json!([]), json!([])),
        (json!("a,b"), json!(["a", "b"])),
    ] {
        let request = caller
            .request(Method::POST, "/v0/pipes/given.json")
            .json(&json!({ "words": given }));
        let answer = Answer::of(request).await;
        assert_eq!(answer.json()["data"][0]["words"], words, "{given}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_leave_valid_json() {
    let caller = stage().shop();
    let expected =
        json!({ "text": "a\u{fffd}b", "list": ["\u{fffd}"], "map": { "\u{fffd}": "\u{fffd}" } });
    let whole = caller.get("/v0/pipes/binary.json").await.body;
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["data"][0], expected);
    let line = caller.get("/v0/pipes/binary.ndjson").await.body;
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(line, expected);
}

#[tokio::test]
async fn errors_of_parameters_name_them() {
    let caller = stage().shop();
    for (query, code, parameter) in [
        ("", "parameter_missing", "needed"),
        ("needed=256", "parameter_invalid", "needed"),
        ("needed=1&needed=2", "parameter_invalid", "needed"),
        ("needed=1&number=x", "parameter_invalid", "number"),
        ("needed=1&word=other", "parameter_invalid", "word"),
        ("needed=1&ids=1,x", "parameter_invalid", "ids"),
    ] {
        let answer = caller.get(&format!("/v0/pipes/echo.json?{query}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, code),
            "{query}"
        );
        let body = answer.json();
        assert_eq!(body["parameters"], json!([parameter]), "{query}");
        assert!(
            body["error"].as_str().unwrap().contains(parameter),
            "{body}"
        );
        assert_eq!(body["request_id"], answer.header("x-request-id"));
    }
}

#[tokio::test]
async fn settings_are_not_parameters() {
    let caller = stage().shop();
    for query in [
        "max_result_rows=1",
        "default_format=CSV",
        "query=SELECT+1",
        "database=system",
        "readonly=0",
    ] {
        let answer = caller
            .get(&format!("/v0/pipes/numbers.json?count=2&{query}"))
            .await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        assert_eq!(answer.json()["rows"], 2, "{query}");
    }
}

#[tokio::test]
async fn addresses_methods_and_tokens_are_checked() {
    let caller = stage().shop();
    let status = async |method: Method, path: &str| {
        let answer = Answer::of(caller.request(method, path)).await;
        (answer.status, answer.code())
    };
    assert_eq!(
        status(Method::GET, "/v0/pipes/nothing.json").await,
        (404, "pipe_unknown".to_owned())
    );
    assert_eq!(
        status(Method::GET, "/v0/pipes/echo.xml").await,
        (404, "route_unknown".to_owned())
    );
    assert_eq!(
        status(Method::DELETE, "/v0/pipes/echo.json").await,
        (405, "method_not_allowed".to_owned())
    );
    assert_eq!(
        status(Method::POST, "/v0/events?name=nothing").await,
        (404, "datasource_unknown".to_owned())
    );

    let stranger = stage()
        .caller("no such token")
        .get("/v0/pipes/echo.json")
        .await;
    assert_eq!(
        (stranger.status, stranger.code().as_str()),
        (401, "token_invalid")
    );
    assert!(!stranger.text().contains("no such token"));
    let address = stage().address();
    let nobody =
        Answer::of(reqwest::Client::new().get(format!("http://{address}/v0/pipes/echo.json")))
            .await;
    assert_eq!(
        (nobody.status, nobody.header("www-authenticate")),
        (401, "Bearer")
    );
    let in_url = Answer::of(reqwest::Client::new().get(format!(
        "http://{address}/v0/pipes/echo.json?needed=1&token=shop-token"
    )))
    .await;
    assert_eq!(in_url.status, 200);
}

#[tokio::test]
async fn scopes_are_kept_whether_or_not_a_thing_exists() {
    let reader = stage().variant(
        |_| {},
        &[("PIPES:READ", "echo"), ("DATASOURCES:APPEND", "sales")],
    );
    assert_eq!(reader.get("/v0/pipes/echo.json?needed=1").await.status, 200);
    for pipe in ["numbers", "nothing"] {
        let answer = reader.get(&format!("/v0/pipes/{pipe}.json")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "scope_missing"),
            "{pipe}"
        );
    }
    for data_source in ["orders", "nothing", "echo"] {
        let answer = reader
            .post(&format!("/v0/events?name={data_source}"), "{}")
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "scope_missing"),
            "{data_source}"
        );
    }
}

#[tokio::test]
async fn an_exception_before_the_answer_is_an_error_in_words() {
    let caller = stage().shop();
    let answer = caller.get("/v0/pipes/breaks.json?at=5").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (500, "query_failed"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-db-exception-code"), "395");
    for noise in [
        "DB::Exception",
        "version",
        "Stack trace",
        "__exception__",
        "breaks",
    ] {
        assert!(!answer.text().contains(noise), "{}", answer.text());
    }
}

#[tokio::test]
async fn an_exception_in_the_middle_breaks_the_transfer_off() {
    let cut = || stage().counter("aviary_gateway_answers_cut_total{cause=\"failure\"}");
    let before = cut();
    for format in ["json", "csv", "ndjson"] {
        let path = format!("/v0/pipes/breaks.{format}?at=5000000");
        let mut response = stage()
            .shop()
            .request(Method::GET, &path)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let mut received = Vec::new();
        let failed = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => received.extend_from_slice(&chunk),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        let text = String::from_utf8_lossy(&received);
        assert!(
            failed,
            "{format}: an answer of {} bytes looks complete",
            received.len()
        );
        assert!(received.len() > 1_000_000, "{format}");
        assert!(
            !text.contains("Exception") && !text.contains("__exception__"),
            "{format}"
        );
    }
    assert_eq!(cut(), before + 3);
}

/// All that comes of a request over HTTP/1.0, and how it ends.
async fn over_http_1_0(served: &Served, path: &str) -> (Vec<u8>, std::io::Result<usize>) {
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nAuthorization: Bearer {SHOP_TOKEN}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let end = client.read_to_end(&mut received).await;
    (received, end)
}

#[tokio::test]
async fn over_http_1_0_what_is_cut_does_not_look_whole() {
    let served = stage().gateway(|_| {}).await;
    let (received, end) = over_http_1_0(&served, "/v0/pipes/breaks.ndjson?at=5000000").await;
    assert!(received.starts_with(b"HTTP/1.0 200"));
    let error = end.expect_err("it looks whole");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let (received, end) = over_http_1_0(&served, "/v0/pipes/numbers.csv?count=300000").await;
    assert!(end.is_ok(), "{end:?}");
    let text = String::from_utf8(received).unwrap();
    let (_, rows) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(rows.lines().count(), 300_001);
    assert!(text.ends_with("299999,\"299999\"\n"));
}

#[tokio::test]
async fn curl_sees_over_http_1_0_that_an_answer_is_cut() {
    let served = stage().gateway(|_| {}).await;
    let curl = async |path: &str| {
        let url = format!("http://{}{path}", served.address);
        let token = format!("Authorization: Bearer {SHOP_TOKEN}");
        let mut command = tokio::process::Command::new("curl");
        command.args([
            "-0",
            "--silent",
            "--output",
            "/dev/null",
            "--header",
            &token,
            &url,
        ]);
        command.status().await
    };
    // A machine without curl has the test above.
    if let Ok(status) = curl("/v0/pipes/breaks.ndjson?at=5000000").await {
        assert!(!status.success());
        assert!(curl("/v0/pipes/numbers.csv").await.unwrap().success());
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_query_along() {
    let address = stage().address();
    let request = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop-token\r\n\r\n")
    };
    for (pipe, reads_some) in [("slow", false), ("endless", true)] {
        let before = processes(pipe).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let path = format!("/v0/pipes/{pipe}.ndjson?mark={}", mark());
        client.write_all(request(&path).as_bytes()).await.unwrap();
        if reads_some {
            client.read_exact(&mut vec![0; 100_000]).await.unwrap();
        }
        eventually("the query runs", async || processes(pipe).await > before).await;
        drop(client);
        eventually("the query has ended", async || {
            processes(pipe).await == before
        })
        .await;
    }
}

/// Queries that run with this in their text.
async fn processes(pipe: &str) -> u64 {
    let text = match pipe {
        "slow" => "%numbers(600)%",
        _ => "%system.numbers%",
    };
    stage().admin().number(&format!("SELECT count() FROM system.processes WHERE query LIKE '{text}' AND query NOT LIKE '%system.processes%'")).await
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let caller = stage().variant(
        |published| published.concurrent_queries = 1,
        &[("PIPES:READ", "*")],
    );
    let mut stalled = caller
        .request(Method::GET, "/v0/pipes/numbers.ndjson?count=1000000000")
        .send()
        .await
        .unwrap();
    assert!(stalled.chunk().await.unwrap().is_some());
    let busy = caller.get("/v0/pipes/echo.json?needed=1").await;
    assert_eq!(
        (busy.status, busy.code().as_str()),
        (429, "too_many_queries")
    );
    // It holds its slot for as long as a write may stall, which is a second here.
    let started = Instant::now();
    eventually("the slot is free", async || {
        caller.get("/v0/pipes/echo.json?needed=1").await.status == 200
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(20));
    let mut ended = false;
    while let Some(chunk) = stalled.chunk().await.transpose() {
        ended = chunk.is_err();
        if ended {
            break;
        }
    }
    assert!(ended, "the answer looks complete");
}

#[tokio::test]
async fn connections_are_used_again() {
    let address = stage().address();
    let mut client = TcpStream::connect(address).await.unwrap();
    for number in 0..50 {
        let request = format!(
            "GET /v0/pipes/echo.ndjson?needed=1&number={number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop-token\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"}\n") {
            assert_ne!(
                client.read_buf(&mut received).await.unwrap(),
                0,
                "the connection was closed"
            );
        }
        let text = String::from_utf8(received).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        let row: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(row["number"], number);
    }
}

/// A page of another site asks first, sends its token in a header, and reads the answer.
#[tokio::test]
async fn browsers_may_ask_from_any_page() {
    let request = |method| {
        let request = stage()
            .shop()
            .request(method, "/v0/pipes/echo.json?needed=1");
        request.header("origin", "https://dashboard.example")
    };
    let asked = request(Method::OPTIONS)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization");
    let asked = Answer::of(asked).await;
    assert_eq!((asked.status, asked.body.len()), (204, 0));
    assert!(
        asked
            .header("access-control-allow-headers")
            .contains("authorization")
    );
    let answer = Answer::of(request(Method::GET)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "*");

    let head = Answer::of(request(Method::HEAD)).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), answer.header("content-type"));
}

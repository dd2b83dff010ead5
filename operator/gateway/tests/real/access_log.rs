//! Every request ends as one event, whatever way it ends: as the access log and the metrics show.

use super::harness::{ALL, Answer, Caller, Log, Served, eventually};
use super::stage::{SHOP_TOKEN, mark, stage};
use aviary_gateway::{Kind, ObjectKey};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A gateway with an access log whose waits are short.
async fn gateway() -> (Served, Log) {
    let (served, log) = stage()
        .logging_gateway(|args| {
            args.write_timeout = "1s".parse().unwrap();
            args.body_timeout = "1s".parse().unwrap();
        })
        .await;
    (served, log)
}

fn shop(served: &Served) -> Caller {
    Caller::new(served.address, SHOP_TOKEN)
}

/// The fields of a line that do not differ from one run to the next.
fn essence(line: &Value) -> Value {
    let mut line = line.clone();
    let fields = line.as_object_mut().unwrap();
    for field in ["time", "request_id"] {
        assert!(fields.remove(field).unwrap().is_string());
    }
    for field in [
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "clickhouse_ms",
        "gateway_ms",
    ] {
        assert!(fields.remove(field).unwrap().is_number());
    }
    line
}

#[tokio::test]
async fn requests_that_are_refused_end_as_one_line_each() {
    let (served, log) = gateway().await;
    let index = served.gateway.index();
    let published = &stage().shop.published;
    let mut slow = published.clone();
    slow.requests_per_second = 1;
    stage()
        .shop
        .publish_as(index, "slow", &slow, "slow-token", ALL);
    let only_echo = &[("PIPES:READ", "echo")];
    stage()
        .shop
        .publish_as(index, "bound", published, "bound-token", only_echo);
    let caller = |token: &str| Caller::new(served.address, token);
    let (shop, bound) = (caller(SHOP_TOKEN), caller("bound-token"));
    let of = |workspace: &str, line: Value| {
        let mut whole = json!({"namespace": "test", "workspace": workspace, "token": "token", "ending": "answered"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(line.as_object().unwrap().clone());
        whole
    };
    let nobody = |line: Value| {
        let mut whole = json!({"ending": "answered"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(line.as_object().unwrap().clone());
        whole
    };
    let unknown = caller("unknown-token");
    let without = Client::new().get(format!("http://{}/v0/pipes", served.address));
    let cases = [
        (
            shop.get("/nowhere").await,
            nobody(json!({"route": "other", "status": 404, "code": "route_unknown"})),
        ),
        (
            Answer::of(shop.request(Method::DELETE, "/v0/pipes/echo.json")).await,
            nobody(json!({"route": "other", "status": 405, "code": "method_not_allowed"})),
        ),
        (
            Answer::of(without).await,
            nobody(json!({"route": "documentation", "status": 401, "code": "token_missing"})),
        ),
        (
            unknown.get("/v0/pipes/echo.json").await,
            nobody(json!({"route": "endpoint", "status": 401, "code": "token_invalid"})),
        ),
        (
            bound.get("/v0/pipes/numbers.json").await,
            of(
                "bound",
                json!({"route": "endpoint", "status": 403, "code": "scope_missing"}),
            ),
        ),
        (
            bound.post("/v0/events?name=sales", "{}").await,
            of(
                "bound",
                json!({"route": "events", "status": 403, "code": "scope_missing"}),
            ),
        ),
        (
            shop.get("/v0/pipes/nothing.json").await,
            of(
                "shop",
                json!({"route": "endpoint", "status": 404, "code": "pipe_unknown"}),
            ),
        ),
        (
            shop.get("/v0/pipes/echo.json?needed=x").await,
            of(
                "shop",
                json!({"route": "endpoint", "pipe": "echo", "status": 400, "code": "parameter_invalid"}),
            ),
        ),
        (
            shop.get("/v0/pipes/typo.json").await,
            of(
                "shop",
                json!({"route": "endpoint", "pipe": "typo", "status": 500, "code": "query_failed"}),
            ),
        ),
        (
            shop.post("/v0/datasources?name=sales&format=xls", "").await,
            of(
                "shop",
                json!({"route": "append", "datasource": "sales", "status": 400, "code": "format_unknown"}),
            ),
        ),
    ];
    log.line(cases.len()).await;
    for ((answer, expected), line) in cases.iter().zip(log.lines()) {
        assert_eq!(essence(&line), *expected, "{}", answer.text());
        assert_eq!(line["request_id"], answer.header("x-request-id"));
        assert_eq!(line["status"], answer.status);
    }
    // One that is over its rate is refused before what it asks for is looked at.
    let limited = caller("slow-token");
    let mut number = cases.len();
    loop {
        let status = limited.get("/v0/pipes/echo.json?needed=1").await.status;
        number += 1;
        let line = log.line(number).await;
        assert_eq!(line["status"], status);
        if status == 429 {
            let expected = json!({"route": "endpoint", "status": 429, "code": "rate_limited"});
            assert_eq!(essence(&line), of("slow", expected));
            break;
        }
    }
}

#[tokio::test]
async fn requests_that_are_answered_end_as_one_line_each() {
    let (served, log) = gateway().await;
    let shop = shop(&served);
    let answer = shop.get("/v0/pipes/numbers.json?count=3").await;
    let line = log.line(1).await;
    let expected = json!({"route": "endpoint", "namespace": "test", "workspace": "shop", "pipe": "numbers", "token": "token", "status": 200, "ending": "answered", "rows": 3});
    assert_eq!(essence(&line), expected);
    assert_eq!(line["request_id"], answer.header("x-request-id"));
    assert_eq!(line["bytes_out"], answer.body.len());
    assert_eq!(line["bytes_in"], 0);
    let milliseconds = |field: &str| line[field].as_f64().unwrap();
    assert!(milliseconds("clickhouse_ms") > 0.0);
    let known = milliseconds("clickhouse_ms") + milliseconds("gateway_ms");
    assert!(known <= milliseconds("duration_ms") + 0.01, "{line}");

    // Streamed, with a form, as lines, and without its body.
    let large = shop.get("/v0/pipes/numbers.json?count=300000").await;
    let line = log.line(2).await;
    assert_eq!(
        (&line["rows"], &line["bytes_out"]),
        (&json!(300_000), &json!(large.body.len()))
    );
    let form = shop
        .request(Method::POST, "/v0/pipes/numbers.ndjson")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("count=1234");
    assert_eq!(Answer::of(form).await.status, 200);
    let line = log.line(3).await;
    assert_eq!(
        (&line["rows"], &line["bytes_in"]),
        (&json!(1234), &json!(10))
    );
    Answer::of(shop.request(Method::HEAD, "/v0/pipes/numbers.csv")).await;
    let line = log.line(4).await;
    let told = (&line["ending"], &line["rows"], &line["bytes_out"]);
    assert_eq!(told, (&json!("answered"), &Value::Null, &json!(0)));

    // Rows.
    let body = "{\"id\": 1}\n{\"id\": \"x\"}\n";
    assert_eq!(shop.events("sales", body).await, (1, 1));
    let line = log.line(5).await;
    let expected = json!({"route": "events", "namespace": "test", "workspace": "shop", "datasource": "sales", "token": "token", "status": 200, "ending": "answered", "rows": 1, "quarantined_rows": 1});
    assert_eq!(essence(&line), expected);
    assert_eq!(line["bytes_in"], body.len());
    assert_eq!(shop.csv("sales", "id\n1\n2\n").await, (2, 0));
    let line = log.line(6).await;
    assert_eq!(
        (&line["route"], &line["rows"]),
        (&json!("append"), &json!(2))
    );

    // What needs no token.
    shop.get("/healthz").await;
    assert_eq!(log.line(7).await["route"], "probe");
    let asked = shop
        .request(Method::OPTIONS, "/v0/pipes")
        .header("access-control-request-method", "POST");
    assert_eq!(Answer::of(asked).await.status, 204);
    let line = log.line(8).await;
    assert_eq!(
        (&line["route"], &line["status"]),
        (&json!("preflight"), &json!(204))
    );
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let (served, log) = gateway().await;
    let shop = shop(&served);
    // In the middle of an answer.
    let path = format!("/v0/pipes/endless.ndjson?mark={}", mark());
    let mut answer = shop.request(Method::GET, &path).send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    let line = log.line(1).await;
    let told = (&line["status"], &line["ending"], &line["pipe"]);
    assert_eq!(
        told,
        (&json!(200), &json!("client_gone"), &json!("endless"))
    );
    assert!(line["bytes_out"].as_u64().unwrap() > 0);

    // Before there is one.
    let path = format!("/v0/pipes/slow.json?mark={}", mark());
    let waiting = shop
        .request(Method::GET, &path)
        .timeout(Duration::from_secs(1));
    assert!(waiting.send().await.is_err());
    let line = log.line(2).await;
    let told = (&line["status"], &line["ending"], &line["pipe"]);
    assert_eq!(told, (&json!(499), &json!("client_gone"), &json!("slow")));
    assert!(line["clickhouse_ms"].as_f64().unwrap() > 100.0, "{line}");

    // In the middle of its own rows.
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST /v0/events?name=sales HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP_TOKEN}\r\nContent-Length: 1000\r\n\r\n"
    );
    let rows = "{\"id\": 1}\n{\"id\": 2}\n";
    client
        .write_all(format!("{head}{rows}").as_bytes())
        .await
        .unwrap();
    drop(client);
    let line = log.line(3).await;
    assert_eq!(line["ending"], "client_gone", "{line}");
    let told = (&line["datasource"], &line["bytes_in"], &line["failed_rows"]);
    assert_eq!(told, (&json!("sales"), &json!(rows.len()), &json!(2)));
}

#[tokio::test]
async fn a_client_that_stalls_ends_its_request() {
    let (served, log) = gateway().await;
    // It reads nothing of its answer.
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let request = format!(
        "GET /v0/pipes/endless.ndjson?mark={} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP_TOKEN}\r\n\r\n",
        mark()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let line = log.line(1).await;
    assert_eq!(
        (&line["status"], &line["ending"]),
        (&json!(200), &json!("client_gone"))
    );
    let (all, waited) = (line["duration_ms"].as_f64(), line["clickhouse_ms"].as_f64());
    assert!(all.unwrap() - waited.unwrap() > 900.0, "{line}");
    drop(client);

    // It sends nothing more of its body.
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let request = format!(
        "POST /v0/events?name=sales HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP_TOKEN}\r\nContent-Length: 1000\r\n\r\n{{\"id\": 1}}\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = client.read_buf(&mut answer).await.unwrap();
    let line = log.line(2).await;
    let told = (&line["status"], &line["code"], &line["ending"]);
    assert_eq!(
        told,
        (&json!(408), &json!("body_timeout"), &json!("answered"))
    );
    let (all, own) = (line["duration_ms"].as_f64(), line["gateway_ms"].as_f64());
    assert!(all.unwrap() - own.unwrap() > 900.0, "{line}");
}

#[tokio::test]
async fn an_answer_that_is_cut_says_why() {
    let (served, log) = gateway().await;
    let shop = shop(&served);
    let request = shop.request(Method::GET, "/v0/pipes/breaks.ndjson?at=5000000");
    let mut answer = request.send().await.unwrap();
    while let Ok(piece) = answer.chunk().await {
        assert!(piece.is_some(), "the answer looks complete");
    }
    let line = log.line(1).await;
    let told = (
        &line["status"],
        &line["ending"],
        &line["code"],
        &line["rows"],
    );
    let expected = (
        &json!(200),
        &json!("cut"),
        &json!("query_failed"),
        &Value::Null,
    );
    assert_eq!(told, expected);
    let cut = "aviary_gateway_answers_cut_total{cause=\"failure\"}";
    assert_eq!(served.counter(cut), 1);
}

#[tokio::test]
async fn nothing_that_a_client_sends_is_in_the_access_log() {
    let (served, log) = gateway().await;
    let shop = shop(&served);
    let secret = mark();
    let in_url = format!(
        "http://{}/v0/pipes/slow{secret}.json?token={SHOP_TOKEN}",
        served.address
    );
    Answer::of(Client::new().get(in_url)).await;
    Caller::new(served.address, &secret).get("/v0/pipes").await;
    shop.get(&format!("/v0/pipes/numbers.json?count={secret}&x={secret}"))
        .await;
    shop.get(&format!("/v0/pipes/echo.json?needed=1&word={secret}"))
        .await;
    shop.get(&format!("/{secret}")).await;
    shop.events(
        "sales",
        format!("{{\"id\": 1, \"city\": \"{secret}\"}}\n{{\"id\": \"{secret}\"}}"),
    )
    .await;
    shop.post(&format!("/v0/events?name={secret}"), "{}").await;
    log.line(7).await;
    let text = log.text();
    for forbidden in [&secret, SHOP_TOKEN, "SELECT", "INSERT"] {
        assert!(!text.contains(forbidden), "{forbidden} in {text}");
    }
}

#[tokio::test]
async fn metrics_are_by_pipe_and_data_source_for_as_long_as_these_are_served() {
    let served = stage().gateway(|_| {}).await;
    let shop = shop(&served);
    for _ in 0..2 {
        assert_eq!(shop.get("/v0/pipes/numbers.json?count=1").await.status, 200);
    }
    assert_eq!(shop.get("/v0/pipes/echo.json").await.status, 400);
    assert_eq!(
        shop.events("sales", "{\"id\": 1}\n{\"id\": \"x\"}").await,
        (1, 1)
    );
    assert_eq!(shop.csv("sales", "id\n1\n2\n").await, (2, 0));
    let workspace = "namespace=\"test\",workspace=\"shop\"";
    let requests =
        |labels: &str| served.counter(&format!("aviary_gateway_requests_total{{{labels}}}"));
    let numbers = format!("route=\"endpoint\",status=\"200\",{workspace},pipe=\"numbers\"");
    eventually("all are counted", async || requests(&numbers) == 2).await;
    assert_eq!(
        requests(&format!(
            "route=\"endpoint\",status=\"400\",{workspace},pipe=\"echo\""
        )),
        1
    );
    assert_eq!(
        requests(&format!(
            "route=\"events\",status=\"200\",{workspace},datasource=\"sales\""
        )),
        1
    );
    let rows = |outcome: &str| {
        let labels = format!("{workspace},datasource=\"sales\",outcome=\"{outcome}\"");
        served.counter(&format!("aviary_gateway_rows_total{{{labels}}}"))
    };
    assert_eq!((rows("stored"), rows("quarantined")), (3, 1));
    served.gateway.index().delete(&ObjectKey {
        kind: Kind::Pipe,
        namespace: "test".to_owned(),
        name: "shop-numbers".to_owned(),
    });
    assert!(
        !served
            .gateway
            .metrics()
            .encode()
            .contains("pipe=\"numbers\"")
    );
    assert!(served.gateway.metrics().encode().contains("pipe=\"echo\""));
}

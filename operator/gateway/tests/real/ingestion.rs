//! Rows: clean and dirty, plain and packed, each accounted for.

use super::harness::{Answer, Caller};
use super::stage::{SHOP_TOKEN, mark, stage};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const APPEND: &str = "/v0/datasources?mode=append&name=";

async fn count(table: &str, filter: &str) -> u64 {
    let table = stage().shop.table(table);
    stage()
        .admin()
        .number(&format!("SELECT count() FROM {table} WHERE {filter}"))
        .await
}

/// The rows of an import that are in quarantine.
async fn quarantine(data_source: &str, import_id: &Value) -> Vec<Value> {
    let table = stage().shop.table(&format!("{data_source}_quarantine"));
    let import_id = import_id.as_str().unwrap();
    let sql = format!(
        "SELECT * FROM {table} WHERE c__import_id = '{import_id}' ORDER BY c__row FORMAT JSONEachRow"
    );
    stage()
        .admin()
        .query(&sql)
        .await
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn events_go_to_the_table_or_to_quarantine_with_the_reason() {
    let city = mark();
    let good = json!({ "id": 1, "meta": { "at": "2024-05-01 10:00:00" }, "city": city, "amount": 2.5, "the note": "n\n", "tags": ["a", "b'"] });
    let bare = json!({ "id": 2, "meta": { "at": 1_714_557_600 }, "city": city, "tags": [] });
    let bad = json!({ "id": -1, "meta": { "at": "yesterday" }, "city": city, "tags": [] });
    let body = format!("{good}\n{bare}\r\n{bad}\n\nnot json\n");
    let answer = stage().shop().post("/v0/events?name=orders", body).await;
    assert_eq!(answer.status, 202);
    let receipt = answer.json();
    assert_eq!(
        (&receipt["successful_rows"], &receipt["quarantined_rows"]),
        (&json!(2), &json!(2))
    );

    let table = stage().shop.table("orders");
    let rows = stage().admin().query(&format!("SELECT id, at, amount, note, tags FROM {table} WHERE city = '{city}' ORDER BY id FORMAT TabSeparated")).await;
    assert_eq!(
        rows,
        "1\t2024-05-01 10:00:00\t2.5\tn\\n\t['a','b\\'']\n2\t2024-05-01 10:00:00\t0.5\t\\N\t[]"
    );

    let rows = quarantine("orders", &receipt["import_id"]).await;
    assert_eq!(rows[0]["c__row"], "not json");
    assert_eq!(
        rows[0]["c__error"],
        json!(["not valid JSON: expected a value at byte 1"])
    );
    assert_eq!(rows[1]["c__error_column"], json!(["id", "at"]));
    assert_eq!(rows[1]["id"], "-1");
    assert_eq!(rows[1]["c__row"], bad.to_string());
}

/// Whoever mends a row needs the fields, too, that the table has no column for.
#[tokio::test]
async fn a_row_in_quarantine_is_kept_as_it_was_sent() {
    let dirty = [
        (
            "csv",
            "id,city,more\r\n1,x,2\r\nbad,\"a \"\"b\"\"\", 3\r\n".to_owned(),
            "bad,\"a \"\"b\"\"\", 3",
        ),
        (
            "ndjson",
            "{\"id\": \"bad\",  \"more\": [1]}\r\n".to_owned(),
            "{\"id\": \"bad\",  \"more\": [1]}",
        ),
    ];
    for (format, body, expected) in dirty {
        let path = format!("{APPEND}sales&format={format}");
        let answer = stage().shop().post(&path, body).await;
        let rows = quarantine("sales", &answer.json()["import_id"]).await;
        assert_eq!(rows.len(), 1, "{format}");
        assert_eq!(rows[0]["c__row"], expected);
        assert_eq!(rows[0]["c__error_column"], json!(["id"]));
    }
    let file = stage()
        .admin()
        .bytes("SELECT 'bad' AS id, 'x' AS city FORMAT Parquet")
        .await;
    let path = format!("{APPEND}sales&format=parquet");
    let answer = stage().shop().post(&path, file).await;
    let rows = quarantine("sales", &answer.json()["import_id"]).await;
    assert_eq!(rows[0]["c__row"], "{\"id\":\"bad\",\"city\":\"x\"}");
}

/// As a frame with gaps writes a column of whole numbers.
#[tokio::test]
async fn whole_numbers_may_be_written_as_floats() {
    let city = mark();
    let csv = format!("1.0,{city}\n2.5,{city}\nNaN,{city}\n1e1,{city}\n");
    assert_eq!(stage().shop().csv("sales", csv).await, (1, 3));
    let json = format!("{{\"id\": 2.0, \"city\": \"{city}\"}}\n{{\"id\": 2.5}}\n");
    assert_eq!(stage().shop().events("sales", json).await, (1, 1));
    let file =
        format!("SELECT arrayJoin([3.0, 3.5, nan, 1e300]) AS id, '{city}' AS city FORMAT Parquet");
    let file = stage().admin().bytes(&file).await;
    let path = format!("{APPEND}sales&format=parquet");
    let answer = stage().shop().post(&path, file).await;
    assert_eq!(answer.counts(), (1, 3), "{}", answer.text());
    let table = stage().shop.table("sales");
    let ids = format!("SELECT arraySort(groupArray(id)) FROM {table} WHERE city = '{city}'");
    assert_eq!(stage().admin().query(&ids).await, "[1,2,3]");
}

#[tokio::test]
async fn a_dirty_csv_file_is_accounted_for_row_by_row() {
    let city = mark();
    let file = format!(
        "\u{feff}id,city\r\n1,{city}\r\n2,\"{city}\r\nline two\"\n3\n4,{city},more\nx,{city}\n5,\"{city}\n6,{city}\"x\n\n99999999999,{city}\n7,{city}"
    );
    let answer = stage()
        .shop()
        .post(&format!("{APPEND}sales&format=csv"), file)
        .await;
    // In quarantine: 3 and 4 by their fields, x and the large number by their type, 5 by its quote.
    assert_eq!(answer.counts(), (4, 5), "{}", answer.text());
    let table = stage().shop.table("sales");
    let there = format!(
        "SELECT groupArray((id, city)) FROM (SELECT * FROM {table} WHERE city LIKE '{city}%' ORDER BY id)"
    );
    let expected =
        format!("[(1,'{city}'),(2,'{city}\\r\\nline two'),(6,'{city}\"x'),(7,'{city}')]");
    assert_eq!(stage().admin().query(&there).await, expected);
    let rows = quarantine("sales", &answer.json()["import_id"]).await;
    let raw: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["c__row"].as_str().unwrap(),
                row["c__error"][0].as_str().unwrap(),
            )
        })
        .collect();
    let (open, long) = (format!("5,\"{city}"), format!("4,{city},more"));
    for expected in [
        ("3", "expected 2 fields, found 1"),
        (long.as_str(), "expected 2 fields, found 3"),
        (open.as_str(), "text after a closing quote"),
    ] {
        assert!(raw.contains(&expected), "{expected:?} in {raw:?}");
    }
}

/// ClickHouse would fail the whole INSERT for the second row.
#[tokio::test]
async fn a_value_that_the_engine_refuses_costs_its_row_and_no_other() {
    let body = "{\"id\":1,\"sign\":1}\n{\"id\":2,\"sign\":0}\n{\"id\":3,\"sign\":-1}\n";
    let path = "/v0/events?name=balance&wait=true";
    let answer = stage().shop().post(path, body).await;
    assert_eq!(answer.counts(), (2, 1), "{}", answer.text());
    let rows = quarantine("balance", &answer.json()["import_id"]).await;
    assert_eq!(
        rows[0]["c__error"],
        json!(["value '0' on column 'sign' is not 1 or -1"])
    );
}

/// The landing takes rows whether a view passes them on or not.
#[tokio::test]
async fn rows_that_no_view_saw_are_not_acknowledged() {
    let served = stage().gateway(|_| {}).await;
    let caller = Caller::new(served.address, SHOP_TOKEN);
    let send = async || {
        let body = "{\"id\":1,\"price\":\"2.50\"}\n{\"id\":\"x\",\"price\":1}\n";
        let path = "/v0/events?name=unseen&wait=true";
        caller.post(path, body).await
    };
    assert_eq!(send().await.counts(), (1, 1));
    let view = stage().shop.table("unseen__reject");
    stage().admin().query(&format!("DROP VIEW {view}")).await;
    let answer = send().await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(
        answer.text().contains("did not confirm"),
        "{}",
        answer.text()
    );
    let counted = ["stored", "quarantined", "unconfirmed", "failed"].map(|one| served.rows(one));
    assert_eq!(counted, [1, 1, 2, 0]);
}

#[tokio::test]
async fn bodies_may_be_packed() {
    let city = mark();
    let rows: String = (0..5000)
        .map(|id| format!("{{\"id\": {id}, \"city\": \"{city}\"}}\n"))
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(rows.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(rows.as_bytes()).unwrap();
    let zstd = zstd::encode_all(rows.as_bytes(), 3).unwrap();
    let twice: Vec<u8> = [gzip.clone(), gzip.clone()].concat();
    for (encoding, body, expected) in [
        ("gzip", gzip.clone(), 5000),
        ("deflate", deflate.finish().unwrap(), 5000),
        ("zstd", zstd, 5000),
        ("gzip", twice, 10000),
    ] {
        let request = stage()
            .shop()
            .request(Method::POST, "/v0/events?name=sales&wait=true")
            .header("content-encoding", encoding)
            .body(body);
        assert_eq!(
            Answer::of(request).await.counts(),
            (expected, 0),
            "{encoding}"
        );
    }
    assert_eq!(count("sales", &format!("city = '{city}'")).await, 25000);

    let send = async |encoding: &str, body: &[u8]| {
        let request = stage()
            .shop()
            .request(Method::POST, "/v0/events?name=sales&wait=true")
            .header("content-encoding", encoding);
        Answer::of(request.body(body.to_vec())).await
    };
    let broken = send("gzip", b"not gzip").await;
    assert_eq!(
        (broken.status, broken.code().as_str()),
        (400, "body_invalid")
    );
    let cut = send("gzip", &gzip[..gzip.len() / 2]).await;
    assert_eq!(
        (cut.status, cut.code().as_str()),
        (400, "body_invalid"),
        "{}",
        cut.text()
    );
    assert_eq!(send("br", b"x").await.status, 415);
}

#[tokio::test]
async fn what_is_acknowledged_of_a_body_that_breaks_is_there_and_counted() {
    let served = stage()
        .gateway(|args| args.insert_block = "64Ki".parse().unwrap())
        .await;
    // Blocks of 64 KiB are stored one by one; the body is corrupt near its end.
    let city = mark();
    let rows: String = (0..20000)
        .map(|id| format!("{{\"id\": {id}, \"city\": \"{city}\"}}\n"))
        .collect();
    let mut packed = zstd::encode_all(rows.as_bytes(), 1).unwrap();
    packed.truncate(packed.len() - 10);
    let request = Caller::new(served.address, SHOP_TOKEN)
        .request(Method::POST, "/v0/events?name=sales")
        .header("content-encoding", "zstd")
        .body(packed);
    let answer = Answer::of(request).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "body_invalid"),
        "{}",
        answer.text()
    );
    let acknowledged = answer.json()["acknowledged_rows"].as_u64().unwrap();
    assert!(acknowledged > 0);
    assert_eq!(served.rows("stored"), acknowledged);
    assert_eq!(
        count("sales", &format!("city = '{city}'")).await,
        acknowledged
    );
    assert_eq!(
        count("sales", &format!("city = '{city}' AND id < {acknowledged}")).await,
        acknowledged
    );
}

#[tokio::test]
async fn a_large_file_is_taken_in_blocks() {
    let city = mark();
    let rows: String = (0..200_000)
        .map(|id| {
            if id % 1000 == 7 {
                format!("{id}.5,{city}\n")
            } else {
                format!("{id},{city}\n")
            }
        })
        .collect();
    assert_eq!(stage().shop().csv("sales", rows).await, (199_800, 200));
    assert_eq!(count("sales", &format!("city = '{city}'")).await, 199_800);
}

#[tokio::test]
async fn a_file_may_span_many_partitions() {
    let rows: String = (0..400)
        .map(|n| format!("{}-{:02}-01\n", 1990 + n / 12, n % 12 + 1))
        .collect();
    assert_eq!(stage().shop().csv("days", rows).await, (400, 0));
}

#[tokio::test]
async fn equal_rows_sent_twice_are_two_rows() {
    let city = mark();
    let row = format!("{{\"id\": 1, \"city\": \"{city}\"}}");
    for _ in 0..3 {
        assert_eq!(stage().shop().events("sales", row.clone()).await, (1, 0));
    }
    assert_eq!(count("sales", &format!("city = '{city}'")).await, 3);
}

#[tokio::test]
async fn many_small_requests_are_each_counted_right() {
    let city = mark();
    let one = async |caller: Caller, id: u64| {
        let bad = if id.is_multiple_of(3) {
            "{\"id\": \"no\"}\n"
        } else {
            ""
        };
        let body = format!("{{\"id\": {id}, \"city\": \"{city}\"}}\n{bad}");
        assert_eq!(
            caller.events("sales", body).await,
            (1, u64::from(!bad.is_empty())),
            "{id}"
        );
    };
    let caller = stage().shop();
    futures::future::join_all((0..300).map(|id| one(caller.clone(), id))).await;
    assert_eq!(count("sales", &format!("city = '{city}'")).await, 300);
}

#[tokio::test]
async fn parquet_goes_in_as_it_comes_out() {
    let city = mark();
    let select = format!(
        "SELECT number::UInt32 AS id, toDateTime('2024-05-01 00:00:00', 'UTC') + number AS at, '{city}' AS city, \
         number / 2 AS amount, if(number % 2, 'odd', NULL) AS note, ['a', 'it''s'] AS tags, 1 AS stranger FROM numbers(1000)"
    );
    let file = stage()
        .admin()
        .bytes(&format!("{select} FORMAT Parquet"))
        .await;
    let answer = stage()
        .shop()
        .post(&format!("{APPEND}orders&format=parquet"), file)
        .await;
    assert_eq!(answer.counts(), (1000, 0), "{}", answer.text());
    assert_eq!(answer.json()["ignored_columns"], json!(["stranger"]));
    let table = stage().shop.table("orders");
    let sums = stage().admin().query(&format!("SELECT (sum(id), sum(amount), count(note), min(at), any(tags)) FROM {table} WHERE city = '{city}'")).await;
    assert_eq!(
        sums,
        "(499500,249750,500,'2024-05-01 00:00:00',['a','it\\'s'])"
    );

    let misfits = format!(
        "SELECT number::Int64 - 5 AS id, '2024-05-01 00:00:00' AS at, '{city}' AS city, ['a'] AS tags FROM numbers(10) FORMAT Parquet"
    );
    let file = stage().admin().bytes(&misfits).await;
    let answer = stage()
        .shop()
        .post(&format!("{APPEND}orders&format=parquet"), file)
        .await;
    assert_eq!(answer.counts(), (5, 5), "{}", answer.text());
    let rows = quarantine("orders", &answer.json()["import_id"]).await;
    assert!(
        rows.iter()
            .all(|row| row["c__error_column"] == json!(["id"])),
        "{rows:?}"
    );
}

#[tokio::test]
async fn lists_in_parquet_keep_their_values() {
    let select = "SELECT number::UInt32 AS id, [0.1, nan, -inf] AS floats, \
         [toDateTime64('2024-05-01 10:00:00.123', 3, 'UTC')] AS times, \
         [toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')] AS ids, map('k', ['a', 'it''s']) AS texts FROM numbers(3)";
    let file = stage()
        .admin()
        .bytes(&format!("{select} FORMAT Parquet"))
        .await;
    let path = format!("{APPEND}lists&format=parquet");
    let answer = stage().shop().post(&path, file).await;
    assert_eq!(answer.counts(), (3, 0), "{}", answer.text());
    let table = stage().shop.table("lists");
    let found = format!("SELECT id, floats, times, ids, texts FROM {table} ORDER BY id");
    assert_eq!(
        stage().admin().query(&found).await,
        stage().admin().query(select).await
    );

    let file = stage()
        .admin()
        .bytes("SELECT number::UInt32 + 10 AS id, map('k', [unhex('ff'), 'b']) AS texts FROM numbers(2) FORMAT Parquet")
        .await;
    let answer = stage().shop().post(&path, file).await;
    assert_eq!(answer.counts(), (0, 2), "{}", answer.text());
    let quarantine = stage().shop.table("lists_quarantine");
    let found = format!("SELECT c__error[1], c__row FROM {quarantine} ORDER BY c__row LIMIT 1");
    assert_eq!(
        stage().admin().bytes(&found).await,
        b"column `texts`: bytes that are not valid UTF-8, in a list or structure\t{\"id\":\"10\",\"texts\":{\"k\":[\"\xff\",\"b\"]}}\n"
    );
}

#[tokio::test]
async fn a_corrupt_parquet_file_is_refused_as_a_whole() {
    let good = stage()
        .admin()
        .bytes("SELECT number::Int32 AS id, 'x' AS city FROM numbers(100000) FORMAT Parquet")
        .await;
    let before = count("sales", "1").await;
    let mut corrupt = good.clone();
    corrupt[100..4000].fill(0xff);
    for body in [
        b"PAR1 but not really PAR1".to_vec(),
        good[..good.len() / 2].to_vec(),
        corrupt,
        Vec::new(),
    ] {
        let answer = stage()
            .shop()
            .post(&format!("{APPEND}sales&format=parquet"), body)
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "body_invalid"),
            "{}",
            answer.text()
        );
    }
    // Other tests write to the table too, but not this many rows at once.
    assert!(count("sales", "1").await - before < 100_000);
}

#[tokio::test]
async fn requests_say_what_they_want() {
    let caller = stage().shop();
    for (path, code) in [
        ("/v0/events", "request_invalid"),
        ("/v0/events?name=sales&format=csv", "format_unknown"),
        ("/v0/datasources?name=sales", "format_unknown"),
        (
            "/v0/datasources?name=sales&format=csv&mode=replace",
            "request_invalid",
        ),
        (
            "/v0/datasources?name=sales&format=csv&url=http://x",
            "request_invalid",
        ),
    ] {
        let answer = caller.post(path, "x").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, code),
            "{path}"
        );
    }
    let answer = caller.post("/v0/events?name=sales&wait=true", "").await;
    assert_eq!(answer.counts(), (0, 0));
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let mut client = TcpStream::connect(stage().address()).await.unwrap();
    let head = "POST /v0/events?name=sales HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop-token\r\nContent-Length: 1000\r\n\r\n{\"id\":";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut received));
    reading.await.expect("the gateway waits for ever").unwrap();
    let text = String::from_utf8(received).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 408") && text.contains("body_timeout"),
        "{text}"
    );
}

#[tokio::test]
async fn a_client_that_is_still_sending_learns_why_it_is_refused() {
    // More than fits into any buffer on the way.
    let megabytes = 64;
    for (token, status) in [("no such token", "401"), ("shop-token", "404")] {
        let client = TcpStream::connect(stage().address()).await.unwrap();
        let (mut reader, mut writer) = client.into_split();
        let length = megabytes << 20;
        let head = format!(
            "POST /v0/events?name=nothing HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
        );
        let sending = async {
            writer.write_all(head.as_bytes()).await.unwrap();
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..megabytes {
                writer.write_all(&piece).await.unwrap();
            }
        };
        let mut received = vec![0; 12];
        let reading = reader.read_exact(&mut received);
        let ((), read) = futures::future::join(sending, reading).await;
        read.unwrap();
        assert_eq!(
            String::from_utf8(received).unwrap(),
            format!("HTTP/1.1 {status}")
        );
    }
}

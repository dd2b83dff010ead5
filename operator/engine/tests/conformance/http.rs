//! What answers look like: status, headers, formats, exceptions.

use super::harness::{Answer, finish};
use super::shared::{address, admin, database};

fn summary(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(answer.header("x-clickhouse-summary").unwrap()).unwrap()
}

#[tokio::test]
async fn a_select_and_an_insert() {
    let name = database().await;
    let admin = admin().with("database", &name);
    admin
        .ok("CREATE TABLE t (a UInt32, s String) ENGINE = MergeTree ORDER BY a")
        .await;
    let inserted = admin
        .with("query", "INSERT INTO t FORMAT CSV")
        .post("1,one\n2,two\n")
        .await;
    assert_eq!(inserted.status, 200, "{}", inserted.text());
    for name in ["written_rows", "read_rows", "result_rows"] {
        assert_eq!(summary(&inserted)[name], "2", "{name}");
    }
    for name in ["read_bytes", "result_bytes"] {
        assert_eq!(
            summary(&inserted)[name],
            summary(&inserted)["written_bytes"],
            "{name}"
        );
    }
    assert_eq!(
        admin.ok("SELECT * FROM t ORDER BY a").await,
        "1\tone\n2\ttwo\n"
    );
    let copied = admin
        .post("INSERT INTO t SELECT a + 2, s FROM t ORDER BY a LIMIT 1")
        .await;
    for (name, rows) in [
        ("written_rows", "1"),
        ("read_rows", "2"),
        ("result_rows", "1"),
    ] {
        assert_eq!(summary(&copied)[name], rows, "{name}");
    }
    let selected = admin.post("SELECT s FROM t WHERE a = 2").await;
    assert_eq!(summary(&selected)["result_rows"], "1");
    assert_eq!(summary(&selected)["read_rows"], "2");
    assert!(
        summary(&selected)["elapsed_ns"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
}

#[tokio::test]
async fn headers_are_those_of_a_server() {
    let answer = admin()
        .with("query_id", "headers-1")
        .post("SELECT 1 AS a FORMAT JSONEachRow")
        .await;
    assert_eq!(answer.text(), "{\"a\":1}\n");
    assert_eq!(answer.header("x-clickhouse-query-id"), Some("headers-1"));
    assert_eq!(answer.header("x-clickhouse-format"), Some("JSONEachRow"));
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-ndjson; charset=UTF-8")
    );
    assert!(
        answer
            .header("x-clickhouse-server-display-name")
            .is_some_and(|name| !name.is_empty())
    );
    assert!(answer.header("x-clickhouse-timezone").is_some());
    assert_eq!(
        answer.header("x-clickhouse-exception-tag").map(str::len),
        Some(16)
    );

    let default = admin().post("SELECT 1").await;
    assert_eq!(default.header("x-clickhouse-format"), Some("TabSeparated"));
    assert!(
        default
            .header("content-type")
            .unwrap()
            .starts_with("text/tab-separated-values")
    );
    assert!(
        default
            .header("x-clickhouse-query-id")
            .is_some_and(|id| id.len() == 36)
    );
    let chosen = admin()
        .with("default_format", "CSVWithNames")
        .post("SELECT 1 AS a")
        .await;
    assert_eq!(chosen.text(), "\"a\"\n1\n");
    let header = admin()
        .request(reqwest::Method::POST)
        .header("X-ClickHouse-Format", "JSONCompactEachRow")
        .body("SELECT 1");
    assert_eq!(finish(header).await.text(), "[1]\n");
}

#[tokio::test]
async fn exceptions_have_the_id_of_their_query_once_it_is_looked_at() {
    let asked = |name: &str, value: &str| admin().with("query_id", "whose").with(name, value);
    let id = "x-clickhouse-query-id";
    for query in ["SELECT throwIf(1)", "SELECT nothing FROM nowhere", "SELEC"] {
        let answer = asked("default_format", "CSV").post(query).await;
        assert!(answer.exception().is_some(), "{query}");
        assert_eq!(answer.header(id), Some("whose"), "{query}");
    }
    for (name, value) in [
        ("database", "nowhere"),
        ("max_threads", "many"),
        ("role", "nobody"),
    ] {
        let answer = asked(name, value).post("SELECT 1").await;
        assert!(answer.exception().is_some(), "{name}");
        assert_eq!(answer.header(id), None, "{name}");
    }
}

#[tokio::test]
async fn formats_of_every_kind_come_whole() {
    for (format, rows) in [
        ("JSON", 0),
        ("TSV", 0),
        ("CSVWithNames", 0),
        ("JSON", 300_000),
        ("CSVWithNames", 300_000),
        ("RowBinaryWithNamesAndTypes", 200_000),
        ("Parquet", 300_000),
        ("ArrowStream", 100_000),
        ("Pretty", 10),
        ("Null", 1000),
    ] {
        let answer = admin()
            .post(format!(
                "SELECT number AS n, toString(n) AS s FROM numbers({rows}) FORMAT {format}"
            ))
            .await;
        assert_eq!(answer.status, 200, "{format}");
        match format {
            "JSON" => {
                let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(json["rows"], rows);
                assert_eq!(json["data"].as_array().unwrap().len(), rows);
            }
            "CSVWithNames" => assert_eq!(answer.text().lines().count(), rows + 1),
            "Parquet" => {
                assert!(answer.body.starts_with(b"PAR1") && answer.body.ends_with(b"PAR1"));
            }
            "Null" | "TSV" => assert!(answer.body.is_empty()),
            _ => assert!(!answer.body.is_empty(), "{format}"),
        }
    }
}

#[tokio::test]
async fn formats_that_are_no_output_are_refused() {
    for format in [
        "dataframe",
        "DataFrame",
        "ArrowTable",
        "NoFormat",
        "JSONAsString",
        "a b'",
    ] {
        for query in ["SELECT 1", "SHOW TABLES"] {
            let asked = admin().with("default_format", format).post(query).await;
            assert_eq!(
                (asked.status.as_u16(), asked.exception()),
                (404, Some(73)),
                "{format}: {}",
                asked.text()
            );
        }
        let named = admin().post(format!("SELECT 1 FORMAT {format}")).await;
        assert!(named.exception().is_some(), "{format}");
    }
}

#[tokio::test]
async fn health_is_told_without_a_password() {
    for path in ["/ping", "/"] {
        let response = reqwest::get(format!("http://{}{path}", address()))
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.text().await.unwrap(), "Ok.\n", "{path}");
    }
    let head = reqwest::Client::new()
        .head(format!("http://{}/ping", address()))
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
    let nowhere = reqwest::Client::new()
        .delete(format!("http://{}/", address()))
        .send()
        .await
        .unwrap();
    assert_eq!(nowhere.status(), 404);
    let text = nowhere.text().await.unwrap();
    assert!(text.starts_with("There is no handle /\n\n"), "{text}");
    let nowhere = reqwest::get(format!("http://{}/nowhere", address()))
        .await
        .unwrap();
    assert_eq!(nowhere.status(), 404);
}

#[tokio::test]
async fn exceptions_have_the_status_of_a_server() {
    for (query, code, status, name) in [
        ("SELECT * FROM no_table_at_all", 60, 404, "UNKNOWN_TABLE"),
        ("SELECT 1 FROM no_database.t", 81, 404, "UNKNOWN_DATABASE"),
        ("SELEC 1", 62, 400, "SYNTAX_ERROR"),
        (
            "SELECT no_column FROM system.one",
            47,
            404,
            "UNKNOWN_IDENTIFIER",
        ),
        ("SELECT no_function()", 46, 404, "UNKNOWN_FUNCTION"),
        ("SELECT 1 FORMAT NoFormat", 73, 404, "UNKNOWN_FORMAT"),
        (
            "SELECT throwIf(1)",
            395,
            500,
            "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
        ),
        ("SELECT toUInt8('x')", 6, 400, "CANNOT_PARSE_TEXT"),
        (
            "SELECT sleep(3) SETTINGS max_execution_time = 0.1",
            159,
            408,
            "TIMEOUT_EXCEEDED",
        ),
        (
            "SELECT 1 SETTINGS no_setting_at_all = 1",
            115,
            404,
            "UNKNOWN_SETTING",
        ),
        ("", 62, 400, "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", 62, 400, "SYNTAX_ERROR"),
        (
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            358,
            500,
            "INTO_OUTFILE_NOT_ALLOWED",
        ),
        (
            "INSERT INTO t FROM INFILE '/tmp/x' FORMAT CSV",
            358,
            500,
            "INTO_OUTFILE_NOT_ALLOWED",
        ),
        (
            "INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV 1",
            48,
            501,
            "NOT_IMPLEMENTED",
        ),
        (
            "CREATE DATABASE default",
            82,
            500,
            "DATABASE_ALREADY_EXISTS",
        ),
    ] {
        let answer = admin().post(query).await;
        let text = answer.text();
        assert_eq!(answer.exception(), Some(code), "{query}: {text}");
        assert_eq!(answer.status, status, "{query}: {text}");
        assert!(
            text.starts_with(&format!("Code: {code}. DB::Exception: ")),
            "{text}"
        );
        assert!(text.contains(&format!("({name}) (version 26.7")), "{text}");
        assert!(text.ends_with("(official build))\n"), "{text}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=UTF-8")
        );
    }
}

#[tokio::test]
async fn waiting_for_the_end_gives_the_status_of_the_end() {
    let query = "SELECT throwIf(number = 3000000), toString(number) || 'some padding' FROM numbers(4000000)";
    let answer = admin().with("wait_end_of_query", "1").post(query).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.exception(), Some(395));
}

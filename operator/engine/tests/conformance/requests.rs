//! What can be asked, and how: methods, parameters, settings, databases, inserts.

use super::harness::finish;
use super::shared::{admin, database};

#[tokio::test]
async fn a_get_only_reads() {
    let name = database().await;
    let answer = admin()
        .get(&format!("CREATE TABLE {name}.t (a Int8) ENGINE = Memory"))
        .await;
    assert_eq!(answer.exception(), Some(164));
    assert_eq!(admin().get("SELECT 1").await.text(), "1\n");
    assert_eq!(
        admin()
            .with("max_threads", "1")
            .get("SELECT getSetting('max_threads')")
            .await
            .text(),
        "1\n"
    );
    assert_eq!(
        admin()
            .with("readonly", "0")
            .get("SELECT 1")
            .await
            .exception(),
        Some(164)
    );
    let head = admin()
        .request(reqwest::Method::HEAD)
        .query(&[("query", "SELECT 1")]);
    let head = finish(head).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_query_may_be_in_url_and_body() {
    let name = database().await;
    assert_eq!(
        admin().with("query", "SELECT 1 +").post("2").await.text(),
        "3\n"
    );
    admin()
        .ok(&format!(
            "CREATE TABLE {name}.t (a Int32, s String) ENGINE = MergeTree ORDER BY a"
        ))
        .await;
    let here = admin().with("database", &name);
    for (query, body) in [
        ("INSERT INTO t VALUES", "(1, 'a;'), (2, 'b')"),
        ("", "INSERT INTO t VALUES (3, 'it''s'); "),
        ("", "INSERT INTO t (a) VALUES (4)"),
        (
            "INSERT INTO t FORMAT JSONEachRow",
            "{\"a\":5,\"s\":\"x\"}\n{\"a\":6,\"s\":\"y\"}",
        ),
        ("", "INSERT INTO t FORMAT CSV\n7,\"multi\nline\"\n"),
        (
            "INSERT INTO t SETTINGS input_format_null_as_default = 1 FORMAT TSV",
            "8\tz\n",
        ),
        ("INSERT INTO t SELECT 9, 'select'", ""),
        ("INSERT INTO t FORMAT CSV", ""),
    ] {
        let answer = here.with("query", query).post(body).await;
        assert_eq!(answer.status, 200, "{query} {body}: {}", answer.text());
    }
    assert_eq!(
        here.ok("SELECT arraySort(groupArray(a)) FROM t").await,
        "[1,2,3,4,5,6,7,8,9]\n"
    );
    assert_eq!(
        here.ok("SELECT s FROM t WHERE a IN (3, 7) ORDER BY a FORMAT CSV")
            .await,
        "\"it's\"\n\"multi\nline\"\n"
    );
    for (query, body, code) in [
        ("INSERT INTO t FORMAT CSV", "x,y\n", 27),
        ("INSERT INTO t FORMAT NoFormat", "x", 73),
        ("INSERT INTO nothing FORMAT CSV", "x", 60),
        ("INSERT INTO t VALUES", "(", 32),
        ("INSERT INTO t (nothing) FORMAT CSV", "1", 16),
    ] {
        let answer = here.with("query", query).post(body).await;
        assert_eq!(
            answer.exception(),
            Some(code),
            "{query} {body}: {}",
            answer.text()
        );
    }
    assert_eq!(here.ok("SELECT count() FROM t").await, "9\n");
}

#[tokio::test]
async fn parameters_are_values() {
    let evil = "'; DROP TABLE x; --\\";
    let escaped = evil.replace('\\', "\\\\");
    let answer = admin()
        .with("param_s", &escaped)
        .with("param_n", "-7")
        .with("param_a", "['a','b']")
        .with("param_d", "2024-02-29")
        .with("param_null", "\\N")
        .with("param_name", "one")
        .post("SELECT {s:String}, {n:Int32}, {a:Array(String)}, {d:Date}, {null:Nullable(String)} FROM system.{name:Identifier} FORMAT JSONCompactEachRow")
        .await;
    let row: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        row,
        serde_json::json!([evil, -7, ["a", "b"], "2024-02-29", null])
    );
    assert_eq!(admin().fails("SELECT {missing:String}").await, 456);
    assert_eq!(
        admin().with("param_n", "x").fails("SELECT {n:Int32}").await,
        457
    );

    let name = database().await;
    let here = admin().with("database", &name).with("param_t", "t");
    here.ok("CREATE TABLE {t:Identifier} (a Int32) ENGINE = MergeTree ORDER BY a")
        .await;
    here.ok("INSERT INTO {t:Identifier} FORMAT CSV\n1\n").await;
    assert_eq!(here.ok("SELECT a FROM {t:Identifier}").await, "1\n");
}

#[tokio::test]
async fn settings_last_for_one_request() {
    let setting = "SELECT getSetting('max_result_rows'), getSetting('log_comment'), getSetting('insert_deduplication_token')";
    let with = admin()
        .with("max_result_rows", "3")
        .with("log_comment", "a 'b'")
        .with("insert_deduplication_token", "a");
    let default = admin().ok(setting).await;
    // More rounds than connections: each round meets connections of the others.
    for _ in 0..5 {
        assert_eq!(with.ok(setting).await, "3\ta \\'b\\'\ta\n");
        assert_eq!(with.fails("SELECT number FROM numbers(4)").await, 396);
        assert_eq!(admin().ok(setting).await, default);
        assert_eq!(
            admin()
                .ok("SELECT number FROM numbers(4) FORMAT TSV SETTINGS max_result_rows = 9")
                .await,
            "0\n1\n2\n3\n"
        );
        admin().ok("SET max_result_rows = 1").await;
        admin().ok("USE system").await;
        admin().ok("CREATE TEMPORARY TABLE mine (a Int8)").await;
        assert_eq!(admin().ok("SELECT currentDatabase()").await, "default\n");
        assert_eq!(admin().fails("SELECT * FROM mine").await, 60);
    }
    assert_eq!(
        admin().with("max_threads", "many").fails("SELECT 1").await,
        27
    );
    let unknown = admin()
        .with("no_setting_at_all", "1")
        .post("SELECT 1")
        .await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.exception()),
        (404, Some(115))
    );
    for limit in [
        ("max_memory_usage", "1000000", 241),
        ("max_rows_to_read", "10", 158),
    ] {
        let query = "SELECT uniqExact(number) FROM numbers(1000000)";
        assert_eq!(
            admin().with(limit.0, limit.1).fails(query).await,
            limit.2,
            "{}",
            limit.0
        );
    }
}

#[tokio::test]
async fn databases_are_chosen_by_url_or_header() {
    let name = database().await;
    assert_eq!(
        admin()
            .with("database", &name)
            .ok("SELECT currentDatabase()")
            .await,
        format!("{name}\n")
    );
    let header = admin()
        .request(reqwest::Method::POST)
        .header("X-ClickHouse-Database", &name)
        .body("SELECT currentDatabase()");
    assert_eq!(finish(header).await.text(), format!("{name}\n"));
    let unknown = admin()
        .with("database", "nothing_at_all")
        .post("SELECT 1")
        .await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.exception()),
        (404, Some(81))
    );
}

#[tokio::test]
async fn long_queries_have_a_limit_that_can_be_raised() {
    let long = format!("SELECT length('{}')", "x".repeat(300_000));
    assert_eq!(admin().fails(&long).await, 62);
    assert_eq!(
        admin().with("max_query_size", "1000000").ok(&long).await,
        "300000\n"
    );
}

#[tokio::test]
async fn what_is_not_supported_is_refused() {
    assert_eq!(admin().with("session_id", "s").fails("SELECT 1").await, 48);
    let packed = admin().request(reqwest::Method::POST);
    let packed = packed.header("Content-Encoding", "gzip").body("x");
    assert_eq!(finish(packed).await.exception(), Some(48));
}

#[tokio::test]
async fn one_id_runs_once_at_a_time() {
    let admin = admin().with("query_id", "only-one");
    for _ in 0..20 {
        admin.ok("SELECT 1").await;
    }
    let (first, second) = tokio::join!(
        admin.post("SELECT sleep(0.5)"),
        admin.post("SELECT sleep(0.5)"),
    );
    let codes = [first.exception(), second.exception()];
    assert!(
        codes.contains(&None) && codes.contains(&Some(216)),
        "{codes:?}"
    );
}

#[tokio::test]
async fn orders_to_the_client_are_no_statements() {
    for query in [
        "\\i /etc/hostname",
        "\\l",
        "exit",
        "quit",
        "q",
        ":q",
        "logout;",
        "help",
        "?",
        "@",
        "`SELECT` 1",
        "'SELECT 1'",
        "1",
    ] {
        let answer = admin().post(query).await;
        assert_eq!(
            (answer.status.as_u16(), answer.exception()),
            (400, Some(62)),
            "{query}: {}",
            answer.text()
        );
        assert!(answer.text().contains("Syntax error"), "{}", answer.text());
    }
}

#[tokio::test]
async fn one_statement_for_us_is_one_for_clickhouse() {
    let file = std::env::temp_dir().join(format!("aviary-outfile-{}", std::process::id()));
    let file = file.display();
    for (query, code) in [
        ("SELECT 1 // '\n; SELECT 2; // '".to_owned(), 62),
        (
            "DROP TABLE IF EXISTS no // '\n; SET ROLE x; // '".to_owned(),
            62,
        ),
        ("SELECT 1 /* /* */ '*/ ; SELECT 2 -- ' */".to_owned(), 62),
        ("SELECT $a b$ ; SELECT 2 -- $a b$".to_owned(), 62),
        ("SELECT 1e--1; SELECT 2".to_owned(), 62),
        ("SELECT 1; # '\n SELECT 2 # '".to_owned(), 62),
        (format!("SELECT 1 INTO\u{3000}OUTFILE '{file}'"), 62),
        (format!("SELECT 1 INTO\u{85}OUTFILE '{file}'"), 62),
        (format!("SELECT 1 INTO\u{2060}OUTFILE '{file}'"), 62),
        (
            format!("SELECT 1 INTO/**/OUTFILE '{file}' FORMAT JSON"),
            358,
        ),
        (format!("SELECT 1 INTO // '\nOUTFILE '{file}' // '"), 358),
        (format!("SHOW TABLES INTO\u{200b}OUTFILE '{file}'"), 62),
        (format!("SHOW TABLES INTO OUTFILE '{file}'"), 358),
        ("SELECT 'open".to_owned(), 62),
        ("SELECT /* open".to_owned(), 62),
        ("SELECT x'4".to_owned(), 62),
    ] {
        assert_eq!(admin().fails(&query).await, code, "{query}");
    }
    assert!(!std::path::Path::new(&file.to_string()).exists());
    for (query, expected) in [
        ("SELECT 1 /* /* */ */ + 1 // + 1", "2\n"),
        ("SELECT x'413b', $a_1$;$a_1$, ';'", "A;\t;\t;\n"),
        (
            "SELECT (1, (2, 3)).2.1, .5, 1e-1, 0x1F, 1_000",
            "2\t0.5\t0.1\t31\t1000\n",
        ),
    ] {
        assert_eq!(admin().ok(query).await, expected, "{query}");
    }
    assert_eq!(admin().with("dialect", "kusto").fails("print 1").await, 452);
}

//! Plain HTTP.

use super::harness::{admin, database};

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
    let summary: serde_json::Value =
        serde_json::from_str(inserted.header("x-clickhouse-summary").unwrap()).unwrap();
    assert_eq!(summary["written_rows"], "2");
    assert_eq!(
        admin.ok("SELECT * FROM t ORDER BY a").await,
        "1\tone\n2\ttwo\n"
    );
}

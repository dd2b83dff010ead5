//! What tenants may read of ClickHouse's own tables, against all that this version has.

use crate::harness::{ask, ask_by, converge};
use aviary_plan::model::WorkspaceModel;
use aviary_plan::{LastPublished, Reason, model, testing};
use aviary_sql::system_tables::{SystemTable, system_table};

/// What the victim writes into everything, in letters and digits so that it can stand in names.
const MARKER: &str = "marker7d1f0c";

const MANIFESTS: &str = "
kind: DataSource
metadata: {name: events}
spec: {workspace: shop, columns: [{name: id, type: UInt64}, {name: name, type: String}], sortingKey: [id]}
---
kind: Pipe
metadata: {name: asked}
spec:
  workspace: shop
  nodes:
  - {name: answer, sql: \"SQL\"}
";

async fn system_tables() -> Vec<String> {
    let names = ask("SELECT name FROM system.tables WHERE database = 'system' ORDER BY name").await;
    names.lines().map(str::to_owned).collect()
}

#[test]
fn the_list_has_every_table_of_this_version() {
    crate::harness::run(async {
        let tables = system_tables().await;
        assert!(tables.len() > 100, "{tables:?}");
        let lacking: Vec<&String> = tables
            .iter()
            .filter(|table| system_table(table).is_none())
            .collect();
        assert!(lacking.is_empty(), "not in the list: {lacking:?}");
    });
}

#[test]
fn what_one_tenant_does_another_does_not_see() {
    crate::harness::run(async {
        let victim = converge("sees-victim", &MANIFESTS.replace("SQL", "SELECT 1")).await;
        leave_marks(&victim.model).await;
        let seen =
            ask("SELECT count() FROM system.errors WHERE last_error_message LIKE '%marker7d1f0c%'")
                .await;
        assert_ne!(
            seen, "0",
            "the victim's errors are not noted, so this shows nothing"
        );
        let own = MANIFESTS.replace("SQL", "SELECT 1");
        let thief = converge("sees-thief", &own).await.model;
        let marker: String = MARKER.bytes().map(|byte| format!("{byte:02X}")).collect();
        let mut read = 0;
        for table in system_tables().await {
            let sql = format!("SELECT * FROM system.{table}");
            let refused = is_refused(&sql);
            let listed = system_table(&table);
            assert_eq!(refused, listed == Some(SystemTable::Closed), "{table}");
            // Whatever a pipe may read, and what tells of others, is tried past the planner, too.
            // These have no end, and `models` asks a server that is not there for a minute.
            let endless = [
                "models",
                "numbers",
                "numbers_mt",
                "primes",
                "zeros",
                "zeros_mt",
            ];
            if endless.contains(&table.as_str()) {
                continue;
            }
            let user = (thief.reader.as_str(), "reader");
            // As hexadecimal digits, since some columns are no text.
            let all = format!("SELECT hex(formatRow('TSV', *)) FROM system.{table} LIMIT 10000");
            let Ok(shown) = ask_by(user, &all).await else {
                continue;
            };
            read += 1;
            assert!(
                !shown.contains(&marker),
                "system.{table} shows what another tenant did"
            );
        }
        assert!(read > 60, "only {read} tables could be read at all");
        for sql in [
            "SELECT * FROM information_schema.tables",
            "SELECT * FROM merge('system', '.*')",
            // YAML takes one of the backslashes, and ClickHouse reads a `t`.
            r"SELECT * FROM `sys\\x74em`.errors",
        ] {
            assert!(is_refused(sql), "{sql}");
        }
        let escaped = ask(r"SELECT count() FROM `sys\x74em`.one").await;
        assert_eq!(
            escaped, "1",
            "ClickHouse reads no escapes in names any more"
        );
    });
}

/// Whether the planner refuses a pipe with this SQL.
fn is_refused(sql: &str) -> bool {
    let objects = testing::objects("sees-thief", &MANIFESTS.replace("SQL", sql));
    let mut rejections = model(&objects, &LastPublished::default())
        .rejections
        .into_iter();
    rejections.any(|rejection| rejection.reason == Reason::OutOfReach)
}

/// Errors, queries, rows, parts and mutations with the marker in them.
async fn leave_marks(victim: &WorkspaceModel) {
    let database = victim.database.as_str();
    let (reader, writer) = ((&*victim.reader, "reader"), (&*victim.writer, "writer"));
    let insert = format!("INSERT INTO `{database}`.events VALUES (1, '{MARKER}')");
    ask_by(writer, &insert).await.unwrap();
    for sql in [
        format!("SELECT throwIf(1, '{MARKER}')"),
        format!("SELECT {MARKER} FROM `{database}`.events"),
        format!("SELECT toUInt8('{MARKER}')"),
        format!("SELECT * FROM `{database}`.{MARKER}"),
    ] {
        ask_by(reader, &sql).await.unwrap_err();
    }
    ask_by(
        reader,
        &format!("SELECT count() FROM `{database}`.events WHERE name = '{MARKER}'"),
    )
    .await
    .unwrap();
    ask(&format!(
        "ALTER TABLE `{database}`.events DELETE WHERE name = '{MARKER}x'"
    ))
    .await;
}

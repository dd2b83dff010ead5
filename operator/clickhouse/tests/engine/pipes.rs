//! Pipes are checked with the rights of the tenant.

use crate::harness::{ask, ask_by, converge, reader, replica, run};
use aviary_clickhouse::{PipeCheck, PipeError, ReaderCredentials, ResultColumn};
use aviary_plan::model::WorkspaceModel;
use aviary_plan::testing;
use pretty_assertions::assert_eq;

const MANIFESTS: &str = "
kind: DataSource
metadata: {name: events}
spec: {workspace: shop, columns: [{name: id, type: UInt64}, {name: name, type: LowCardinality(String)}], sortingKey: [id]}
---
kind: Pipe
metadata: {name: asked}
spec:
  workspace: shop
  nodes:
  - {name: answer, sql: \"SQL\"}
";

async fn check(model: &WorkspaceModel) -> Result<Vec<ResultColumn>, PipeError> {
    let renderings = model.pipes[0].renderings();
    replica()
        .check_pipe(&PipeCheck {
            database: model.database.clone(),
            reader: reader(model),
            renderings,
        })
        .await
}

async fn workspace(namespace: &str, sql: &str) -> WorkspaceModel {
    let manifests = MANIFESTS.replace("SQL", sql);
    converge(namespace, &manifests).await.model
}

#[test]
fn a_good_pipe_gives_its_columns() {
    run(async {
        let sql = "SELECT name, count() AS n FROM events WHERE id > {{ UInt64(least, 5) }} {% if defined(name) %} AND name = {{ String(name) }} {% end %} GROUP BY name ORDER BY n";
        let model = workspace("pipe-good", sql).await;
        let columns = check(&model).await.unwrap();
        let columns: Vec<String> = columns
            .iter()
            .map(|column| format!("{} {}", column.name, column.column_type))
            .collect();
        assert_eq!(columns, ["name LowCardinality(String)", "n UInt64"]);
    });
}

#[test]
fn a_bad_pipe_is_refused_in_few_words() {
    run(async {
        for sql in [
            "SELECT nope FROM events",
            "SELECT noSuchFunction(id) FROM events",
            "SELECT id FROM events GROUP BY name",
            "SELECT id, nope FROM events_quarantine",
        ] {
            let model = workspace("pipe-bad", sql).await;
            let Err(PipeError::Refused(error)) = check(&model).await else {
                panic!("{sql} was taken");
            };
            let message = error.to_string();
            assert!(
                !message.contains("version") && !message.contains('\n'),
                "{message}"
            );
        }
    });
}

/// In ClickHouse's own words, which are of the composed statement.
#[test]
fn an_unknown_name_is_found_in_its_node() {
    run(async {
        for (sql, told) in [
            (
                "SELECT nmae FROM events",
                "column 8: there is no column `nmae` in `events`; near: `name`",
            ),
            (
                "SELECT e.nmae FROM events AS e",
                "column 8: there is no column `e.nmae` in `events`; near: `e.name`",
            ),
            (
                "SELECT count() FROM events GROUP BY nmae",
                "column 37: there is no column `nmae` in `events`; near: `name`",
            ),
            (
                "WITH e AS (SELECT nmae FROM events) SELECT * FROM e",
                "column 19: there is no column `nmae` in `events`; near: `name`",
            ),
            (
                "SELECT id FROM events JOIN events_quarantine USING nmae",
                "column 52: there is no column `nmae` in `events`, `events_quarantine`; near: `name`",
            ),
            (
                "SELECT count(nmae) FROM events WHERE id > {{ UInt64(least, 5) }}",
                "column 14: there is no column `nmae` in `events`; near: `name`",
            ),
            (
                "SELECT lowr(name) FROM events",
                "column 8: there is no function `lowr`; near: `lower`",
            ),
        ] {
            let model = workspace("pipe-unknown", sql).await;
            let Err(PipeError::Refused(error)) = check(&model).await else {
                panic!("{sql} was taken");
            };
            let objects = testing::objects("pipe-unknown", &MANIFESTS.replace("SQL", sql));
            let unknown = error.unknown().unwrap_or_else(|| panic!("{error}"));
            let found = model.explain_unknown(&objects.pipes[0], &unknown);
            let expected = format!("node `answer`, line 1, {told}");
            assert!(
                found.as_ref().is_some_and(|it| it.starts_with(&expected)),
                "{found:?}, not {expected}: {error}"
            );
        }
    });
}

#[test]
fn another_tenants_data_is_out_of_reach() {
    run(async {
        converge("pipe-victim", MANIFESTS).await;
        for reach in [
            "SELECT * FROM `pipe-victim_shop`.events",
            "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'x String')",
            "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        ] {
            let model = workspace("pipe-thief", reach).await;
            let result = check(&model).await;
            assert!(
                matches!(result, Err(PipeError::Refused(_))),
                "{reach}: {result:?}"
            );
        }
    });
}

#[test]
fn the_reader_reads_only_its_own_whatever_it_sends() {
    run(async {
        converge("read-victim", MANIFESTS).await;
        let model = workspace("read-thief", "SELECT 1 AS one").await;
        let own = "SELECT count() FROM events";
        assert_eq!(ask_as(&model, own).await, Ok("0".to_owned()));
        for statement in [
            "SELECT * FROM `read-victim_shop`.events",
            "SELECT * FROM merge('read-victim_shop', 'events')",
            "SELECT * FROM remote('127.0.0.1', 'read-victim_shop', 'events')",
            "SELECT * FROM file('/etc/passwd', 'LineAsString')",
            "SELECT name FROM system.users",
            "INSERT INTO events VALUES (1, 'x')",
            "TRUNCATE TABLE events",
            "CREATE TABLE mine (x Int8) ENGINE = Memory",
            "SET readonly = 0",
            "SELECT sleep(1) SETTINGS max_execution_time = 100000",
        ] {
            let answer = ask_as(&model, statement).await;
            assert!(answer.is_err(), "{statement}: {answer:?}");
        }
        let databases = ask_as(&model, "SELECT groupArray(name) FROM system.databases").await;
        assert!(!databases.unwrap().contains("read-victim"));
    });
}

#[test]
fn the_writer_reaches_only_its_own() {
    run(async {
        converge("write-victim", MANIFESTS).await;
        let model = workspace("write-thief", "SELECT 1 AS one").await;
        let user = (model.writer.as_str(), "writer");
        let own = "INSERT INTO `write-thief_shop`.events__landing (id, name) VALUES ('1', 'x'), ('y', 'z')";
        assert_eq!(ask_by(user, own).await, Ok(String::new()));
        let counts = ask("SELECT (SELECT count() FROM `write-thief_shop`.events), (SELECT count() FROM `write-thief_shop`.events_quarantine)").await;
        assert_eq!(counts, "1\t1");
        for statement in [
            "INSERT INTO `write-victim_shop`.events__landing (id) VALUES ('1')",
            "SELECT * FROM `write-victim_shop`.events",
            "DROP TABLE `write-thief_shop`.events",
            "ALTER TABLE `write-thief_shop`.events DELETE WHERE 1",
        ] {
            let answer = ask_by(user, statement).await;
            assert!(answer.is_err(), "{statement}: {answer:?}");
        }
    });
}

async fn ask_as(model: &WorkspaceModel, statement: &str) -> Result<String, String> {
    let database = model.database.as_str();
    let statement = statement.replace("FROM events", &format!("FROM `{database}`.events"));
    ask_by((&model.reader, "reader"), &statement).await
}

#[test]
fn limits_hold_whatever_the_sql_says() {
    run(async {
        for widened in [
            "SELECT 1 AS one FROM events SETTINGS max_execution_time = 0",
            "SELECT 1 AS one FROM events SETTINGS max_execution_time = 100000",
            "SELECT 1 AS one FROM events SETTINGS max_memory_usage = 0",
            "SELECT 1 AS one FROM events SETTINGS readonly = 0",
        ] {
            let model = workspace("pipe-limits", widened).await;
            let result = check(&model).await;
            assert!(
                matches!(result, Err(PipeError::Refused(_))),
                "{widened}: {result:?}"
            );
        }
    });
}

#[test]
fn a_reader_that_cannot_log_in_is_told_apart() {
    run(async {
        let model = workspace("pipe-login", "SELECT 1 AS one").await;
        let wrong = ReaderCredentials {
            password: "wrong".to_owned().into(),
            ..reader(&model)
        };
        let renderings = model.pipes[0].renderings();
        let result = replica()
            .check_pipe(&PipeCheck {
                database: model.database.clone(),
                reader: wrong,
                renderings,
            })
            .await;
        assert!(
            matches!(result, Err(PipeError::ReaderRefused(_))),
            "{result:?}"
        );
    });
}

//! What somebody changes by hand comes back.

use crate::harness::{converge, pass, run, sql};
use pretty_assertions::assert_eq;

const FLIGHTS: &str = "
kind: DataSource
metadata: {name: flights}
spec:
  workspace: shop
  description: Departures.
  columns:
  - {name: year, type: Int16}
  - {name: carrier, type: LowCardinality(String), comment: two letters, codec: 'ZSTD'}
  - {name: delay, type: Nullable(Int32), default: 'NULL'}
  - {name: at, type: DateTime, codec: 'Delta, LZ4'}
  sortingKey: [year, carrier]
  partitionKey: toYYYYMM(at)
  ttl: {column: at, keep: 90d}
";

/// Makes the workspace, lets somebody change it, and says what is put back.
fn repaired(namespace: &str, by_hand: &[&str]) -> Vec<String> {
    run(async {
        converge(namespace, FLIGHTS).await;
        for statement in by_hand {
            sql(&statement.replace("DB", &format!("{namespace}_shop"))).await;
        }
        let told = converge(namespace, FLIGHTS).await.told();
        let again = pass(namespace, FLIGHTS).await.told();
        assert_eq!(again, Vec::<String>::new(), "repairs hold");
        told
    })
}

#[test]
fn a_column_that_was_dropped() {
    let told = repaired(
        "drift-column",
        &["ALTER TABLE `DB`.flights DROP COLUMN delay"],
    );
    assert_eq!(told, ["add to flights: delay (Drifted)"]);
}

#[test]
fn alterations() {
    let told = repaired(
        "drift-alter",
        &[
            "ALTER TABLE `DB`.flights MODIFY TTL at + toIntervalDay(1)",
            "ALTER TABLE `DB`.flights COMMENT COLUMN carrier 'mine'",
            "ALTER TABLE `DB`.flights MODIFY COLUMN year DEFAULT 7",
            "ALTER TABLE `DB`.flights MODIFY COLUMN delay REMOVE DEFAULT",
            "ALTER TABLE `DB`.flights MODIFY COLUMN at CODEC(LZ4)",
            "ALTER TABLE `DB`.flights MODIFY SETTING merge_with_ttl_timeout = 7",
            "ALTER TABLE `DB`.flights RESET SETTING non_replicated_deduplication_window",
        ],
    );
    assert_eq!(
        told,
        [
            "set the default of flights.year (Drifted)",
            "set the comment of flights.carrier (Drifted)",
            "set the default of flights.delay (Drifted)",
            "set the codec of flights.at (Drifted)",
            "set the TTL of flights: it holds for rows from now on, and the change itself deletes nothing (Drifted)",
            "set non_replicated_deduplication_window of flights (Drifted)",
        ]
    );
}

#[test]
fn views_and_landing() {
    let told = repaired(
        "drift-views",
        &[
            "DROP VIEW `DB`.flights__reject",
            "ALTER TABLE `DB`.flights__ingest MODIFY QUERY SELECT toInt16(1) AS year FROM `DB`.flights__landing",
            "DROP TABLE `DB`.flights__landing",
        ],
    );
    assert_eq!(
        told,
        [
            "create the table flights__landing (Drifted)",
            "set the query of flights__ingest (Drifted)",
            "create the view flights__reject (Drifted)",
        ]
    );
}

#[test]
fn a_landing_of_another_shape_is_made_anew() {
    let told = repaired(
        "drift-landing",
        &["ALTER TABLE `DB`.flights__landing MODIFY COLUMN year String"],
    );
    assert_eq!(told, ["make the table flights__landing anew (Drifted)"]);
}

#[test]
fn rights_and_settings() {
    let told = repaired(
        "drift-rights",
        &[
            "REVOKE SELECT ON `DB`.* FROM `DB__reader`",
            "GRANT SELECT ON system.* TO `DB__reader`",
            "ALTER USER `DB__reader` SETTINGS max_execution_time = 10000",
            "DROP VIEW `DB`.flights__ingest SYNC",
            "DROP VIEW `DB`.flights__reject SYNC",
            "DROP USER `DB__writer`",
        ],
    );
    assert_eq!(
        told,
        [
            "set the password and settings of the user drift-rights_shop__reader (Drifted)",
            "create the user drift-rights_shop__writer (Drifted)",
            "grant SELECT to drift-rights_shop__reader (Drifted)",
            "revoke SELECT from drift-rights_shop__reader (Drifted)",
            "grant INSERT, SELECT to drift-rights_shop__writer (Drifted)",
            "create the view flights__ingest (Drifted)",
            "create the view flights__reject (Drifted)",
        ]
    );
}

#[test]
fn what_somebody_else_made_is_left_alone() {
    run(async {
        sql("CREATE DATABASE `foreign-db_shop` COMMENT 'mine'").await;
        let pass = pass("foreign-db", FLIGHTS).await;
        assert_eq!(pass.told(), Vec::<String>::new());
        assert_eq!(pass.plan.refusals.len(), 1);

        converge("foreign-table", "").await;
        sql("CREATE TABLE `foreign-table_shop`.flights (x Int8) ENGINE = Memory").await;
        let pass = crate::harness::pass("foreign-table", FLIGHTS).await;
        assert_eq!(pass.told(), Vec::<String>::new());
        assert_eq!(pass.plan.refusals.len(), 1);
    });
}

//! Rows in quarantine stay as long as the data source says, and are counted.

use crate::harness::{ask, converge, pass, replica, run, sql};
use pretty_assertions::assert_eq;
use std::collections::BTreeMap;

const EVENTS: &str = "
kind: DataSource
metadata: {name: events}
spec: {workspace: shop, columns: [{name: id, type: UInt64}], sortingKey: [id]}
";

/// As versions before `quarantine.keep` made them.
#[test]
fn a_quarantine_of_old_expires_without_partitions() {
    run(async {
        converge("old", EVENTS).await;
        let table = "old_shop.events_quarantine";
        let comment = ask(
            "SELECT comment FROM system.tables WHERE database = 'old_shop' AND name = 'events_quarantine'",
        )
        .await;
        sql(&format!("DROP TABLE {table} SYNC")).await;
        sql(&format!(
            "CREATE TABLE {table} (id Nullable(String), c__row String, c__error_column Array(String), \
             c__error Array(String), c__import_id String, insertion_date DateTime DEFAULT now()) \
             ENGINE = MergeTree ORDER BY c__import_id COMMENT '{}'",
            comment.replace('\'', "\\'")
        ))
        .await;
        sql(&format!(
            "INSERT INTO {table} (c__row, insertion_date) VALUES ('old', now() - toIntervalDay(100)), ('new', now())"
        ))
        .await;
        let told = converge("old", EVENTS).await.told();
        let ttl = "set the TTL of events_quarantine: it holds for rows from now on, and the change itself deletes nothing (Drifted)".to_owned();
        assert!(told.contains(&ttl), "{told:?}");
        assert_eq!(pass("old", EVENTS).await.told(), Vec::<String>::new());
        sql(&format!("OPTIMIZE TABLE {table} FINAL")).await;
        assert_eq!(ask(&format!("SELECT c__row FROM {table}")).await, "new");
    });
}

#[test]
fn rows_leave_quarantine_when_their_time_is_over() {
    run(async {
        for (namespace, column, time) in [
            ("keep", "tag", "insertion_date"),
            ("keep-own", "insertion_date", "c__insertion_date"),
        ] {
            let manifests = EVENTS.replace(
                "UInt64}]",
                &format!("UInt64}}, {{name: {column}, type: String}}], quarantine: {{keep: 30d}}"),
            );
            let model = converge(namespace, &manifests).await.model;
            let table = format!("`{namespace}_shop`.events_quarantine");
            for days in [0, 29, 31] {
                let row = format!("VALUES ('{days}', now() - toIntervalDay({days}))");
                sql(&format!("INSERT INTO {table} (c__row, {time}) {row}")).await;
            }
            sql(&format!("OPTIMIZE TABLE {table} FINAL")).await;
            let left = format!("SELECT c__row FROM {table} ORDER BY c__row");
            assert_eq!(ask(&left).await, "0\n29");
            let observed = replica().observe(&model.database).await.unwrap();
            let quarantined = observed.quarantined;
            assert_eq!(quarantined, BTreeMap::from([("events".to_owned(), 2)]));

            let shorter = manifests.replace("30d", "7d");
            let told = converge(namespace, &shorter).await.told();
            assert!(
                told.contains(&"set the TTL of events_quarantine: it holds for rows from now on, and the change itself deletes nothing (SpecChanged)".to_owned()),
                "{told:?}"
            );
            assert_eq!(pass(namespace, &shorter).await.told(), Vec::<String>::new());
        }
    });
}

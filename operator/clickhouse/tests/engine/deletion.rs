//! What is taken away, and when: clean-up that fails, drops of any size, and TTLs
//! that are changed while rows are there.

use crate::harness::{ask, converge, pass, pass_on, replica_as, run, sql};
use aviary_plan::Scope;
use pretty_assertions::assert_eq;

fn source(name: &str, more: &str) -> String {
    format!(
        "
kind: DataSource
metadata: {{name: {name}}}
spec: {{workspace: shop, columns: [{{name: id, type: UInt64}}, {{name: ts, type: DateTime}}], sortingKey: [id]{more}}}
---"
    )
}

/// A dictionary that somebody made keeps ClickHouse from dropping the landing that it reads.
#[test]
fn what_cannot_be_cleared_away_keeps_nothing_else_from_working() {
    run(async {
        let (old, other, new) = (source("old", ""), source("other", ""), source("new", ""));
        converge("stuck", &format!("{old}{other}")).await;
        sql(
            "CREATE DICTIONARY stuck_shop.mine (id UInt64, ts DateTime) PRIMARY KEY id \
             SOURCE(CLICKHOUSE(TABLE 'old__landing' DB 'stuck_shop')) LAYOUT(HASHED()) LIFETIME(0)",
        )
        .await;
        let stuck = pass("stuck", &format!("{other}{new}")).await;
        let failed: Vec<Scope> = stuck
            .outcomes
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .map(|outcome| stuck.plan.steps[outcome.step].scope)
            .collect();
        assert_eq!(failed, [Scope::Cleanup], "{:#?}", stuck.outcomes);
        assert_eq!(ask("EXISTS stuck_shop.new").await, "1");
        // It is tried again, and goes when nothing is in the way any more.
        let again = pass("stuck", &format!("{other}{new}")).await;
        assert_eq!(again.told(), ["drop the table old__landing (Orphaned)"]);
        sql("DROP DICTIONARY stuck_shop.mine").await;
        converge("stuck", &format!("{other}{new}")).await;
        let nothing = pass("stuck", &format!("{other}{new}")).await.told();
        assert_eq!(nothing, Vec::<String>::new());
    });
}

#[test]
fn a_shorter_ttl_deletes_nothing_in_the_second_of_the_edit() {
    run(async {
        let keep = |days: u32| source("events", &format!(", ttl: {{column: ts, keep: {days}d}}"));
        converge("shorter", &keep(90)).await;
        sql("INSERT INTO shorter_shop.events SELECT number, now() - toIntervalDay(number * 20) FROM numbers(4)")
            .await;
        let told = converge("shorter", &keep(30)).await.told();
        assert!(told[0].starts_with("set the TTL of events"), "{told:?}");
        let running =
            ask("SELECT count() FROM system.mutations WHERE database = 'shorter_shop'").await;
        assert_eq!(running, "0");
        assert_eq!(ask("SELECT count() FROM shorter_shop.events").await, "4");
        // The new policy holds for what is written from now on.
        sql("INSERT INTO shorter_shop.events VALUES (9, now() - toIntervalDay(40))").await;
        sql("OPTIMIZE TABLE shorter_shop.events FINAL").await;
        let ids =
            ask("SELECT groupArray(id) FROM (SELECT id FROM shorter_shop.events ORDER BY id)")
                .await;
        assert!(!ids.contains('9'), "{ids}");
    });
}

/// Rows of today and of times so far ahead that the sum begins again in 1970.
#[test]
fn a_row_dated_far_ahead_does_not_expire_today() {
    run(async {
        let policies = [
            ("date", "Date", "column: ts, keep: 25000d", "2149-06-06"),
            ("date32", "Date32", "column: ts, keep: 90d", "2299-12-31"),
            (
                "time",
                "DateTime",
                "column: ts, keep: 25000d",
                "2106-02-07 06:28:15",
            ),
            (
                "time64",
                "DateTime64(9)",
                "column: ts, keep: 100s",
                "2262-01-01 00:00:00",
            ),
            (
                "raw",
                "DateTime",
                "expression: ts + INTERVAL 68 YEAR",
                "2080-01-01 00:00:00",
            ),
            (
                "month",
                "DateTime",
                "expression: toStartOfMonth(ts) + toIntervalMonth(2) DELETE WHERE id < 9",
                "2106-02-07 06:28:15",
            ),
            (
                "number",
                "UInt32",
                "expression: toDateTime(ts) + INTERVAL 90 DAY",
                "2106-02-07 06:28:15",
            ),
        ];
        for (name, column_type, policy, far) in policies {
            let manifest = source(name, &format!(", ttl: {{{policy}}}"));
            let manifest = manifest.replace("type: DateTime}", &format!("type: {column_type}}}"));
            converge("ahead", &manifest).await;
            let nothing = pass("ahead", &manifest).await.told();
            assert_eq!(nothing, Vec::<String>::new(), "{name}");
            let table = format!("ahead_shop.{name}");
            for (id, moment) in [
                ("1", "now()"),
                ("2", &*format!("'{far}'")),
                ("3", "'1971-01-01'"),
            ] {
                let value = match column_type {
                    "UInt32" => format!("toUInt32(toDateTime({moment}))"),
                    _ => moment.to_owned(),
                };
                sql(&format!("INSERT INTO {table} SELECT {id}, {value}")).await;
            }
            sql(&format!("OPTIMIZE TABLE {table} FINAL")).await;
            let left = ask(&format!(
                "SELECT groupArray(id) FROM (SELECT id FROM {table} ORDER BY id)"
            ))
            .await;
            // 25000 days after 1971 are in 2039.
            let long = policy.contains("25000d") || policy.contains("68 YEAR");
            assert_eq!(left, if long { "[1,2,3]" } else { "[1,2]" }, "{name}");
        }
    });
}

/// The server's own limit is 50 GB; here it is a byte.
#[test]
fn a_drop_is_not_refused_for_its_size() {
    run(async {
        sql("CREATE USER careful IDENTIFIED WITH no_password SETTINGS max_table_size_to_drop = 1, max_partition_size_to_drop = 1").await;
        sql("GRANT ALL ON *.* TO careful WITH GRANT OPTION").await;
        let careful = replica_as("careful");
        let dropped = source("events", ", deletionPolicy: Delete");
        pass_on(&careful, "large", &dropped).await;
        sql("INSERT INTO large_shop.events SELECT number, now() FROM numbers(1000)").await;
        let refused = crate::harness::ask_by(("careful", ""), "DROP TABLE large_shop.events").await;
        assert!(refused.unwrap_err().contains("359"));
        let going = dropped.replace(
            "name: events}",
            "name: events, deletionTimestamp: '2026-01-01T00:00:00Z'}",
        );
        pass_on(&careful, "large", &going).await;
        assert_eq!(ask("SHOW TABLES FROM large_shop").await, "");
    });
}

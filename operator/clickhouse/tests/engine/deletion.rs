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
        pass_on(&careful, "large", "").await;
        assert_eq!(ask("SHOW TABLES FROM large_shop").await, "");
    });
}

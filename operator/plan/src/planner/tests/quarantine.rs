//! Quarantines: of before and of now, and beside columns of any name.

use super::{FLIGHTS, applied, repairs, told};

/// As versions before `quarantine.keep` made them: a partition key cannot be altered.
#[test]
fn a_quarantine_without_partitions_expires_too() {
    let plan = repairs(FLIGHTS, |catalog| {
        let quarantine = catalog.tables.get_mut("flights_quarantine").unwrap();
        quarantine.partition_key = String::new();
        quarantine.ttl = None;
    });
    assert_eq!(plan.refusals, []);
    assert_eq!(
        told(&plan),
        [
            "set the TTL of flights_quarantine: it holds for rows from now on, and the change itself deletes nothing (Drifted)"
        ]
    );
}

#[test]
fn a_column_of_the_same_name_does_not_tell_when_a_row_was_quarantined() {
    let flights = FLIGHTS.replace(
        "  sortingKey",
        "  - {name: insertion_date, type: Date}\n  quarantine: {keep: 36h}\n  sortingKey",
    );
    let catalog = applied(&flights);
    let quarantine = &catalog.tables["flights_quarantine"];
    assert_eq!(quarantine.partition_key, "toYYYYMM(c__insertion_date)");
    let ttl = "c__insertion_date + toIntervalSecond(129600)";
    assert_eq!(quarantine.ttl.as_deref(), Some(ttl));
}

//! From what replicas answer to the status of a `ClickHouseCluster`. Pure.
//!
//! A status changes when a person would care: shares of disks are whole percents that do not flap
//! at a boundary, sizes are rounded and move with them, delays are whole minutes and queues orders
//! of magnitude. The exact numbers are metrics.

use crate::cluster::settled::{rounded_size, settled_delay, settled_percent, settled_queue};
use crate::fleet::Answer;
use crate::reasons;
use aviary_clickhouse::{Disk, Replication};
use aviary_crds::clickhouse_cluster::{DiskStatus, PendingDrop, ReplicaStatus, ReplicationStatus};
use aviary_crds::conditions::{ConditionType, Finding, Reason, merge};
use aviary_crds::{ClickHouseClusterSpec, ClickHouseClusterStatus};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// What a replica said to its last probe, or why it said nothing.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaAnswer {
    pub(crate) name: String,
    pub(crate) answer: Answer,
}

/// The status after a round of probes.
pub(crate) fn cluster_status(
    previous: &ClickHouseClusterStatus,
    spec: &ClickHouseClusterSpec,
    answers: &[ReplicaAnswer],
    generation: Option<i64>,
    now: Timestamp,
) -> ClickHouseClusterStatus {
    let replicas: Vec<ReplicaStatus> = answers
        .iter()
        .map(|answer| replica_status(before(previous, &answer.name), spec, answer))
        .collect();
    let problems = answers
        .iter()
        .filter_map(|answer| problem(before(previous, &answer.name), spec, answer));
    let mut problems: Vec<_> = problems.collect();
    problems.sort_by_key(|(reason, _)| rank(*reason));
    let healthy = format!("{}/{}", answers.len() - problems.len(), answers.len());
    let versions: BTreeSet<&str> = replicas
        .iter()
        .filter_map(|replica| replica.version.as_deref())
        .collect();
    let findings = [
        ready(answers, &healthy),
        replicas_healthy(&problems),
        disk_headroom(spec, &replicas).unwrap_or_else(|| last_known_headroom(previous)),
        cleaned_up(&previous.pending_drops),
    ];
    let lowest = disks(&replicas).map(|(_, disk)| disk.free_percent).min();
    ClickHouseClusterStatus {
        observed_generation: generation,
        conditions: merge(&previous.conditions, &findings, generation, now),
        version: (!versions.is_empty()).then(|| versions.into_iter().collect::<Vec<_>>().join(",")),
        healthy_replicas: Some(healthy),
        lowest_free: lowest.map(|percent| format!("{percent}%")),
        pending_drops: previous.pending_drops.clone(),
        replicas,
    }
}

/// The status of a cluster that cannot be asked at all, for a reason in its own spec.
pub(crate) fn unusable_status(
    previous: &ClickHouseClusterStatus,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> ClickHouseClusterStatus {
    let findings = [
        Finding::unmet(ConditionType::Ready, reason, message),
        Finding::unknown(ConditionType::ReplicasHealthy, reason, message),
        Finding::unknown(ConditionType::DiskHeadroom, reason, message),
        cleaned_up(&previous.pending_drops),
        Finding::met(ConditionType::Stalled, reason, message),
    ];
    ClickHouseClusterStatus {
        observed_generation: generation,
        conditions: merge(&previous.conditions, &findings, generation, now),
        pending_drops: previous.pending_drops.clone(),
        ..ClickHouseClusterStatus::default()
    }
}

/// Whether all is gone that was to be dropped with its owner.
fn cleaned_up(pending: &[PendingDrop]) -> Finding {
    let condition = ConditionType::CleanedUp;
    let Some(first) = pending.first() else {
        return Finding::met(condition, Reason::Succeeded, "nothing is left over");
    };
    let what = match &first.table {
        Some(table) => format!("table `{}.{table}` of DataSource", first.database),
        None => format!("database `{}` of Workspace", first.database),
    };
    let more = match pending.len() - 1 {
        0 => String::new(),
        more => format!("; and {more} more, see status.pendingDrops"),
    };
    let message = format!(
        "{what} {} was to be dropped with it, which is tried again until it is done: {}{more}",
        first.owner, first.why
    );
    Finding::unmet(condition, Reason::DropPending, message)
}

fn before<'a>(previous: &'a ClickHouseClusterStatus, name: &str) -> Option<&'a ReplicaStatus> {
    previous
        .replicas
        .iter()
        .find(|replica| replica.name == name)
}

fn ready(answers: &[ReplicaAnswer], healthy: &str) -> Finding {
    let refusals = answers.iter().filter_map(|answer| match &answer.answer {
        Answer::Healthy(_) => None,
        Answer::Failed { category, message } => {
            Some((answer, reasons::of_category(*category), message))
        }
    });
    let refusals: Vec<_> = refusals.collect();
    if let (Some((replica, reason, message)), true) =
        (refusals.first(), refusals.len() == answers.len())
    {
        let message = format!("no replica can be used; `{}`: {message}", replica.name);
        return Finding::unmet(ConditionType::Ready, *reason, message);
    }
    let message = format!("{healthy} replicas are healthy");
    Finding::met(ConditionType::Ready, Reason::Succeeded, message)
}

fn replicas_healthy(problems: &[(Reason, String)]) -> Finding {
    let Some((reason, _)) = problems.first() else {
        return Finding::met(
            ConditionType::ReplicasHealthy,
            Reason::AllHealthy,
            "every replica answers, is writable and keeps up",
        );
    };
    let messages: Vec<&str> = problems
        .iter()
        .map(|(_, message)| message.as_str())
        .collect();
    Finding::unmet(ConditionType::ReplicasHealthy, *reason, messages.join("; "))
}

/// The worst comes first: it names the condition, so that a replica which goes away is told of
/// though another was behind already.
fn rank(reason: Reason) -> u8 {
    match reason {
        Reason::ReplicaDelayed => 2,
        Reason::ReplicaReadOnly => 1,
        _ => 0,
    }
}

/// What is wrong with a replica, the worst of it only.
fn problem(
    previous: Option<&ReplicaStatus>,
    spec: &ClickHouseClusterSpec,
    answer: &ReplicaAnswer,
) -> Option<(Reason, String)> {
    let name = &answer.name;
    let health = match &answer.answer {
        Answer::Healthy(health) => health,
        Answer::Failed { category, message } => {
            let reason = match reasons::of_category(*category) {
                Reason::ClickHouseUnreachable => Reason::ReplicaUnreachable,
                other => other,
            };
            return Some((reason, format!("`{name}`: {message}")));
        }
    };
    let replication = health.replication.as_ref()?;
    if replication.read_only > 0 {
        let message = format!(
            "`{name}` has {} of {} replicated tables read-only: it has lost its session with Keeper or its data there",
            replication.read_only, replication.tables
        );
        return Some((Reason::ReplicaReadOnly, message));
    }
    if replication.unread > 0 {
        let message = format!(
            "`{name}` has {} of {} replicated tables that have never read what to fetch from the others",
            replication.unread, replication.tables
        );
        return Some((Reason::ReplicaDelayed, message));
    }
    let limit = &spec.replica_health.max_delay;
    let message = format!("`{name}` is {limit} or more behind the others");
    // Who was behind is so until it has clearly caught up.
    let was_behind = previous.and_then(|known| known.message.as_ref()) == Some(&message);
    let bound = if was_behind {
        limit.get() * 4 / 5
    } else {
        limit.get()
    };
    let is_behind = replication.max_delay_seconds >= bound.as_secs();
    is_behind.then_some((Reason::ReplicaDelayed, message))
}

/// Disks do not empty themselves while nobody can be asked.
fn last_known_headroom(previous: &ClickHouseClusterStatus) -> Finding {
    Finding::repeated(&previous.conditions, ConditionType::DiskHeadroom)
        .filter(|known| known.status.is_some())
        .unwrap_or_else(|| {
            Finding::unknown(
                ConditionType::DiskHeadroom,
                Reason::Unknown,
                "no replica told of its disks",
            )
        })
}

fn disk_headroom(spec: &ClickHouseClusterSpec, replicas: &[ReplicaStatus]) -> Option<Finding> {
    let policy = &spec.disk_headroom;
    let (critical, warning) = (policy.critical.get(), policy.warning.get());
    let (_, fullest) = disks(replicas).min_by_key(|(_, disk)| disk.free_percent)?;
    let short: Vec<String> = disks(replicas)
        .filter(|(_, disk)| disk.free_percent < i32::from(warning))
        .map(|(replica, disk)| {
            format!(
                "disk `{}` of `{replica}` has {}% ({} of {}) free",
                disk.name, disk.free_percent, disk.free, disk.total
            )
        })
        .collect();
    if short.is_empty() {
        return Some(Finding::met(
            ConditionType::DiskHeadroom,
            Reason::EnoughSpace,
            format!("every disk has at least {warning}% free"),
        ));
    }
    let reason = if fullest.free_percent < i32::from(critical) {
        Reason::DiskCritical
    } else {
        Reason::DiskLow
    };
    let message = format!(
        "{}; merges and TTL need room: grow the disk, shorten a TTL or drop data (warning below {warning}%, critical below {critical}%)",
        short.join("; ")
    );
    Some(Finding::unmet(ConditionType::DiskHeadroom, reason, message))
}

fn disks(replicas: &[ReplicaStatus]) -> impl Iterator<Item = (&String, &DiskStatus)> {
    replicas
        .iter()
        .flat_map(|replica| replica.disks.iter().map(|disk| (&replica.name, disk)))
}

fn replica_status(
    previous: Option<&ReplicaStatus>,
    spec: &ClickHouseClusterSpec,
    answer: &ReplicaAnswer,
) -> ReplicaStatus {
    let name = answer.name.clone();
    let health = match &answer.answer {
        Answer::Healthy(health) => health,
        Answer::Failed { message, .. } => {
            return ReplicaStatus {
                name,
                reachable: false,
                message: Some(message.clone()),
                // Its disks do not empty themselves while it cannot be asked.
                ..previous.cloned().unwrap_or_default()
            };
        }
    };
    let known_disks = previous.map_or(&[][..], |previous| &previous.disks);
    let known_replication = previous.and_then(|previous| previous.replication.as_ref());
    ReplicaStatus {
        name,
        reachable: true,
        message: problem(previous, spec, answer).map(|(_, message)| message),
        version: Some(health.version.clone()),
        disks: health
            .disks
            .iter()
            // A disk without a size cannot be filled.
            .filter(|disk| disk.total_bytes > 0)
            .map(|disk| disk_status(known_disks.iter().find(|one| one.name == disk.name), disk))
            .collect(),
        replication: health
            .replication
            .as_ref()
            .map(|replication| replication_status(known_replication, replication)),
    }
}

fn disk_status(previous: Option<&DiskStatus>, disk: &Disk) -> DiskStatus {
    let exact = disk.free_bytes as f64 * 100.0 / disk.total_bytes as f64;
    let free_percent = settled_percent(previous.map(|previous| previous.free_percent), exact);
    let total = rounded_size(disk.total_bytes);
    let free = previous
        .filter(|previous| (previous.free_percent, &previous.total) == (free_percent, &total))
        .map_or_else(
            || rounded_size(disk.free_bytes),
            |previous| previous.free.clone(),
        );
    DiskStatus {
        name: disk.name.clone(),
        total,
        free,
        free_percent,
    }
}

fn replication_status(
    previous: Option<&ReplicationStatus>,
    replication: &Replication,
) -> ReplicationStatus {
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    // Since 1970 is no delay to tell of, and would be another one each minute.
    let delay = if replication.unread > 0 {
        0
    } else {
        replication.max_delay_seconds
    };
    ReplicationStatus {
        tables: whole(replication.tables),
        read_only: whole(replication.read_only),
        max_delay_seconds: settled_delay(
            previous.map(|previous| previous.max_delay_seconds),
            whole(delay),
        ),
        queue: settled_queue(
            previous.map(|previous| previous.queue),
            whole(replication.queue),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aviary_clickhouse::Category;
    use aviary_clickhouse::Health;
    use aviary_crds::conditions::find;
    use rstest::rstest;

    const GIB: u64 = 1 << 30;

    fn spec() -> ClickHouseClusterSpec {
        serde_json::from_value(serde_json::json!({ "external": {
            "replicas": [{ "name": "a", "url": "http://a" }, { "name": "b", "url": "http://b" }],
            "credentialsSecretRef": { "name": "s" },
        }}))
        .unwrap()
    }

    fn healthy(name: &str, free: u64, replication: Option<Replication>) -> ReplicaAnswer {
        ReplicaAnswer {
            name: name.to_owned(),
            answer: Answer::Healthy(Health {
                version: "26.7.2".to_owned(),
                disks: vec![Disk {
                    name: "default".to_owned(),
                    total_bytes: 100 * GIB,
                    free_bytes: free,
                }],
                replication,
            }),
        }
    }

    fn dead(name: &str) -> ReplicaAnswer {
        ReplicaAnswer {
            name: name.to_owned(),
            answer: Answer::Failed {
                category: Category::Silent,
                message: "connection refused".to_owned(),
            },
        }
    }

    fn replication(read_only: u64, delay: u64) -> Replication {
        Replication {
            tables: 3,
            read_only,
            unread: 0,
            max_delay_seconds: delay,
            queue: 0,
        }
    }

    fn status(
        previous: &ClickHouseClusterStatus,
        answers: &[ReplicaAnswer],
        second: i64,
    ) -> ClickHouseClusterStatus {
        let now = Timestamp::from_second(second).unwrap();
        cluster_status(previous, &spec(), answers, Some(1), now)
    }

    fn reasons(status: &ClickHouseClusterStatus) -> Vec<(&str, &str)> {
        [
            ConditionType::Ready,
            ConditionType::ReplicasHealthy,
            ConditionType::DiskHeadroom,
        ]
        .iter()
        .map(|one| find(&status.conditions, *one).unwrap())
        .map(|condition| (condition.status.as_str(), condition.reason.as_str()))
        .collect()
    }

    #[rstest]
    #[case::well(
        vec![healthy("a", 50 * GIB, None), healthy("b", 60 * GIB, Some(replication(0, 10)))],
        [("True", "Succeeded"), ("True", "AllHealthy"), ("True", "EnoughSpace")], "2/2"
    )]
    #[case::one_dead(
        vec![dead("a"), healthy("b", 60 * GIB, None)],
        [("True", "Succeeded"), ("False", "ReplicaUnreachable"), ("True", "EnoughSpace")], "1/2"
    )]
    #[case::all_dead(
        vec![dead("a"), dead("b")],
        [("False", "ClickHouseUnreachable"), ("False", "ReplicaUnreachable"), ("Unknown", "Unknown")], "0/2"
    )]
    #[case::read_only(
        vec![healthy("a", 50 * GIB, Some(replication(1, 900))), healthy("b", 60 * GIB, None)],
        [("True", "Succeeded"), ("False", "ReplicaReadOnly"), ("True", "EnoughSpace")], "1/2"
    )]
    #[case::behind(
        vec![healthy("a", 50 * GIB, Some(replication(0, 300))), healthy("b", 60 * GIB, None)],
        [("True", "Succeeded"), ("False", "ReplicaDelayed"), ("True", "EnoughSpace")], "1/2"
    )]
    #[case::the_worst_names_it(
        vec![healthy("a", 50 * GIB, Some(replication(1, 900))), dead("b")],
        [("True", "Succeeded"), ("False", "ReplicaUnreachable"), ("True", "EnoughSpace")], "0/2"
    )]
    #[case::low(
        vec![healthy("a", 15 * GIB, None), healthy("b", 60 * GIB, None)],
        [("True", "Succeeded"), ("True", "AllHealthy"), ("False", "DiskLow")], "2/2"
    )]
    #[case::critical(
        vec![healthy("a", 15 * GIB, None), healthy("b", 5 * GIB, None)],
        [("True", "Succeeded"), ("True", "AllHealthy"), ("False", "DiskCritical")], "2/2"
    )]
    fn conditions(
        #[case] answers: Vec<ReplicaAnswer>,
        #[case] expected: [(&str, &str); 3],
        #[case] healthy: &str,
    ) {
        let status = status(&ClickHouseClusterStatus::default(), &answers, 1);
        assert_eq!(reasons(&status), expected);
        assert_eq!(status.healthy_replicas.as_deref(), Some(healthy));
    }

    #[test]
    fn a_table_that_never_replicated_is_told_of_without_a_number() {
        let mut idle = replication(0, 1_795_677_960);
        idle.unread = 2;
        let answers = [
            healthy("a", 50 * GIB, Some(idle)),
            healthy("b", 50 * GIB, None),
        ];
        let status = status(&ClickHouseClusterStatus::default(), &answers, 1);
        assert_eq!(reasons(&status)[1], ("False", "ReplicaDelayed"));
        assert_eq!(
            status.replicas[0].message.as_deref(),
            Some(
                "`a` has 2 of 3 replicated tables that have never read what to fetch from the others"
            )
        );
    }

    #[test]
    fn small_changes_do_not_change_the_status() {
        let none = ClickHouseClusterStatus::default();
        let first = status(
            &none,
            &[healthy("a", 42 * GIB + GIB / 2, Some(replication(0, 61)))],
            1,
        );
        assert_eq!(first.lowest_free.as_deref(), Some("42%"));
        for (free, delay) in [(42 * GIB - GIB / 4, 119), (43 * GIB + GIB / 4, 60)] {
            let next = status(
                &first,
                &[healthy("a", free, Some(replication(0, delay)))],
                2,
            );
            assert_eq!(next, first, "{free} {delay}");
        }
        let fell = status(
            &first,
            &[healthy("a", 41 * GIB, Some(replication(0, 61)))],
            2,
        );
        assert_eq!(fell.lowest_free.as_deref(), Some("41%"));
        assert_eq!(fell.replicas[0].disks[0].free, "41Gi");
    }

    #[test]
    fn what_was_known_of_disks_stays_while_nobody_can_be_asked() {
        let none = ClickHouseClusterStatus::default();
        let low = status(&none, &[healthy("a", 15 * GIB, None)], 1);
        let dead = status(&low, &[dead("a")], 2);
        let headroom = |status: &ClickHouseClusterStatus| {
            find(&status.conditions, ConditionType::DiskHeadroom).cloned()
        };
        assert_eq!(headroom(&dead), headroom(&low));
        assert_eq!(headroom(&dead).unwrap().reason, "DiskLow");
    }

    #[test]
    fn the_full_disk_of_a_dead_replica_stays_full() {
        let none = ClickHouseClusterStatus::default();
        let full = status(
            &none,
            &[healthy("a", 5 * GIB, None), healthy("b", 60 * GIB, None)],
            1,
        );
        let dead = status(&full, &[dead("a"), healthy("b", 60 * GIB, None)], 2);
        assert_eq!(reasons(&dead)[2], ("False", "DiskCritical"));
        assert_eq!(dead.lowest_free.as_deref(), Some("5%"));
        let (before, after) = (&full.replicas[0], &dead.replicas[0]);
        assert!(!after.reachable);
        assert_eq!(
            (&after.disks, &after.version),
            (&before.disks, &before.version)
        );
    }

    #[test]
    fn a_disk_without_a_size_is_not_full() {
        let mut answer = healthy("a", 50 * GIB, None);
        if let Answer::Healthy(health) = &mut answer.answer {
            health.disks.push(Disk {
                name: "s3".to_owned(),
                total_bytes: 0,
                free_bytes: 0,
            });
        }
        let status = status(&ClickHouseClusterStatus::default(), &[answer], 1);
        assert_eq!(reasons(&status)[2], ("True", "EnoughSpace"));
    }

    #[test]
    fn a_replica_is_behind_until_it_has_clearly_caught_up() {
        let mut known = ClickHouseClusterStatus::default();
        for (second, (delay, expected)) in [
            (299, "True"),
            (301, "False"),
            (299, "False"),
            (239, "True"),
            (299, "True"),
        ]
        .into_iter()
        .enumerate()
        {
            let answers = [healthy("a", 50 * GIB, Some(replication(0, delay)))];
            known = status(&known, &answers, second as i64);
            assert_eq!(reasons(&known)[1].0, expected, "{second}: {delay}");
        }
    }
}

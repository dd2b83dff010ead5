//! From what a pass found out to the conditions of each object. Pure.
//!
//! `Accepted` says whether the spec is in order, `Applied` whether every replica has it,
//! `Published` whether gateways serve it, and `Ready` sums up. `Reconciling` and `Stalled` say, as
//! kstatus defines them, whether it gets better by itself or waits for a person.

use aviary_crds::conditions::{ConditionType, Finding, Reason, find};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::BTreeMap;

/// Why something is not as it ought to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, message }
    }
}

/// What a pass found out about one object in ClickHouse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InClickHouse {
    /// What replicas refused or could not do in time, by replica.
    pub(crate) failures: BTreeMap<String, Fault>,
    /// Replicas that could not be worked with, with the fault of each.
    pub(crate) absent: BTreeMap<String, Fault>,
    /// Whether one replica at least has the object as the spec says.
    pub(crate) somewhere: bool,
}

/// How an object stands before the pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before<'a> {
    pub(crate) conditions: &'a [Condition],
    pub(crate) generation: Option<i64>,
    /// Whether something of it, perhaps older than this spec, is live.
    pub(crate) is_live: bool,
}

impl Before<'_> {
    /// Whether this very spec was on every replica already.
    pub(crate) fn was_applied(&self) -> bool {
        find(self.conditions, ConditionType::Applied).is_some_and(|condition| {
            condition.status == "True" && condition.observed_generation == self.generation
        })
    }
}

/// Whether the spec is in order.
pub(crate) fn accepted(rejection: Option<&Fault>) -> Finding {
    match rejection {
        Some(fault) => unmet(ConditionType::Accepted, fault),
        None => Finding::met(ConditionType::Accepted, Reason::Valid, "the spec is valid"),
    }
}

/// Whether the workspace as such is in place: for it, unlike for what is in it, no replica at all
/// is trouble worth telling.
pub(crate) fn workspace_applied(
    before: Before<'_>,
    rejection: Option<&Fault>,
    found: &InClickHouse,
) -> Finding {
    let first = found.absent.iter().next();
    match first.filter(|_| rejection.is_none() && !found.somewhere && found.failures.is_empty()) {
        Some((replica, fault)) => Finding::unmet(
            ConditionType::Applied,
            fault.reason,
            format!(
                "no replica can be worked with; `{replica}`: {}",
                fault.message
            ),
        ),
        None => applied(before, rejection, found),
    }
}

/// Whether every replica has the object. A replica that went away after it had this spec still
/// has it: that is the cluster's trouble, not a thousand objects'.
pub(crate) fn applied(
    before: Before<'_>,
    rejection: Option<&Fault>,
    found: &InClickHouse,
) -> Finding {
    if let Some(fault) = rejection {
        let message = if before.is_live {
            "what is live is as it was before, as the spec is not accepted"
        } else {
            "not applied, as the spec is not accepted"
        };
        return Finding::unmet(ConditionType::Applied, fault.reason, message);
    }
    let absent = found.absent.iter().filter(|_| !before.was_applied());
    let lacking: Vec<(&String, &Fault)> = found.failures.iter().chain(absent).collect();
    match lacking.first() {
        None => Finding::met(
            ConditionType::Applied,
            Reason::Succeeded,
            "every replica has it",
        ),
        Some((_, first)) => {
            let messages: Vec<String> = lacking
                .iter()
                .map(|(replica, fault)| format!("`{replica}` lacks it: {}", fault.message))
                .collect();
            Finding::unmet(ConditionType::Applied, first.reason, messages.join("; "))
        }
    }
}

/// Whether nothing is left that ought to be gone. It stands beside `Ready`: what is left over keeps
/// nothing from working. Where ClickHouse was not asked, it is as it was.
pub(crate) fn cleaned_up(
    previous: &[Condition],
    left_over: Option<&BTreeMap<String, Fault>>,
) -> Option<Finding> {
    let condition = ConditionType::CleanedUp;
    let Some(left_over) = left_over else {
        return Finding::repeated(previous, condition);
    };
    let Some((_, first)) = left_over.iter().next() else {
        let message = "nothing is left over";
        return Some(Finding::met(condition, Reason::Succeeded, message));
    };
    let messages = left_over
        .iter()
        .map(|(replica, fault)| format!("`{replica}`: {}", fault.message));
    let message = format!(
        "what nobody wants any more cannot be cleared away and is tried again; {}",
        messages.collect::<Vec<_>>().join("; ")
    );
    Some(Finding::unmet(condition, first.reason, message))
}

/// A condition that does not hold for this fault.
pub(crate) fn unmet(condition: ConditionType, fault: &Fault) -> Finding {
    Finding::unmet(condition, fault.reason, fault.message.clone())
}

/// Puts `Ready` before the others and `Reconciling` or `Stalled` after them.
pub(crate) fn sum_up(findings: Vec<Finding>, ready: impl Into<String>) -> Vec<Finding> {
    let trouble = findings.iter().find(|finding| finding.status != Some(true));
    let (summary, progress) = match trouble {
        None => (
            Finding::met(ConditionType::Ready, Reason::Succeeded, ready),
            None,
        ),
        Some(trouble) => {
            let (reason, message) = (trouble.reason, trouble.message.clone());
            let progress = if waits_for_a_person(reason) {
                ConditionType::Stalled
            } else {
                ConditionType::Reconciling
            };
            (
                Finding::unmet(ConditionType::Ready, reason, message.clone()),
                Some(Finding::met(progress, reason, message)),
            )
        }
    };
    std::iter::once(summary)
        .chain(findings)
        .chain(progress)
        .collect()
}

/// Whether nothing will get better until somebody changes this object or what refuses it. What
/// another object's arrival cures is not of that kind.
pub(crate) fn waits_for_a_person(reason: Reason) -> bool {
    match reason {
        Reason::Invalid
        | Reason::OutOfReach
        | Reason::DependencyCycle
        | Reason::NameConflict
        | Reason::OwnedByAnother
        | Reason::NamespaceNotAllowed
        | Reason::ShapeChangeRefused
        | Reason::ClickHouseRefused
        | Reason::CredentialsInvalid
        | Reason::SecretConflict
        | Reason::ValueTaken
        | Reason::ValueTooWeak
        | Reason::LastGoodRevisionLive
        | Reason::Paused => true,
        Reason::ReferenceNotFound
        | Reason::DependencyNotReady
        | Reason::ClickHouseUnreachable
        | Reason::ClickHouseBusy
        | Reason::InProgress
        | Reason::Unknown
        | Reason::Succeeded
        | Reason::Valid
        | Reason::EnoughSpace
        | Reason::AllHealthy
        | Reason::DiskLow
        | Reason::DiskCritical
        | Reason::ReplicaUnreachable
        | Reason::ReplicaReadOnly
        | Reason::ReplicaDelayed
        | Reason::DropPending => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aviary_crds::conditions::{is_true, merge};
    use jiff::Timestamp;
    use rstest::rstest;

    fn fault(reason: Reason) -> Fault {
        Fault::new(reason, "why")
    }

    fn conditions(
        previous: &[Condition],
        generation: i64,
        rejection: Option<Reason>,
        found: &InClickHouse,
    ) -> Vec<Condition> {
        let before = Before {
            conditions: previous,
            generation: Some(generation),
            is_live: !previous.is_empty(),
        };
        let rejection = rejection.map(fault);
        let findings = vec![
            accepted(rejection.as_ref()),
            applied(before, rejection.as_ref(), found),
        ];
        let now = Timestamp::from_second(generation).unwrap();
        merge(previous, &sum_up(findings, "live"), Some(generation), now)
    }

    fn everywhere() -> InClickHouse {
        InClickHouse {
            somewhere: true,
            ..InClickHouse::default()
        }
    }

    fn absent(reason: Reason) -> InClickHouse {
        InClickHouse {
            absent: BTreeMap::from([("b".to_owned(), fault(reason))]),
            somewhere: true,
            ..InClickHouse::default()
        }
    }

    fn failed(reason: Reason) -> InClickHouse {
        InClickHouse {
            failures: BTreeMap::from([("b".to_owned(), fault(reason))]),
            somewhere: true,
            ..InClickHouse::default()
        }
    }

    fn text(conditions: &[Condition]) -> Vec<String> {
        conditions
            .iter()
            .map(|one| format!("{}={} {}", one.type_, one.status, one.reason))
            .collect()
    }

    #[rstest]
    #[case::well(None, everywhere(), &["Ready=True Succeeded", "Accepted=True Valid", "Applied=True Succeeded"])]
    #[case::invalid(
        Some(Reason::Invalid), everywhere(),
        &["Ready=False Invalid", "Accepted=False Invalid", "Applied=False Invalid", "Stalled=True Invalid"]
    )]
    #[case::reference(
        Some(Reason::ReferenceNotFound), everywhere(),
        &["Ready=False ReferenceNotFound", "Accepted=False ReferenceNotFound", "Applied=False ReferenceNotFound", "Reconciling=True ReferenceNotFound"]
    )]
    #[case::refused(
        None, failed(Reason::ClickHouseRefused),
        &["Ready=False ClickHouseRefused", "Accepted=True Valid", "Applied=False ClickHouseRefused", "Stalled=True ClickHouseRefused"]
    )]
    #[case::busy(
        None, failed(Reason::ClickHouseBusy),
        &["Ready=False ClickHouseBusy", "Accepted=True Valid", "Applied=False ClickHouseBusy", "Reconciling=True ClickHouseBusy"]
    )]
    #[case::unreachable(
        None, absent(Reason::ClickHouseUnreachable),
        &["Ready=False ClickHouseUnreachable", "Accepted=True Valid", "Applied=False ClickHouseUnreachable", "Reconciling=True ClickHouseUnreachable"]
    )]
    fn a_new_object(
        #[case] rejection: Option<Reason>,
        #[case] found: InClickHouse,
        #[case] expected: &[&str],
    ) {
        assert_eq!(text(&conditions(&[], 1, rejection, &found)), expected);
    }

    #[test]
    fn a_replica_that_goes_away_changes_no_object_that_it_had() {
        let live = conditions(&[], 1, None, &everywhere());
        let gone = absent(Reason::ClickHouseUnreachable);
        assert_eq!(conditions(&live, 1, None, &gone), live);
        let changed = conditions(&live, 2, None, &gone);
        assert!(!is_true(&changed, ConditionType::Applied));
    }

    #[test]
    fn a_workspace_tells_that_no_replica_is_there() {
        let before = Before {
            conditions: &conditions(&[], 1, None, &everywhere()),
            generation: Some(1),
            is_live: true,
        };
        let mut found = absent(Reason::ClickHouseUnreachable);
        assert_eq!(workspace_applied(before, None, &found).status, Some(true));
        found.somewhere = false;
        let finding = workspace_applied(before, None, &found);
        assert_eq!(finding.status, Some(false));
        assert_eq!(finding.reason, Reason::ClickHouseUnreachable);
    }

    #[test]
    fn a_refused_change_says_that_the_old_is_live() {
        let live = conditions(&[], 1, None, &everywhere());
        let refused = conditions(&live, 2, Some(Reason::ShapeChangeRefused), &everywhere());
        let applied = find(&refused, ConditionType::Applied).unwrap();
        assert!(applied.message.starts_with("what is live"), "{applied:?}");
        let never = conditions(&[], 1, Some(Reason::Invalid), &everywhere());
        let applied = find(&never, ConditionType::Applied).unwrap();
        assert!(applied.message.starts_with("not applied"), "{applied:?}");
    }

    #[test]
    fn what_is_left_over_is_said_until_it_is_gone() {
        let said = |previous: &[Condition], left_over: Option<&BTreeMap<String, Fault>>| {
            let finding = cleaned_up(previous, left_over)?;
            let now = Timestamp::UNIX_EPOCH;
            Some(merge(previous, &[finding], Some(1), now))
        };
        let refused = BTreeMap::from([("a".to_owned(), fault(Reason::ClickHouseRefused))]);
        let left = said(&[], Some(&refused)).unwrap();
        assert_eq!(text(&left), ["CleanedUp=False ClickHouseRefused"]);
        assert!(left[0].message.ends_with("`a`: why"), "{left:?}");
        assert_eq!(said(&left, None), Some(left.clone()));
        let gone = said(&left, Some(&BTreeMap::new())).unwrap();
        assert_eq!(text(&gone), ["CleanedUp=True Succeeded"]);
        assert_eq!(said(&[], None), None);
    }

    #[test]
    fn the_message_names_every_replica_that_lacks_it() {
        let mut found = failed(Reason::ClickHouseRefused);
        found
            .absent
            .insert("c".to_owned(), fault(Reason::ClickHouseUnreachable));
        let conditions = conditions(&[], 1, None, &found);
        let applied = find(&conditions, ConditionType::Applied).unwrap();
        assert_eq!(applied.message, "`b` lacks it: why; `c` lacks it: why");
    }
}

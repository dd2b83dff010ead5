//! The one vocabulary of conditions and the one setter for them, so that
//! kstatus, Argo CD, Flux and `kubectl wait` understand every kind alike.

use crate::vocabulary::vocabulary;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The types of conditions, as they stand in `status.conditions[].type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// Sums up the others.
    Ready,
    /// The spec is valid.
    Accepted,
    /// ClickHouse has it, on every replica.
    Applied,
    /// The live revision is this spec (pipes).
    Published,
    /// Work is under way (kstatus; present only while true).
    Reconciling,
    /// Nothing will happen until somebody changes something (kstatus; present only while true).
    Stalled,
    /// Every disk has the room that merges and TTL need (clusters).
    DiskHeadroom,
    /// Every replica answers, is writable and keeps up (clusters).
    ReplicasHealthy,
    /// Nothing is left in ClickHouse that ought to be gone (workspaces, clusters).
    CleanedUp,
}

impl ConditionType {
    /// The text in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Accepted => "Accepted",
            Self::Applied => "Applied",
            Self::Published => "Published",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::DiskHeadroom => "DiskHeadroom",
            Self::ReplicasHealthy => "ReplicasHealthy",
            Self::CleanedUp => "CleanedUp",
        }
    }
}

vocabulary! {
    /// Why a condition has its status; also the reason of the event that tells of it.
    Reason:
    /// All is as the spec says.
    Succeeded,
    /// The spec is valid.
    Valid,
    /// The spec is wrong; the message says where.
    Invalid,
    /// Something the spec names does not exist (yet).
    ReferenceNotFound,
    /// The SQL reads or calls what tells of the server or of other tenants.
    OutOfReach,
    /// Pipes use each other in a circle.
    DependencyCycle,
    /// Another object has this name in the same workspace.
    NameConflict,
    /// The ClickHouse object belongs to another Kubernetes object.
    OwnedByAnother,
    /// The cluster does not admit workspaces from this namespace.
    NamespaceNotAllowed,
    /// The change would rewrite a live table, which is not supported yet.
    ShapeChangeRefused,
    /// Something this object needs is not ready.
    DependencyNotReady,
    /// ClickHouse refused a statement.
    ClickHouseRefused,
    /// ClickHouse could not be reached in time.
    ClickHouseUnreachable,
    /// ClickHouse cannot do it now: too many queries, no memory, a table that is read-only.
    ClickHouseBusy,
    /// The Secret with the credentials is missing or incomplete.
    CredentialsInvalid,
    /// The Secret this token would write belongs to someone else.
    SecretConflict,
    /// Another token has this value, or had it, so this one is not given out.
    ValueTaken,
    /// The token's value is too short or too simple to be a secret.
    ValueTooWeak,
    /// The last good revision is live, this spec is not.
    LastGoodRevisionLive,
    /// Work is under way.
    InProgress,
    /// The annotation `aviary.dev/paused` is set.
    Paused,
    /// A disk is below the warning threshold.
    DiskLow,
    /// A disk is below the critical threshold.
    DiskCritical,
    /// Every disk has room.
    EnoughSpace,
    /// Every replica is well.
    AllHealthy,
    /// A replica does not answer.
    ReplicaUnreachable,
    /// A replicated table is read-only.
    ReplicaReadOnly,
    /// A replica lags behind.
    ReplicaDelayed,
    /// Data that its owner wanted dropped with him could not be dropped yet; it is tried again.
    DropPending,
    /// Not known yet.
    Unknown,
}

/// What a condition says, before it is merged with the previous status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which condition.
    pub condition: ConditionType,
    /// `Some(true)` is `True`, `Some(false)` is `False`, `None` is `Unknown`.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// What is wrong, where, and what to do. Never a secret or a literal value.
    pub message: String,
}

impl Finding {
    /// A finding that holds.
    pub fn met(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            condition,
            status: Some(true),
            reason,
            message: message.into(),
        }
    }

    /// A finding that does not hold.
    pub fn unmet(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            condition,
            status: Some(false),
            reason,
            message: message.into(),
        }
    }

    /// What a condition said last, where there is nothing new to say.
    pub fn repeated(previous: &[Condition], condition: ConditionType) -> Option<Self> {
        let known = find(previous, condition)?;
        let reason = Reason::ALL.iter().find(|it| it.as_str() == known.reason)?;
        Some(Self {
            condition,
            status: match known.status.as_str() {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            },
            reason: *reason,
            message: known.message.clone(),
        })
    }

    /// A finding that cannot be told.
    pub fn unknown(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            condition,
            status: None,
            reason,
            message: message.into(),
        }
    }
}

/// Turns findings into conditions: the transition time of an unchanged status
/// is kept, `observedGeneration` is set, and what is not found any more goes.
pub fn merge(
    previous: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .iter()
        .map(|finding| {
            let status = match finding.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let since = previous
                .iter()
                .find(|old| old.type_ == finding.condition.as_str() && old.status == status)
                .map_or_else(|| Time(now), |old| old.last_transition_time.clone());
            Condition {
                type_: finding.condition.as_str().to_owned(),
                status: status.to_owned(),
                reason: finding.reason.as_str().to_owned(),
                message: finding.message.clone(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// The condition of this type, if there.
pub fn find(conditions: &[Condition], condition: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == condition.as_str())
}

/// Whether the condition is there and `True`.
pub fn is_true(conditions: &[Condition], condition: ConditionType) -> bool {
    find(conditions, condition).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_time_is_kept_while_the_status_stays() {
        let early = Timestamp::from_second(1_000).unwrap();
        let late = Timestamp::from_second(2_000).unwrap();
        let first = merge(
            &[],
            &[Finding::met(ConditionType::Ready, Reason::Succeeded, "")],
            Some(1),
            early,
        );
        let same = merge(
            &first,
            &[Finding::met(ConditionType::Ready, Reason::Succeeded, "x")],
            Some(2),
            late,
        );
        assert_eq!(same[0].last_transition_time.0, early);
        assert_eq!(same[0].observed_generation, Some(2));
        let other = merge(
            &same,
            &[Finding::unmet(ConditionType::Ready, Reason::Invalid, "")],
            Some(3),
            late,
        );
        assert_eq!(other[0].last_transition_time.0, late);
    }

    #[test]
    fn what_is_not_found_any_more_goes() {
        let now = Timestamp::from_second(1).unwrap();
        let first = merge(
            &[],
            &[Finding::met(ConditionType::Stalled, Reason::Invalid, "")],
            None,
            now,
        );
        assert!(merge(&first, &[], None, now).is_empty());
    }
}

//! Asks every replica of a cluster for its health, all at once and each directly, so that one
//! that hangs is known to hang and hides nothing of the others.

use crate::cluster::fleet::Heard;
use crate::cluster::{Connected, describe};
use aviary_clickhouse::{ClickHouseError, Health, Replica};
use aviary_crds::conditions::Reason;
use futures::future::join_all;
use std::time::Duration;

/// What a replica said, or why it said nothing.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaAnswer {
    pub(crate) name: String,
    pub(crate) answer: Answer,
}

/// The answer to a probe.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Healthy(Health),
    Failed { reason: Reason, message: String },
}

impl Answer {
    /// What to remember of it. A replica that refuses is not away, and is in what state it was.
    pub(crate) fn heard(&self) -> Heard {
        match self {
            Self::Healthy(health) => Heard::Health(health.clone()),
            Self::Failed {
                reason: Reason::ClickHouseUnreachable,
                ..
            } => Heard::Nothing,
            Self::Failed { .. } => Heard::Refusal,
        }
    }
}

/// How long a replica may take to tell of its health.
const DEADLINE: Duration = Duration::from_secs(10);

/// Probes every replica.
pub(crate) async fn probe(replicas: &[Connected]) -> Vec<ReplicaAnswer> {
    join_all(replicas.iter().map(|one| probe_one(&one.replica))).await
}

/// A replica that is silent or cannot answer once may be busy with something long; it is asked
/// again before everybody is told that it is away.
async fn probe_one(replica: &Replica) -> ReplicaAnswer {
    let answer = match ask(replica).await {
        Err(error) if error.is_transient() => ask(replica).await,
        answer => answer,
    };
    let answer = match answer {
        Ok(health) => Answer::Healthy(health),
        Err(error) => Answer::Failed {
            reason: error.reason(),
            message: describe(replica.name(), &error),
        },
    };
    ReplicaAnswer {
        name: replica.name().to_owned(),
        answer,
    }
}

async fn ask(replica: &Replica) -> Result<Health, ClickHouseError> {
    let in_time = tokio::time::timeout(DEADLINE, replica.probe()).await;
    in_time.unwrap_or_else(|_| {
        Err(ClickHouseError::TimedOut {
            replica: replica.name().to_owned(),
            deadline: DEADLINE,
        })
    })
}

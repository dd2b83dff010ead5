//! Asks every replica of a cluster for its health, all at once and each directly, so that one
//! that hangs is known to hang and hides nothing of the others.

use crate::cluster::{Connected, describe};
use aviary_clickhouse::{Health, Replica};
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

/// How long a replica may take to tell of its health.
const DEADLINE: Duration = Duration::from_secs(10);

/// Probes every replica.
pub(crate) async fn probe(replicas: &[Connected]) -> Vec<ReplicaAnswer> {
    join_all(replicas.iter().map(|one| probe_one(&one.replica))).await
}

/// A replica that is silent once may be busy with something long; it is asked again before
/// everybody is told that it is away.
async fn probe_one(replica: &Replica) -> ReplicaAnswer {
    let answer = match ask(replica).await {
        Some(answer) => answer,
        None => ask(replica).await.unwrap_or_else(|| Answer::Failed {
            reason: Reason::ClickHouseUnreachable,
            message: format!("no answer within {} s, twice", DEADLINE.as_secs()),
        }),
    };
    ReplicaAnswer {
        name: replica.name().to_owned(),
        answer,
    }
}

/// The answer; none if it does not come in time.
async fn ask(replica: &Replica) -> Option<Answer> {
    let answer = tokio::time::timeout(DEADLINE, replica.probe()).await.ok()?;
    Some(match answer {
        Ok(health) => Answer::Healthy(health),
        Err(error) => Answer::Failed {
            reason: error.reason(),
            message: describe(replica.name(), &error),
        },
    })
}

//! Connections to every cluster's replicas, what the last probe said of them, and how much may be
//! asked of a cluster at once, so that a slow one uses up its own share and nobody else's.

use crate::kubernetes::{Kubernetes, KubernetesError};
use crate::names::ObjectName;
use aviary_clickhouse::{ClickHouseError, Health, Replica, ReplicaConfig};
use aviary_crds::ClickHouseCluster;
use aviary_crds::conditions::Reason;
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Deadlines and bounds for every cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FleetOptions {
    pub(crate) connect_deadline: Duration,
    pub(crate) statement_deadline: Duration,
    pub(crate) workspaces_at_once: usize,
}

/// Every cluster that is or was asked for.
pub(crate) struct Fleet {
    kubernetes: Kubernetes,
    options: FleetOptions,
    clusters: Mutex<HashMap<ObjectName, Arc<Member>>>,
    /// How many statements were sent to all replicas there ever were.
    statements: Arc<AtomicU64>,
}

/// What is known of one cluster.
struct Member {
    permits: Arc<Semaphore>,
    /// Held while connecting, so that many workspaces read the credentials once.
    connection: tokio::sync::Mutex<Option<Connection>>,
    health: Mutex<Probes>,
}

/// How each replica was when it last answered; nothing if it does not answer.
type Probes = BTreeMap<String, Option<Health>>;

/// What a round of probes heard of a replica.
pub(crate) enum Heard {
    Health(Health),
    /// It is there, and could not say how it is.
    Refusal,
    /// It does not answer.
    Nothing,
}

/// Connections, and the spec they were made for.
struct Connection {
    uid: Option<String>,
    generation: Option<i64>,
    replicas: Vec<Connected>,
}

/// A replica with its address.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) replica: Replica,
    pub(crate) url: String,
}

/// Why a cluster cannot be asked anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Credentials(String),
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    #[error("replica `{replica}`: {error}")]
    Address {
        replica: String,
        error: ClickHouseError,
    },
}

impl ConnectError {
    /// The reason for conditions; none where the cluster itself is not at fault.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Credentials(_) => Some(Reason::CredentialsInvalid),
            Self::Address { .. } => Some(Reason::Invalid),
            Self::Kubernetes(_) => None,
        }
    }
}

impl Fleet {
    pub(crate) fn new(kubernetes: Kubernetes, options: FleetOptions) -> Self {
        Self {
            kubernetes,
            options,
            clusters: Mutex::default(),
            statements: Arc::default(),
        }
    }

    /// How many statements were sent to ClickHouse.
    pub(crate) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Waits for a turn to work on the cluster.
    pub(crate) async fn turn(&self, cluster: &ObjectName) -> Option<OwnedSemaphorePermit> {
        let permits = self.member(cluster).permits.clone();
        permits.acquire_owned().await.ok()
    }

    /// Connections to every replica of the spec. They are kept until the spec changes or
    /// [`Self::forget_credentials`].
    pub(crate) async fn connect(
        &self,
        name: &ObjectName,
        cluster: &ClickHouseCluster,
    ) -> Result<Vec<Connected>, ConnectError> {
        let member = self.member(name);
        let connection = &mut *member.connection.lock().await;
        let meta = &cluster.metadata;
        if let Some(known) = connection
            && (&known.uid, known.generation) == (&meta.uid, meta.generation)
        {
            return Ok(known.replicas.clone());
        }
        let (user, password) = self.credentials(name, cluster).await?;
        let replicas = self.replicas(cluster, &user, &password)?;
        let names = cluster.spec.external.replicas.iter();
        let names: Vec<&str> = names.map(|replica| replica.name.as_str()).collect();
        member
            .health()
            .retain(|replica, _| names.contains(&replica.as_str()));
        *connection = Some(Connection {
            uid: meta.uid.clone(),
            generation: meta.generation,
            replicas: replicas.clone(),
        });
        Ok(replicas)
    }

    /// Reads the credentials anew before the next connection: they were refused. How the replicas
    /// are is not known either.
    pub(crate) async fn forget_credentials(&self, cluster: &ObjectName) {
        let member = self.member(cluster);
        *member.connection.lock().await = None;
        member.health().clear();
    }

    /// The cluster is gone.
    pub(crate) fn forget(&self, cluster: &ObjectName) {
        self.clusters().remove(cluster);
    }

    /// Keeps what a round of probes found. Tells which replicas answer again.
    pub(crate) fn record(
        &self,
        cluster: &ObjectName,
        heard: BTreeMap<String, Heard>,
    ) -> Vec<String> {
        let member = self.member(cluster);
        let known = &mut *member.health();
        let was_down = |name: &String| known.get(name).is_some_and(Option::is_none);
        let answers = heard.iter().filter(|(_, it)| !matches!(it, Heard::Nothing));
        let back = answers.map(|(name, _)| name).filter(|name| was_down(name));
        let back = back.cloned().collect();
        let probes = heard.into_iter().filter_map(|(name, heard)| match heard {
            Heard::Health(health) => Some((name, Some(health))),
            Heard::Nothing => Some((name, None)),
            Heard::Refusal => {
                let last = known.get(&name)?.clone()?;
                Some((name, Some(last)))
            }
        });
        let probes: Probes = probes.collect();
        *known = probes;
        back
    }

    /// Whether the last probe of a replica went unanswered. What was never probed may be tried.
    pub(crate) fn is_down(&self, cluster: &ObjectName, replica: &str) -> bool {
        let member = self.member(cluster);
        let health = member.health();
        health.get(replica).is_some_and(Option::is_none)
    }

    /// Reads what the last probes found.
    pub(crate) fn visit_health(&self, mut visit: impl FnMut(&ObjectName, &str, Option<&Health>)) {
        for (cluster, member) in &*self.clusters() {
            for (replica, health) in &*member.health() {
                visit(cluster, replica, health.as_ref());
            }
        }
    }

    async fn credentials(
        &self,
        name: &ObjectName,
        cluster: &ClickHouseCluster,
    ) -> Result<(String, SecretString), ConnectError> {
        let reference = &cluster.spec.external.credentials_secret_ref;
        let secret_name = ObjectName::new(&name.namespace, &reference.name);
        let secret = self.kubernetes.get_secret(&secret_name).await?;
        let Some(secret) = secret else {
            return Err(ConnectError::Credentials(format!(
                "Secret `{secret_name}`, named by credentialsSecretRef, does not exist"
            )));
        };
        let user = text_of(&secret, &secret_name, &reference.username_key)?;
        let password = text_of(&secret, &secret_name, &reference.password_key)?;
        Ok((user, SecretString::from(password)))
    }

    fn replicas(
        &self,
        cluster: &ClickHouseCluster,
        user: &str,
        password: &SecretString,
    ) -> Result<Vec<Connected>, ConnectError> {
        let addresses = cluster.spec.external.replicas.iter();
        addresses
            .map(|address| {
                let config = ReplicaConfig {
                    name: address.name.clone(),
                    url: address.url.clone(),
                    user: user.to_owned(),
                    password: password.clone(),
                    connect_deadline: self.options.connect_deadline,
                    statement_deadline: self.options.statement_deadline,
                };
                let connected = |replica: Replica| Connected {
                    replica: replica.counted_by(self.statements.clone()),
                    url: address.url.clone(),
                };
                Replica::connect(&config)
                    .map(connected)
                    .map_err(|error| ConnectError::Address {
                        replica: address.name.clone(),
                        error,
                    })
            })
            .collect()
    }

    fn member(&self, cluster: &ObjectName) -> Arc<Member> {
        let new = || {
            Arc::new(Member {
                permits: Arc::new(Semaphore::new(self.options.workspaces_at_once)),
                connection: tokio::sync::Mutex::default(),
                health: Mutex::default(),
            })
        };
        self.clusters()
            .entry(cluster.clone())
            .or_insert_with(new)
            .clone()
    }

    fn clusters(&self) -> MutexGuard<'_, HashMap<ObjectName, Arc<Member>>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn health(&self) -> MutexGuard<'_, Probes> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text under a key of a Secret, without the line break that editors leave at the end.
fn text_of(secret: &Secret, name: &ObjectName, key: &str) -> Result<String, ConnectError> {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    let text = value.and_then(|value| std::str::from_utf8(&value.0).ok());
    match text.map(|text| text.trim_end_matches(['\r', '\n'])) {
        Some(text) => Ok(text.to_owned()),
        None => Err(ConnectError::Credentials(format!(
            "Secret `{name}` has no text under the key `{key}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeApi, context};
    use rstest::rstest;

    fn health() -> Health {
        Health {
            version: "26.7.2".to_owned(),
            disks: Vec::new(),
            replication: None,
        }
    }

    #[rstest]
    #[case::silence(Heard::Health(health()), Heard::Nothing, true)]
    #[case::a_refusal_is_an_answer(Heard::Health(health()), Heard::Refusal, false)]
    #[case::it_answers_again(Heard::Nothing, Heard::Refusal, false)]
    #[case::it_is_well_again(Heard::Nothing, Heard::Health(health()), false)]
    #[tokio::test]
    async fn only_a_replica_that_says_nothing_is_down(
        #[case] before: Heard,
        #[case] now: Heard,
        #[case] expected: bool,
    ) {
        let fleet = context(FakeApi::default().client(|_| unreachable!())).fleet;
        let cluster = ObjectName::new("shop", "shared");
        let was_down = matches!(before, Heard::Nothing);
        fleet.record(&cluster, BTreeMap::from([("a".to_owned(), before)]));
        let back = fleet.record(&cluster, BTreeMap::from([("a".to_owned(), now)]));
        assert_eq!(fleet.is_down(&cluster, "a"), expected);
        assert_eq!(!back.is_empty(), was_down);
    }
}

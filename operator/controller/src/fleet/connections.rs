//! Connections to every cluster's replicas by their topology, what the last probe said of them, and how much may be
//! asked of a cluster at once, so that a slow one uses up its own share and nobody else's.

use crate::fleet::probe::{Pulse, keep_probing, until_silent};
use crate::index::Index;
use crate::kubernetes::Kubernetes;
use crate::topology::{Credentials, Revision, Topology};
use aviary_clickhouse::{ClickHouseError, Health, Replica, ReplicaConfig};
use aviary_runtime::ObjectName;
use aviary_runtime::dispatch::Requests;
use aviary_runtime::kubernetes::KubernetesError;
use aviary_runtime::supervision::Supervisor;
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long work on a cluster may take before it counts among what takes long.
const SHORT_TURN: Duration = Duration::from_secs(2);

/// Deadlines and bounds for every cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FleetOptions {
    pub(crate) connect_deadline: Duration,
    pub(crate) statement_deadline: Duration,
    pub(crate) workspaces_at_once: usize,
}

/// Who is told when something was heard of a replica.
#[derive(Clone)]
pub(crate) struct Audience {
    /// For the status.
    pub(crate) clusters: Requests<ObjectName>,
    /// Those on the cluster, when a replica can be worked with again.
    pub(crate) workspaces: Requests<ObjectName>,
}

/// Every cluster there is.
pub(crate) struct Fleet {
    kubernetes: Kubernetes,
    index: Arc<Index>,
    supervisor: Supervisor,
    audience: Audience,
    options: FleetOptions,
    clusters: Mutex<HashMap<ObjectName, Arc<Member>>>,
    /// How many statements were sent to all replicas there ever were.
    statements: Arc<AtomicU64>,
}

/// What is known of one cluster.
struct Member {
    turns: Semaphore,
    /// For work that takes long.
    long_turns: Semaphore,
    lanes: Arc<Lanes>,
    /// Held while connecting, so that many workspaces read the credentials once.
    connecting: tokio::sync::Mutex<()>,
    connection: Mutex<Option<Connection>>,
}

/// How many checks of endpoints a cluster answers at once, over all its workspaces: quick ones,
/// and those that turned out to be slow.
pub(crate) struct Lanes {
    pub(crate) first: Semaphore,
    pub(crate) long: Semaphore,
}

/// Connections, and the revision they were made for.
struct Connection {
    revision: Revision,
    made: Instant,
    replicas: Vec<Connected>,
    /// End with the connection.
    _probes: JoinSet<()>,
}

impl Connection {
    /// Whether it is still the right one. Where the login is refused the credentials are read
    /// anew, though not more often than they are tried.
    fn fits(&self, topology: &Topology) -> bool {
        let mut answers = self.replicas.iter().filter_map(|one| one.pulse.last());
        let is_refused = answers.any(|answer| answer.is_about_credentials());
        let is_fresh = self.made.elapsed() < topology.probe_interval;
        self.revision == topology.revision && (!is_refused || is_fresh)
    }
}

/// A replica with its address, and what was heard of it.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) replica: Replica,
    pub(crate) url: String,
    pub(crate) pulse: Arc<Pulse>,
}

impl Connected {
    /// The same for one piece of work: its calls end once it is given up.
    pub(crate) fn until(&self, given_up: CancellationToken) -> Self {
        Self {
            replica: self.replica.clone().until(given_up),
            ..self.clone()
        }
    }

    /// Waits until the replica is silent.
    pub(crate) async fn until_silent(&self) {
        until_silent(&self.replica, &self.pulse).await;
    }
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

impl Fleet {
    pub(crate) fn new(
        kubernetes: Kubernetes,
        index: Arc<Index>,
        supervisor: Supervisor,
        audience: Audience,
        options: FleetOptions,
    ) -> Self {
        Self {
            kubernetes,
            index,
            supervisor,
            audience,
            options,
            clusters: Mutex::default(),
            statements: Arc::default(),
        }
    }

    /// How many statements were sent to ClickHouse.
    pub(crate) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Works on a cluster that is there, in turn. Work that takes long gives its turn back, so that
    /// some slow workspaces do not hold up all others.
    pub(crate) async fn in_turn<T>(
        &self,
        cluster: &ObjectName,
        work: impl Future<Output = T>,
    ) -> T {
        let member = self.member(cluster);
        // Semaphores are never closed; were they, the work would only lack its bound.
        let turn = member.turns.acquire().await.ok();
        let mut work = pin!(work);
        if let Ok(done) = tokio::time::timeout(SHORT_TURN, &mut work).await {
            return done;
        }
        let long = member.long_turns.try_acquire();
        let _turn = turn.filter(|_| long.is_err());
        work.await
    }

    /// The places for checks on a cluster that is there.
    pub(crate) fn lanes(&self, cluster: &ObjectName) -> Arc<Lanes> {
        self.member(cluster).lanes.clone()
    }

    /// Connections to every replica, each probed at a fixed rate from now on. They are kept until
    /// the topology changes or the login is refused.
    pub(crate) async fn connect(
        &self,
        name: &ObjectName,
        topology: &Topology,
    ) -> Result<Vec<Connected>, ConnectError> {
        let member = self.member(name);
        let _connecting = member.connecting.lock().await;
        let known = match &*member.connection() {
            Some(known) if known.fits(topology) => return Ok(known.replicas.clone()),
            Some(known) => known.replicas.clone(),
            None => Vec::new(),
        };
        let (user, password) = self.login(&topology.credentials).await?;
        let replicas = self.replicas(topology, &user, &password, &known)?;
        *member.connection() = Some(Connection {
            revision: topology.revision.clone(),
            made: Instant::now(),
            _probes: self.probes(name, topology, &replicas),
            replicas: replicas.clone(),
        });
        // It may have gone since it was looked up; nobody else would end the probes then.
        if self.index.cluster(name).is_none() {
            self.forget(name);
        }
        Ok(replicas)
    }

    /// The cluster is gone.
    pub(crate) fn forget(&self, cluster: &ObjectName) {
        self.clusters().remove(cluster);
    }

    /// Reads what the last probes found.
    pub(crate) fn visit_health(&self, mut visit: impl FnMut(&ObjectName, &str, Option<&Health>)) {
        for (cluster, member) in &*self.clusters() {
            let connection = member.connection();
            for one in connection.iter().flat_map(|it| &it.replicas) {
                let name = one.replica.name();
                one.pulse.show_health(|health| visit(cluster, name, health));
            }
        }
    }

    /// Starts a task a replica.
    fn probes(
        &self,
        name: &ObjectName,
        topology: &Topology,
        replicas: &[Connected],
    ) -> JoinSet<()> {
        let mut probes = JoinSet::new();
        for one in replicas.iter().cloned() {
            let (name, interval) = (name.clone(), topology.probe_interval);
            let (index, audience) = (self.index.clone(), self.audience.clone());
            let supervisor = self.supervisor.clone();
            probes.spawn(async move {
                let tell = |is_back: bool| {
                    audience.clusters.request(name.clone());
                    let waiting = is_back.then(|| index.workspaces_on(&name));
                    for workspace in waiting.into_iter().flatten() {
                        audience.workspaces.request(workspace);
                    }
                };
                let probe = || keep_probing(&one.replica, &one.pulse, interval, tell);
                supervisor.keep_running("probe", probe).await;
            });
        }
        probes
    }

    async fn login(
        &self,
        credentials: &Credentials,
    ) -> Result<(String, SecretString), ConnectError> {
        let secret_name = &credentials.secret;
        let secret = self.kubernetes.get_secret(secret_name).await?;
        let Some(secret) = secret else {
            return Err(ConnectError::Credentials(format!(
                "Secret `{secret_name}`, named by credentialsSecretRef, does not exist"
            )));
        };
        let user = text_of(&secret, secret_name, &credentials.username_key)?;
        let password = text_of(&secret, secret_name, &credentials.password_key)?;
        Ok((user, SecretString::from(password)))
    }

    fn replicas(
        &self,
        topology: &Topology,
        user: &str,
        password: &SecretString,
        known: &[Connected],
    ) -> Result<Vec<Connected>, ConnectError> {
        // What was heard of a replica holds under another login, too.
        let pulse = |name: &str, url: &str| {
            let same = |one: &&Connected| one.replica.name() == name && one.url == url;
            let known = known.iter().find(same);
            known.map_or_else(Arc::default, |one| one.pulse.clone())
        };
        topology
            .replicas()
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
                    pulse: pulse(&address.name, &address.url),
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
        let at_once = self.options.workspaces_at_once;
        let new = || {
            Arc::new(Member {
                turns: Semaphore::new(at_once),
                long_turns: Semaphore::new(at_once * 2),
                lanes: Arc::new(Lanes {
                    first: Semaphore::new(at_once * 2),
                    long: Semaphore::new(at_once),
                }),
                connecting: tokio::sync::Mutex::default(),
                connection: Mutex::default(),
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
    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
    use crate::testing::{self, object};
    use aviary_crds::ClickHouseCluster;
    use aviary_runtime::testing::FakeApi;
    use serde_json::json;
    use tokio::net::TcpListener;

    fn name() -> ObjectName {
        ObjectName::new("shop", "shared")
    }

    /// A cluster of these replicas, and what knows of its credentials.
    fn cluster_of(urls: &[(&str, String)]) -> (Fleet, ClickHouseCluster) {
        let credentials = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "admin" },
            "data": { "username": "YWRtaW4=", "password": "YWRtaW4=" },
        });
        let client = FakeApi::default().client(move |_| (200, credentials.clone()));
        let replicas = urls.iter();
        let replicas = replicas.map(|(name, url)| json!({ "name": name, "url": url }));
        let spec = json!({ "external": {
            "replicas": replicas.collect::<Vec<_>>(),
            "credentialsSecretRef": { "name": "admin" },
        }});
        let index = Arc::default();
        let kubernetes = testing::kubernetes(client, Arc::clone(&index));
        let fleet = testing::fleet(kubernetes, index);
        (fleet, object("ClickHouseCluster", "shared", spec))
    }

    #[tokio::test]
    async fn a_silent_replica_keeps_no_other_from_being_heard_of() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent_url = format!("http://{}", silent.local_addr().unwrap());
        let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let away_url = format!("http://{}", away.local_addr().unwrap());
        drop(away);
        let (fleet, cluster) = cluster_of(&[("silent", silent_url), ("away", away_url)]);
        fleet.index.apply(&name(), cluster.clone());
        let replicas = fleet
            .connect(&name(), &Topology::of(&cluster))
            .await
            .unwrap();
        // Whoever asks again gets the same connections, and no second task a replica.
        let again = fleet
            .connect(&name(), &Topology::of(&cluster))
            .await
            .unwrap();
        assert!(Arc::ptr_eq(&replicas[0].pulse, &again[0].pulse));
        let heard = async {
            while replicas[1].pulse.last().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = Duration::from_secs(30);
        tokio::time::timeout(in_time, heard).await.unwrap();
        assert!(replicas[1].pulse.is_down() && !replicas[0].pulse.is_down());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_cluster_that_went_while_it_was_connected() {
        let (fleet, cluster) = cluster_of(&[("a", "http://127.0.0.1:1".to_owned())]);
        fleet
            .connect(&name(), &Topology::of(&cluster))
            .await
            .unwrap();
        assert!(fleet.clusters().is_empty());
    }

    #[tokio::test]
    async fn slow_work_on_a_cluster_does_not_keep_its_turn() {
        // There is one turn.
        let (fleet, _) = cluster_of(&[]);
        let name = name();
        let slow = fleet.in_turn(&name, std::future::pending::<()>());
        let quick = fleet.in_turn(&name, std::future::ready(()));
        let in_time = tokio::time::timeout(Duration::from_secs(30), async {
            tokio::select! {
                biased;
                () = slow => {}
                () = quick => {}
            }
        });
        in_time.await.unwrap();
    }
}

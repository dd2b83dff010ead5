//! Where a cluster's replicas are and how to log in, whatever says so: today `spec.external`, which
//! lists servers that somebody else runs, as one shard.

use aviary_crds::ClickHouseCluster;
use aviary_runtime::ObjectName;
use std::time::Duration;

/// Probes are at least this far apart, whatever a spec that an earlier schema let in says.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// A cluster as connections see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    /// Differs whenever the cluster is another one or was changed.
    pub(crate) revision: Revision,
    pub(crate) shards: Vec<Shard>,
    pub(crate) credentials: Credentials,
    /// How far apart the probes of a replica are.
    pub(crate) probe_interval: Duration,
}

/// Which cluster it is, and which version of its spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) uid: Option<String>,
    pub(crate) generation: Option<i64>,
}

/// Replicas that have the same rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) replicas: Vec<Address>,
}

/// Where a replica answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) name: String,
    pub(crate) url: String,
}

/// The Secret with the administrator's login, and the keys in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) secret: ObjectName,
    pub(crate) username_key: String,
    pub(crate) password_key: String,
}

impl Topology {
    /// What the spec of a cluster says.
    pub(crate) fn of(cluster: &ClickHouseCluster) -> Self {
        let (meta, external) = (&cluster.metadata, &cluster.spec.external);
        let reference = &external.credentials_secret_ref;
        let replicas = external.replicas.iter().map(|replica| Address {
            name: replica.name.clone(),
            url: replica.url.clone(),
        });
        Self {
            revision: Revision {
                uid: meta.uid.clone(),
                generation: meta.generation,
            },
            shards: vec![Shard {
                replicas: replicas.collect(),
            }],
            credentials: Credentials {
                secret: ObjectName::new(
                    meta.namespace.clone().unwrap_or_default(),
                    &reference.name,
                ),
                username_key: reference.username_key.clone(),
                password_key: reference.password_key.clone(),
            },
            probe_interval: cluster.spec.probe_interval.get().max(SHORTEST_INTERVAL),
        }
    }

    /// The replicas of all shards.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Address> {
        self.shards.iter().flat_map(|shard| &shard.replicas)
    }
}

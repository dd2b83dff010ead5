//! The health of a replica in its own words: version, disks, replication. Works
//! on servers far older than those that workspaces can be placed on.

use crate::error::ClickHouseError;
use crate::replica::Replica;
use serde::Deserialize;
use uuid::Uuid;

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its version.
    pub version: String,
    /// Its disks; none on servers that do not tell.
    pub disks: Vec<Disk>,
    /// Its replication, where it has replicated tables.
    pub replication: Option<Replication>,
}

/// A disk of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name in ClickHouse.
    pub name: String,
    /// Its size in bytes.
    pub total_bytes: u64,
    /// Its free bytes.
    pub free_bytes: u64,
}

/// The replicated tables of a replica, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// How many there are.
    pub tables: u64,
    /// How many of them are read-only.
    pub read_only: u64,
    /// How many of them have never read their queue: what they lack is not known.
    pub unread: u64,
    /// The largest delay. A table that has never read its queue is said to be behind since 1970.
    pub max_delay_seconds: u64,
    /// Entries in all queues.
    pub queue: u64,
}

#[derive(Deserialize)]
struct Capability {
    capability: String,
}

/// Numbers come as texts: servers differ in whether they quote them.
#[derive(Deserialize)]
struct Line {
    kind: String,
    name: String,
    first: String,
    second: String,
    third: String,
    fourth: String,
}

impl Replica {
    /// Asks the replica for its health: one query to learn what the server can
    /// tell, one to have it told. Servers that are too old to give back the id of a query prove that
    /// they are ClickHouse by an addition.
    pub async fn probe(&self) -> Result<Health, ClickHouseError> {
        let known: Vec<Capability> = self.unproven_rows(self.query(CAPABILITIES)).await?;
        let can = |name: &str| known.iter().any(|it| it.capability == name);
        let mut parts = vec![
            "SELECT 'version' AS kind, version() AS name, '' AS first, '' AS second, '' AS third, '' AS fourth"
                .to_owned(),
        ];
        if can("disks.free_space") {
            parts.push(
                "SELECT 'disk', name, toString(total_space), toString(free_space), '', '' FROM system.disks"
                    .to_owned(),
            );
        }
        if can("replicas.queue_size") {
            let (delay, unread) = if can("replicas.absolute_delay") {
                (
                    "max(absolute_delay)",
                    "countIf(toUInt32(last_queue_update) = 0)",
                )
            } else {
                ("0", "0")
            };
            parts.push(format!(
                "SELECT 'replication', toString(count()), toString(sum(is_readonly)), \
                 toString({delay}), toString(sum(queue_size)), toString({unread}) FROM system.replicas"
            ));
        }
        let (half, other_half) = Uuid::new_v4().as_u64_pair();
        let (half, other_half) = (half >> 1, other_half >> 1);
        parts.push(format!(
            "SELECT 'sum', toString(toUInt64({half}) + toUInt64({other_half})), '', '', '', ''"
        ));
        let sum = (half + other_half).to_string();
        let query = self.query(&parts.join(" UNION ALL "));
        let lines: Vec<Line> = self.unproven_rows(query).await?;
        let is_proven = |line: &Line| line.kind == "sum" && line.name == sum;
        if !lines.iter().any(is_proven) {
            return Err(ClickHouseError::foreign(self.name()));
        }
        self.health(&lines)
    }

    fn health(&self, lines: &[Line]) -> Result<Health, ClickHouseError> {
        let number = |text: &str| {
            text.parse::<u64>().map_err(|_| ClickHouseError::Malformed {
                replica: self.name().to_owned(),
                what: format!("expected a number, found `{text}`"),
            })
        };
        let mut health = Health {
            version: String::new(),
            disks: Vec::new(),
            replication: None,
        };
        for line in lines {
            match line.kind.as_str() {
                "version" => health.version.clone_from(&line.name),
                "disk" => health.disks.push(Disk {
                    name: line.name.clone(),
                    total_bytes: number(&line.first)?,
                    free_bytes: number(&line.second)?,
                }),
                "replication" if line.name != "0" => {
                    health.replication = Some(Replication {
                        tables: number(&line.name)?,
                        read_only: number(&line.first)?,
                        max_delay_seconds: number(&line.second)?,
                        queue: number(&line.third)?,
                        unread: number(&line.fourth)?,
                    });
                }
                _ => {}
            }
        }
        Ok(health)
    }
}

/// Which of the columns we would ask for there are.
const CAPABILITIES: &str = "\
SELECT concat(table, '.', name) AS capability FROM system.columns WHERE database = 'system' \
AND ((table = 'disks' AND name = 'free_space') \
OR (table = 'replicas' AND name IN ('queue_size', 'absolute_delay')))";

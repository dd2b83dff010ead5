//! The catalog that a workspace should have: its database and users, and for each
//! data source a table, its quarantine, its landing and the two views between them.

mod access;
mod ingestion;

use crate::catalog::{Catalog, Column, Database, Sha256, Table, TableEngine, identifier};
use crate::comment::{Comment, OwnerKind, Ownership};
use crate::model::{ValidDataSource, WorkspaceModel};
use sha2::{Digest, Sha256 as Sha256Digest};
use std::collections::BTreeMap;

/// The hashes of the passwords that the workspace's users log in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialHashes {
    /// Of the user that runs endpoint queries.
    pub reader_sha256: Sha256,
    /// Of the user that writes rows.
    pub writer_sha256: Sha256,
}

impl CredentialHashes {
    /// Tells whether a database's users have these passwords, and nothing about them.
    fn fingerprint(&self) -> String {
        short_hash([self.reader_sha256.expose(), self.writer_sha256.expose()])
    }
}

/// What a server can do, as far as the desired catalog and the way there depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFeatures {
    /// Its version.
    pub version: String,
    /// Whether views can say as whom they run.
    pub sql_security: bool,
    /// Whether it has Keeper and the macros `shard` and `replica`: then tables are replicated.
    pub replication: bool,
    /// Whether a statement can lift the limits on what is dropped.
    pub drop_limits: bool,
}

impl ServerFeatures {
    /// What a server of the current stable version can do that replicates nothing.
    pub fn current() -> Self {
        Self {
            version: "26.7.2.1".to_owned(),
            sql_security: true,
            replication: false,
            drop_limits: true,
        }
    }
}

/// The catalog that the model asks for, with expressions as people wrote them.
pub fn desired(
    model: &WorkspaceModel,
    credentials: &CredentialHashes,
    server: &ServerFeatures,
) -> Catalog {
    let mut catalog = Catalog::empty(model.database.clone());
    catalog.database = Some(Database {
        comment: Comment::Owned {
            ownership: Ownership {
                owner: model.uid.clone(),
                kind: OwnerKind::Workspace,
                name: format!("{}/{}", model.namespace, model.name),
                deletion: model.deletion,
                kubernetes: model.kubernetes.clone(),
                spec: limits_hash(model),
                credentials: credentials.fingerprint(),
            },
            description: None,
        },
    });
    catalog.users = access::users(model, credentials);
    for source in &model.data_sources {
        let owner = source_ownership(model, source);
        let table = Comment::Owned {
            ownership: owner.clone(),
            description: source.description.clone(),
        };
        let table = live_table(model, source, server, table);
        catalog.tables.insert(source.name.clone(), table);
        // What feeds the table is made from the same definition, which the table
        // alone remembers.
        let fed_by = Comment::Owned {
            ownership: Ownership {
                spec: String::new(),
                ..owner
            },
            description: None,
        };
        ingestion::add(&mut catalog, model, source, server, &fed_by);
    }
    catalog
}

/// Of what the users' settings are made from.
fn limits_hash(model: &WorkspaceModel) -> String {
    let time = model.query_timeout.as_millis().to_string();
    let memory = model.query_memory_bytes.to_string();
    short_hash([time.as_str(), &memory])
}

fn source_ownership(model: &WorkspaceModel, source: &ValidDataSource) -> Ownership {
    Ownership {
        owner: source.uid.clone(),
        kind: OwnerKind::DataSource,
        name: format!("{}/{}", model.namespace, source.object),
        deletion: source.deletion,
        kubernetes: String::new(),
        spec: short_hash([source.definition().as_str()]),
        credentials: String::new(),
    }
}

fn live_table(
    model: &WorkspaceModel,
    source: &ValidDataSource,
    server: &ServerFeatures,
    comment: Comment,
) -> Table {
    let columns = source.columns.iter().map(|column| Column {
        name: column.name.clone(),
        column_type: column.column_type.to_string(),
        default: column.default.clone().unwrap_or_default(),
        codec: column.codec.clone().unwrap_or_default(),
        comment: column.comment.clone().unwrap_or_default(),
    });
    let replication_path = replication_path(model, source, server, "");
    Table {
        columns: columns.collect(),
        settings: deduplication(replication_path.as_deref()),
        engine: TableEngine {
            family: source.engine.as_str().to_owned(),
            arguments: source.engine_arguments.clone(),
            replication_path,
        },
        partition_key: source.partition_key.clone().unwrap_or_default(),
        sorting_key: source.sorting_key.clone(),
        ttl: source.ttl.clone(),
        comment,
    }
}

/// How many of its last blocks a table knows again, so that an INSERT whose outcome nobody learned
/// can be repeated: as many as a replicated table does, which has its own way to know them.
const KNOWN_BLOCKS: &str = "10000";

/// What lets a table store a repeated INSERT once.
fn deduplication(replication_path: Option<&str>) -> BTreeMap<String, String> {
    let window = ("non_replicated_deduplication_window", KNOWN_BLOCKS);
    let needed = replication_path.is_none().then_some(window);
    needed
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The uid in the path keeps a table that is made anew apart from one of the same
/// name whose state Keeper still has.
fn replication_path(
    model: &WorkspaceModel,
    source: &ValidDataSource,
    server: &ServerFeatures,
    suffix: &str,
) -> Option<String> {
    server.replication.then(|| {
        format!(
            "/clickhouse/aviary/{}/{}{suffix}/{{shard}}",
            model.uid, source.uid
        )
    })
}

/// Sixteen hexadecimal digits of the SHA-256 of the parts.
pub(crate) fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256Digest::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex::encode(&digest.finalize()[..8])
}

/// A name in backticks where the text needs one.
pub(crate) fn quoted(name: &str) -> String {
    identifier(name).to_string()
}

//! The catalog that a workspace should have: its database and users, and for each
//! data source a table, its quarantine, its landing and the two views between them.

mod ingestion;
mod replication;
mod server;
mod users;

use self::replication::{deduplication, replication_path};
use crate::catalog::{Catalog, Column, Database, Table, TableEngine};
use crate::comment::{Comment, OwnerKind, Ownership};
use crate::model::{ValidDataSource, WorkspaceModel};
use crate::short_hash::short_hash;

pub use server::ServerFeatures;
pub use users::CredentialHashes;

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
    catalog.users = users::users(model, credentials);
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

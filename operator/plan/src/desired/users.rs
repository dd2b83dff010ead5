//! The two users of a workspace. Isolation between tenants rests on their rights
//! and settings, which ClickHouse enforces, and on nothing that reads SQL.

use crate::catalog::{Grant, Setting, Sha256, User};
use crate::model::WorkspaceModel;
use crate::short_hash::short_hash;
use std::collections::{BTreeMap, BTreeSet};

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
    pub(super) fn fingerprint(&self) -> String {
        short_hash([self.reader_sha256.expose(), self.writer_sha256.expose()])
    }
}

pub(super) fn users(
    model: &WorkspaceModel,
    credentials: &CredentialHashes,
) -> BTreeMap<String, User> {
    let database = model.database.as_str();
    BTreeMap::from([
        (
            model.reader.clone(),
            user(
                &credentials.reader_sha256,
                reader_settings(model),
                &["SELECT"],
                database,
            ),
        ),
        (
            model.writer.clone(),
            // The views run as the writer, which therefore reads the landing. What
            // it could read with that is its own workspace and nothing else.
            user(
                &credentials.writer_sha256,
                BTreeMap::new(),
                &["INSERT", "SELECT"],
                database,
            ),
        ),
    ])
}

fn user(
    password: &Sha256,
    settings: BTreeMap<String, Setting>,
    rights: &[&str],
    database: &str,
) -> User {
    let grants = rights.iter().map(|access| Grant {
        access: (*access).to_owned(),
        database: Some(database.to_owned()),
        table: None,
        column: None,
        with_grant_option: false,
        is_partial_revoke: false,
    });
    User {
        password_sha256: Some(password.clone()),
        by_password_hash: true,
        settings,
        grants: grants.collect(),
        roles: BTreeSet::new(),
    }
}

/// `readonly = 2` lets a query set what does no harm (the gateway and tenants'
/// SQL do), but not `readonly` itself, nor go beyond the bounds here, nor write.
/// Zero would mean "no limit", so there is a minimum too.
fn reader_settings(model: &WorkspaceModel) -> BTreeMap<String, Setting> {
    let seconds = model.query_timeout.as_secs_f64().to_string();
    let bytes = model.query_memory_bytes.to_string();
    let bounded = |value: String, minimum: &str| Setting {
        value: Some(value.clone()),
        minimum: Some(minimum.to_owned()),
        maximum: Some(value),
        constant: false,
    };
    BTreeMap::from([
        (
            "readonly".to_owned(),
            Setting {
                value: Some("2".to_owned()),
                ..Setting::default()
            },
        ),
        ("max_execution_time".to_owned(), bounded(seconds, "0.001")),
        ("max_memory_usage".to_owned(), bounded(bytes, "1")),
    ])
}

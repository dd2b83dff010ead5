//! The objects of a workspace, checked: what is right becomes a `Valid*`, what is
//! not a [`Rejection`] to report on the object. Total: no object can keep another
//! from being looked at.

mod access_token;
mod data_source;
pub mod names;
mod pipe;
mod unknown;

use crate::catalog::identifier;
use crate::consent::{Consent, Consents};
use aviary_crds::conditions::Reason;
use aviary_crds::names::default_database;
use aviary_crds::{AccessToken, DataSource, DeletionPolicy, Pipe, Workspace};
use aviary_sql::Identifier;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use access_token::ValidAccessToken;
pub use data_source::{ValidColumn, ValidDataSource};
pub use pipe::{ValidPipe, stays_in_reach};
pub use unknown::{Unknown, UnknownKind};

/// A workspace and everything in its namespace that names it.
#[derive(Clone, Debug)]
pub struct WorkspaceObjects {
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// Its data sources.
    pub data_sources: Vec<Arc<DataSource>>,
    /// Its pipes.
    pub pipes: Vec<Arc<Pipe>>,
    /// Its tokens.
    pub access_tokens: Vec<Arc<AccessToken>>,
}

/// An object of a workspace, by its Kubernetes name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// The workspace itself.
    Workspace,
    /// A `DataSource`.
    DataSource(String),
    /// A `Pipe`.
    Pipe(String),
    /// An `AccessToken`.
    AccessToken(String),
}

/// Something that will not be done until somebody changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The object to report on.
    pub object: ObjectKey,
    /// Why, as a condition's reason.
    pub reason: Reason,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// What a workspace asks for, as far as it is valid.
#[derive(Clone, Debug)]
pub struct WorkspaceModel {
    /// Namespace of all its objects.
    pub namespace: String,
    /// Name of the `Workspace`.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Uid of the Kubernetes it is in; empty if unknown. Several may share a ClickHouse.
    pub kubernetes: String,
    /// Its database.
    pub database: Identifier,
    /// The user that runs endpoint queries.
    pub reader: String,
    /// The user that writes rows.
    pub writer: String,
    /// What becomes of the database when the workspace is deleted.
    pub deletion: DeletionPolicy,
    /// How long an endpoint query may run.
    pub query_timeout: Duration,
    /// How much memory an endpoint query may use.
    pub query_memory_bytes: u64,
    /// Valid data sources, by Kubernetes name.
    pub data_sources: Vec<ValidDataSource>,
    /// Valid pipes, each after the pipes it uses.
    pub pipes: Vec<ValidPipe>,
    /// Valid tokens, by Kubernetes name.
    pub access_tokens: Vec<ValidAccessToken>,
    /// Every data source that exists, valid or not: uid to Kubernetes name. What
    /// is owned by another uid has lost its owner.
    pub existing_data_sources: BTreeMap<String, String>,
    /// What data sources that are being deleted say of their data.
    pub consents: Consents,
    /// The columns that data sources were last live with, by uid.
    pub live_columns: BTreeMap<String, BTreeSet<String>>,
    /// What is not valid.
    pub rejections: Vec<Rejection>,
}

/// Checks the objects of a workspace. Objects that are being deleted count as gone, and
/// are heard on what becomes of their data.
pub fn model(objects: &WorkspaceObjects) -> WorkspaceModel {
    let workspace = &objects.workspace;
    let namespace = workspace.metadata.namespace.clone().unwrap_or_default();
    let name = workspace.metadata.name.clone().unwrap_or_default();
    let database = workspace
        .spec
        .database
        .clone()
        .unwrap_or_else(|| default_database(&namespace, &name));
    let mut model = WorkspaceModel {
        reader: names::reader(&database),
        writer: names::writer(&database),
        database: identifier(&database),
        uid: workspace.metadata.uid.clone().unwrap_or_default(),
        kubernetes: String::new(),
        deletion: workspace.spec.deletion_policy,
        // To ClickHouse zero means no limit; the schema has not always refused it.
        query_timeout: match workspace.spec.limits.query_timeout.get() {
            Duration::ZERO => Duration::from_secs(1),
            timeout => timeout,
        },
        query_memory_bytes: workspace.spec.limits.query_memory.get().max(1),
        namespace,
        name,
        data_sources: Vec::new(),
        pipes: Vec::new(),
        access_tokens: Vec::new(),
        existing_data_sources: BTreeMap::new(),
        consents: objects
            .data_sources
            .iter()
            .filter_map(|source| Consent::of_data_source(source))
            .collect(),
        live_columns: BTreeMap::new(),
        rejections: Vec::new(),
    };
    let data_sources = existing(&objects.data_sources, |source| &source.metadata);
    let pipes = existing(&objects.pipes, |pipe| &pipe.metadata);
    let access_tokens = existing(&objects.access_tokens, |token| &token.metadata);
    model.existing_data_sources = data_sources
        .iter()
        .map(|source| (uid(&source.metadata), object_name(&source.metadata)))
        .collect();

    model.live_columns = data_sources
        .iter()
        .filter_map(|source| Some((uid(&source.metadata), live_columns(source)?)))
        .collect();

    let claims = Claims::of(&data_sources, &pipes, &mut model.rejections);
    data_source::add(&mut model, &data_sources, &claims);
    pipe::add(&mut model, &pipes, &claims);
    access_token::add(&mut model, &access_tokens, &claims);
    model
}

/// Objects that are not being deleted, by name.
fn existing<T>(objects: &[Arc<T>], metadata: fn(&T) -> &ObjectMeta) -> Vec<Arc<T>> {
    let mut kept: Vec<Arc<T>> = objects
        .iter()
        .filter(|object| metadata(object).deletion_timestamp.is_none())
        .cloned()
        .collect();
    kept.sort_by_key(|object| object_name(metadata(object)));
    kept
}

fn live_columns(source: &DataSource) -> Option<BTreeSet<String>> {
    let published = source.status.as_ref()?.published.as_ref()?;
    let columns = published.columns.iter();
    Some(columns.map(|column| column.name.clone()).collect())
}

fn object_name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

fn uid(metadata: &ObjectMeta) -> String {
    metadata.uid.clone().unwrap_or_default()
}

/// Who comes first of several that want the same: the oldest. Kubernetes tells ages in whole seconds;
/// of those from one second it is who has it already.
fn precedence(metadata: &ObjectMeta, has_it: bool) -> impl Ord + use<> {
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, !has_it, uid(metadata))
}

/// Who has which name in SQL. Data sources and pipes share one name space; of two
/// objects that want a name the older has it.
struct Claims {
    holders: BTreeMap<String, ObjectKey>,
}

impl Claims {
    fn of(
        data_sources: &[Arc<DataSource>],
        pipes: &[Arc<Pipe>],
        rejections: &mut Vec<Rejection>,
    ) -> Self {
        let sources = data_sources.iter().map(|source| {
            let object = ObjectKey::DataSource(object_name(&source.metadata));
            let name = names::sql_name(source.spec.name.as_deref(), &source.metadata);
            let published = source.status.as_ref().and_then(|it| it.published.as_ref());
            let has_it = published.is_some_and(|published| published.name == name);
            (name, precedence(&source.metadata, has_it), object)
        });
        let pipes = pipes.iter().map(|pipe| {
            let object = ObjectKey::Pipe(object_name(&pipe.metadata));
            let name = names::sql_name(pipe.spec.name.as_deref(), &pipe.metadata);
            let published = pipe.status.as_ref().and_then(|it| it.published.as_ref());
            let has_it = published.is_some_and(|published| published.name == name);
            (name, precedence(&pipe.metadata, has_it), object)
        });
        let mut wanted: Vec<_> = sources.chain(pipes).collect();
        wanted.sort_by(|(_, one, _), (_, other, _)| one.cmp(other));
        let mut holders: BTreeMap<String, ObjectKey> = BTreeMap::new();
        for (name, _, object) in wanted {
            if let Some(holder) = holders.get(&name) {
                rejections.push(Rejection {
                    message: format!(
                        "the name `{name}` is taken by {holder} in this workspace: make this one anew with another spec.name"
                    ),
                    object,
                    reason: Reason::NameConflict,
                });
            } else {
                holders.insert(name, object);
            }
        }
        Self { holders }
    }

    fn holds(&self, object: &ObjectKey, name: &str) -> bool {
        self.holders.get(name) == Some(object)
    }

    fn holder(&self, name: &str) -> Option<&ObjectKey> {
        self.holders.get(name)
    }

    fn names(&self) -> BTreeSet<&str> {
        self.holders.keys().map(String::as_str).collect()
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workspace => formatter.write_str("the Workspace"),
            Self::DataSource(name) => write!(formatter, "DataSource {name}"),
            Self::Pipe(name) => write!(formatter, "Pipe {name}"),
            Self::AccessToken(name) => write!(formatter, "AccessToken {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::objects;

    /// Which objects are refused because another has the name.
    fn refused(manifests: &str) -> Vec<String> {
        let model = model(&objects("acme", manifests));
        let taken = model.rejections.iter();
        let taken = taken.filter(|rejection| rejection.reason == Reason::NameConflict);
        taken
            .map(|rejection| rejection.object.to_string())
            .collect()
    }

    #[test]
    fn of_two_from_one_second_who_has_the_name_keeps_it() {
        let both = |source: &str, pipe: &str| {
            format!(
                "
kind: DataSource
metadata: {{name: sales, uid: z, creationTimestamp: '{source}'}}
spec: {{workspace: shop, columns: [{{name: id, type: Int32}}]}}
status: {{published: {{name: sales, columns: [], csv: {{}}}}}}
---
kind: Pipe
metadata: {{name: sales, uid: a, creationTimestamp: '{pipe}'}}
spec: {{workspace: shop, nodes: [{{name: one, sql: SELECT 1}}], endpoint: {{node: one}}}}
"
            )
        };
        let (earlier, later) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        assert_eq!(refused(&both(earlier, earlier)), ["Pipe sales"]);
        assert_eq!(refused(&both(later, earlier)), ["DataSource sales"]);
        let unpublished = both(earlier, earlier).replace("status:", "ignored:");
        assert_eq!(refused(&unpublished), ["DataSource sales"]);
        let tokens = "
kind: AccessToken
metadata: {name: first, uid: z, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {workspace: shop, secretName: shared, scopes: []}
status: {secretName: shared}
---
kind: AccessToken
metadata: {name: second, uid: a, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {workspace: shop, secretName: shared, scopes: []}
";
        assert_eq!(refused(tokens), ["AccessToken second"]);
    }
}

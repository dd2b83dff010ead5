//! The objects of a workspace, checked: what is right becomes a `Valid*`, what is
//! not a [`Rejection`] to report on the object. Total: no object can keep another
//! from being looked at.

mod access_token;
mod claims;
mod data_source;
mod metadata;
mod pipe;
mod unknown_names;

use self::claims::Claims;
use self::metadata::{object_name, uid};
use crate::catalog::identifier;
use crate::consent::{Consent, Consents};
use crate::derived_names;
use crate::last_published::LastPublished;
use crate::objects::{Rejection, WorkspaceObjects};
use aviary_crds::DeletionPolicy;
use aviary_crds::Pipe;
use aviary_crds::names::default_database;
use aviary_sql::Identifier;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use access_token::ValidAccessToken;
pub use data_source::{ValidColumn, ValidDataSource};
pub use pipe::{ValidPipe, stays_in_reach};
pub use unknown_names::{Unknown, UnknownKind};

use self::pipe::Tables;

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

/// Checks the objects of a workspace, of which some may have been live before. Objects
/// that are being deleted count as gone, and are heard on what becomes of their data.
pub fn model(objects: &WorkspaceObjects, last: &LastPublished) -> WorkspaceModel {
    let workspace = &objects.workspace;
    let namespace = workspace.metadata.namespace.clone().unwrap_or_default();
    let name = workspace.metadata.name.clone().unwrap_or_default();
    let database = workspace
        .spec
        .database
        .clone()
        .unwrap_or_else(|| default_database(&namespace, &name));
    let mut model = WorkspaceModel {
        reader: derived_names::reader(&database),
        writer: derived_names::writer(&database),
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

    model.live_columns = model
        .existing_data_sources
        .keys()
        .filter_map(|uid| Some((uid.clone(), last.columns.get(uid)?.clone())))
        .collect();

    let rejections = &mut model.rejections;
    let claims = Claims::of(&data_sources, &pipes, last, rejections);
    model.data_sources = data_source::check_all(&data_sources, &claims, rejections);
    let tables = Tables {
        database: &model.database,
        data_sources: &model.data_sources,
    };
    model.pipes = pipe::check_all(tables, &pipes, &claims, rejections);
    model.access_tokens = access_token::check_all(&access_tokens, last, &claims, rejections);
    model
}

impl WorkspaceModel {
    /// Says where in the pipe the unknown name stands. Nothing if it does not stand there, as when
    /// it is in another pipe that this one reads.
    pub fn explain_unknown(&self, pipe: &Pipe, unknown: &Unknown) -> Option<String> {
        unknown_names::explain(&self.data_sources, pipe, unknown)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::objects;
    use aviary_crds::conditions::Reason;

    /// Which objects are refused because another has the name.
    fn refused(manifests: &str) -> Vec<String> {
        let objects = objects("acme", manifests);
        let model = model(&objects, &LastPublished::of(&objects));
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

    /// Not what a status says: who plans without a Kubernetes has none.
    #[test]
    fn the_past_is_what_is_given() {
        let manifests = "
kind: DataSource
metadata: {name: sales, uid: z, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {workspace: shop, columns: [{name: id, type: Int32}]}
---
kind: Pipe
metadata: {name: sales, uid: a, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {workspace: shop, nodes: [{name: one, sql: SELECT 1}], endpoint: {node: one}}
status: {published: {name: sales, revision: r, generation: 1, template: SELECT 1, columns: []}}
";
        let objects = objects("acme", manifests);
        let names = BTreeMap::from([("z".to_owned(), "sales".to_owned())]);
        let columns = BTreeMap::from([
            ("z".to_owned(), BTreeSet::from(["old".to_owned()])),
            ("gone".to_owned(), BTreeSet::new()),
        ]);
        let last = LastPublished {
            names,
            columns,
            ..LastPublished::default()
        };
        let planned = model(&objects, &last);
        let refused = planned.rejections.iter().map(|it| it.object.to_string());
        assert_eq!(refused.collect::<Vec<_>>(), ["Pipe sales"]);
        let live: Vec<_> = planned.live_columns.into_iter().collect();
        assert_eq!(
            live,
            [("z".to_owned(), BTreeSet::from(["old".to_owned()]))],
            "of what exists"
        );
        let of_status = LastPublished::of(&objects);
        assert!(of_status.names.contains_key("a"), "the status is read");
    }
}

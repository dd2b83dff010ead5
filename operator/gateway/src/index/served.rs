//! What a request finds in the index: prepared as far as it can be before any
//! request comes.

use crate::budgets::Shares;
use crate::format::Format;
use crate::ingest::Intake;
use crate::limits::{QuerySlots, RequestRate};
use crate::metrics::Resource;
use crate::rights::Principal;
use crate::upstream::{Authorization, Replicas};
use crate::workspace_key::WorkspaceKey;
use aviary_crds::published::{PublishedPipe, PublishedWorkspace};
use aviary_sql::Template;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

/// What a token opens as things stand, found with one look.
pub(crate) struct Opened {
    pub(crate) principal: Arc<Principal>,
    /// Not there before the workspace is published.
    pub(crate) served: Option<Arc<ServedWorkspace>>,
}

/// A workspace, ready to serve.
pub(crate) struct ServedWorkspace {
    pub(crate) key: WorkspaceKey,
    pub(crate) published: PublishedWorkspace,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) reader: Authorization,
    pub(crate) rate: Arc<RequestRate>,
    pub(crate) queries: Arc<QuerySlots>,
    pub(crate) shares: Arc<Shares>,
    /// By name, in order for documentation.
    pub(crate) pipes: BTreeMap<String, Arc<ServedPipe>>,
    /// Where rows go in, by data source.
    pub(crate) intakes: HashMap<String, Arc<Intake>>,
    query_starts: QueryStarts,
}

/// An endpoint, ready to be called.
pub(crate) struct ServedPipe {
    pub(crate) published: PublishedPipe,
    pub(crate) template: Template,
    /// What its requests are counted for.
    pub(crate) resource: Arc<Resource>,
}

/// The settings of an endpoint's query, as URL parameters, by format.
pub(crate) struct QueryStarts([String; Format::ALL.len()]);

impl QueryStarts {
    pub(crate) fn new(database: &str) -> Self {
        Self(Format::ALL.map(|format| query_start(database, format)))
    }
}

fn query_start(database: &str, format: Format) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    match format {
        // Bytes that are no UTF-8 would be no JSON. In the format JSON servers see to it anyway.
        Format::NdJson => query.append_pair("output_format_json_validate_utf8", "1"),
        // A tuple would be a field for each of its elements, under one name in the header.
        Format::Csv => query.append_pair(
            "output_format_csv_serialize_tuple_into_separate_columns",
            "0",
        ),
        Format::Json | Format::Parquet => &mut query,
    };
    query
        .append_pair("database", database)
        .append_pair("default_format", format.clickhouse_name())
        .append_pair("output_format_json_quote_64bit_integers", "0")
        // A client that has left wants no answer.
        .append_pair("cancel_http_readonly_queries_on_client_close", "1")
        // An exception in the middle must not look like a part of the answer.
        .append_pair("http_write_exception_in_output_format", "0")
        .finish()
}

/// What a workspace is put together from.
pub(crate) struct Parts {
    pub(crate) key: WorkspaceKey,
    pub(crate) shares: Arc<Shares>,
    pub(crate) published: PublishedWorkspace,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) reader: Authorization,
    pub(crate) pipes: BTreeMap<String, Arc<ServedPipe>>,
    /// Where rows go in, by data source.
    pub(crate) intakes: HashMap<String, Arc<Intake>>,
}

impl ServedWorkspace {
    /// Puts a workspace together. Budgets that are in use go on counting where
    /// they were, unless the limit itself is another.
    pub(crate) fn new(parts: Parts, previous: Option<&Self>) -> Self {
        let Parts {
            key,
            shares,
            published,
            replicas,
            reader,
            pipes,
            intakes,
        } = parts;
        let rate = previous
            .filter(|old| old.rate.per_second() == published.requests_per_second)
            .map_or_else(
                || Arc::new(RequestRate::new(published.requests_per_second)),
                |old| Arc::clone(&old.rate),
            );
        let queries = previous
            .filter(|old| old.queries.count() == published.concurrent_queries)
            .map_or_else(
                || Arc::new(QuerySlots::new(published.concurrent_queries)),
                |old| Arc::clone(&old.queries),
            );
        let query_starts = QueryStarts::new(&published.database);
        Self {
            key,
            published,
            replicas,
            reader,
            rate,
            queries,
            shares,
            pipes,
            intakes,
            query_starts,
        }
    }

    /// How the URL of a query starts; its parameters come next.
    pub(crate) fn query_start(&self, format: Format) -> &str {
        &self.query_starts.0[format as usize]
    }

    pub(crate) fn query_timeout(&self) -> Duration {
        Duration::from_millis(self.published.query_timeout_milliseconds)
    }
}

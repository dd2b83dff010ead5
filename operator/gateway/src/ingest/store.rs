//! Writes blocks: what is certain into the table, the rest into its landing, and
//! asks the quarantine what became of that.

use super::IntakeParts;
use super::block::{Block, ERROR_COLUMN, IMPORT_COLUMN, Layout, RAW_COLUMN};
use super::typed::{Sorted, TypedTable};
use crate::error::{ApiError, ErrorCode};
use crate::upstream::{Authorization, Exception, Replica, Replicas, Request, UpstreamError};
use aviary_crds::published::PublishedColumn;
use aviary_sql::{Identifier, QualifiedName, StringLiteral};
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

/// A count is a look at one granule of a primary key.
const COUNT_PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_ERROR: usize = 64 * 1024;
/// Sorting this much takes longer than handing it to another thread.
const LARGE_BLOCK: usize = 256 * 1024;

/// The landing table of a data source, and its quarantine.
pub(super) struct Store {
    columns: Vec<PublishedColumn>,
    layout: Layout,
    replicas: Arc<Replicas>,
    writer: Authorization,
    /// The replica that is asked first. It is always the same, because a replica may
    /// not know yet what is in the quarantine of another.
    replica: usize,
    table: String,
    quarantine: String,
    insert_landing: String,
    /// The way past the landing, where there is one.
    fast: Option<FastPath>,
    insert_timeout: Duration,
}

struct FastPath {
    types: Arc<TypedTable>,
    insert: String,
}

/// What ClickHouse says of an INSERT.
struct Sent {
    replica: Arc<Replica>,
    written_rows: u64,
}

/// What of a block went to the landing.
pub(super) struct Landed {
    /// Who took it.
    pub(super) replica: Arc<Replica>,
    /// Whose rows.
    pub(super) imports: Vec<String>,
}

/// Why rows are not known to be stored. The words of an exception may repeat
/// values, so they are for the sender and not for a log.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// ClickHouse is away; nothing was sent.
    #[error("ClickHouse is away")]
    Away,
    /// It took rows and did not say that all are stored: they may be.
    #[error("ClickHouse did not confirm")]
    Unsure,
    /// It said no.
    #[error("exception {}", .0.code)]
    Refused(Exception),
}

impl Store {
    pub(super) fn new(parts: &IntakeParts, insert_timeout: Duration) -> Self {
        let table = |suffix: &str| {
            qualified(
                &parts.database,
                &format!("{}{suffix}", parts.published.name),
            )
        };
        let columns = &parts.published.columns;
        let names = columns.iter().map(|column| column.name.as_str());
        let landing_names = list(
            names
                .clone()
                .chain([RAW_COLUMN, ERROR_COLUMN, IMPORT_COLUMN]),
        );
        let insert = |table: &str, names: &str| {
            insert_query(&format!("INSERT INTO {table} ({names}) FORMAT Native"))
        };
        let types = TypedTable::of(columns);
        let typed = types
            .as_ref()
            .map(TypedTable::row_bytes)
            .unwrap_or_default();
        Self {
            layout: Layout::new(columns, typed),
            insert_landing: insert(&table("__landing"), &landing_names),
            fast: types.map(|types| FastPath {
                types: Arc::new(types),
                insert: insert(&table(""), &list(names)),
            }),
            columns: columns.clone(),
            replicas: Arc::clone(&parts.replicas),
            writer: parts.writer.clone(),
            replica: preference(&parts.database, &parts.published.name),
            quarantine: table("_quarantine"),
            table: table(""),
            insert_timeout,
        }
    }

    /// How the blocks are made that it takes.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Writes a block and waits until ClickHouse says that it is stored. Says what
    /// went to the landing, whose views may have put some of it into quarantine.
    pub(super) async fn insert(&self, block: Block) -> Result<Option<Landed>, StoreError> {
        let Some(fast) = &self.fast else {
            return self.land(block).await.map(Some);
        };
        let Sorted { typed, rest } = fast.sort(block).await?;
        let Some(typed) = typed else {
            return match rest {
                Some(rest) => self.land(rest).await.map(Some),
                None => Ok(None),
            };
        };
        self.send(&fast.insert, &typed).await?;
        let Some(rest) = rest else {
            return Ok(None);
        };
        // Some rows of the block are stored now, whatever becomes of the others.
        self.land(rest).await.map(Some).map_err(|error| {
            tracing::warn!(
                table = self.table,
                %error,
                "a part of a block is not stored"
            );
            StoreError::Unsure
        })
    }

    /// Writes a block into the landing. The replica that has it is the one to ask about it.
    async fn land(&self, block: Block) -> Result<Landed, StoreError> {
        let imports = block.imports().map(str::to_owned).collect();
        let rows = block.rows() as u64;
        let body = block.encode(&self.columns);
        let sent = self.send(&self.insert_landing, &body).await?;
        // The landing keeps nothing: rows are stored when a view has written them on. It
        // counts them, too, so this is twice their number, or more if the table has views.
        if sent.written_rows < 2 * rows {
            tracing::warn!(
                table = self.table,
                rows,
                written = sent.written_rows,
                "a view of the landing is missing"
            );
            return Err(StoreError::Unsure);
        }
        Ok(Landed {
            replica: sent.replica,
            imports,
        })
    }

    async fn send(&self, query: &str, body: &[Bytes]) -> Result<Sent, StoreError> {
        let pieces: Vec<&[u8]> = body.iter().map(AsRef::as_ref).collect();
        let request = Request {
            query,
            authorization: &self.writer,
            body: &pieces,
            patience: self.insert_timeout,
            repeatable: false,
        };
        let answer = self.replicas.send_from(self.replica, &request).await?;
        let sent = Sent {
            replica: Arc::clone(answer.replica()),
            written_rows: answer.written_rows().unwrap_or(0),
        };
        let code = answer.exception_code();
        let stored = answer.status() == 200 && code.is_none();
        // With `wait_end_of_query` the head says it all; of a good answer the body is empty.
        let text = answer.text(LONGEST_ERROR).await?;
        if stored {
            Ok(sent)
        } else {
            Err(StoreError::Refused(Exception::parse(code, &text)))
        }
    }

    /// How many rows of each import are in quarantine; nothing when it cannot be told.
    pub(super) async fn quarantined(&self, landed: &Landed) -> Option<HashMap<String, u64>> {
        let mut sql = format!(
            "SELECT {IMPORT_COLUMN}, count() FROM {} WHERE {IMPORT_COLUMN} IN (",
            self.quarantine
        );
        for (index, import_id) in landed.imports.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let _ = write!(sql, "{separator}{}", StringLiteral(import_id));
        }
        let _ = write!(sql, ") GROUP BY {IMPORT_COLUMN} FORMAT TabSeparated");
        let request = Request {
            query: "",
            // The reader has the limits of the workspace's own queries.
            authorization: &self.writer,
            body: &[sql.as_bytes()],
            patience: COUNT_PATIENCE,
            repeatable: true,
        };
        let answer = landed
            .replica
            .send(&request)
            .await
            .ok()
            .filter(|answer| answer.status() == 200)?;
        let text = answer.text(usize::MAX).await.ok()?;
        let lines = std::str::from_utf8(&text).ok()?.lines();
        lines
            .map(|line| {
                line.split_once('\t')
                    .and_then(|(id, count)| Some((id.to_owned(), count.parse().ok()?)))
            })
            .collect()
    }
}

impl FastPath {
    /// Large blocks are sorted elsewhere, for this thread has other clients, too.
    async fn sort(&self, block: Block) -> Result<Sorted, StoreError> {
        if block.size() < LARGE_BLOCK {
            return Ok(self.types.sort(block));
        }
        let types = Arc::clone(&self.types);
        let sorting = tokio::task::spawn_blocking(move || types.sort(block));
        sorting.await.map_err(|error| {
            tracing::error!(%error, "sort a block");
            StoreError::Unsure
        })
    }
}

/// The URL parameters of an INSERT: what keeps rows together and never drops any.
fn insert_query(sql: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("query", sql)
        // The answer comes when the rows are stored, and says so in its status.
        .append_pair("async_insert", "0")
        .append_pair("wait_end_of_query", "1")
        // Equal rows sent twice are two rows: only the sender knows what a repetition is.
        .append_pair("insert_deduplicate", "0")
        // A text means the same number on every way into the table.
        .append_pair("precise_float_parsing", "1")
        // A file may span more partitions than a default allows at once.
        .append_pair("throw_on_max_partitions_per_insert_block", "0")
        .finish()
}

/// Spreads data sources over replicas.
fn preference(database: &str, name: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    (database, name).hash(&mut hasher);
    hasher.finish() as usize
}

fn qualified(database: &str, table: &str) -> String {
    match (Identifier::new(database), Identifier::new(table)) {
        (Ok(database), Ok(table)) => QualifiedName::new(database, table).to_string(),
        // Neither is ever empty; ClickHouse refuses what comes of it.
        _ => String::from("``"),
    }
}

/// Column names, quoted, with commas between them.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names
        .filter_map(|name| Identifier::new(name).ok())
        .map(|name| name.to_string())
        .collect();
    quoted.join(", ")
}

impl From<UpstreamError> for StoreError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Unavailable | UpstreamError::Connect(_) => Self::Away,
            UpstreamError::Interrupted(_)
            | UpstreamError::Timeout
            | UpstreamError::Lost
            | UpstreamError::Truncated
            | UpstreamError::Malformed(_) => Self::Unsure,
        }
    }
}

impl StoreError {
    /// The error for the client.
    pub(super) fn explain(&self) -> ApiError {
        let soon = Duration::from_secs(1);
        match self {
            Self::Away => ApiError::new(ErrorCode::ClickHouseUnavailable, "ClickHouse cannot be reached: send the rows again later").retry_after(soon),
            Self::Unsure => ApiError::new(
                ErrorCode::IngestionFailed,
                "ClickHouse did not confirm the rows: they may be stored, and sending them again may store them twice",
            )
            .retry_after(soon),
            Self::Refused(exception) if exception.is_ours() => {
                // The words would name users and tables of ours.
                ApiError::new(ErrorCode::ClickHouseUnavailable, "ClickHouse takes no rows for this data source now: send them again later")
                    .exception_code(exception.code)
                    .retry_after(soon)
            }
            Self::Refused(exception) => {
                let message = format!("ClickHouse did not take the rows: {}", exception.message);
                ApiError::new(ErrorCode::IngestionFailed, message).exception_code(exception.code).retry_after(soon)
            }
        }
    }
}

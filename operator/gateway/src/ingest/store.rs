//! Writes blocks: what is certain into the table, the rest into its landing, and
//! asks the quarantine what became of that.

use super::block::{Block, ERROR_COLUMN, IMPORT_COLUMN, Layout, RAW_COLUMN};
use super::deduplication_token::DeduplicationToken;
use super::typed::{Rest, Sorted, TypedTable};
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::upstream::{
    Answer, Authorization, Blame, Exception, Failed, Repeat, Replica, Replicas, Request,
    UpstreamError,
};
use aviary_crds::published::{PublishedColumn, PublishedDataSource, judged};
use aviary_sql::{Identifier, QualifiedName, StringLiteral};
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use url::form_urlencoded;

/// A count is a look at one granule of a primary key.
const COUNT_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before an INSERT is repeated: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Sorting this much takes longer than handing it to another thread.
const LARGE_BLOCK: usize = 256 * 1024;

/// Where the rows of a data source belong.
#[derive(Clone, PartialEq)]
pub(crate) struct Destination {
    pub(crate) database: String,
    pub(crate) published: PublishedDataSource,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) writer: Authorization,
}

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
    /// Asks whether the landing has its views.
    views: String,
    /// Asks whether what one replica stores, the others know.
    replicated: String,
    insert_landing: String,
    /// One INSERT into the landing at a time: its views are work for ClickHouse's processors, which a
    /// second would only take away from others.
    landing: Semaphore,
    /// The way past the landing, where there is one.
    fast: Option<FastPath>,
    insert_timeout: Duration,
    insert_repeat: Duration,
}

struct FastPath {
    types: Arc<TypedTable>,
    insert: String,
}

/// What ClickHouse says of an INSERT.
struct Sent {
    replica: Arc<Replica>,
    written_rows: Option<u64>,
    /// Whether the rows may have come to it from another replica, or may be yet to come.
    by_another: bool,
}

/// What of a block went to the landing.
pub(super) struct LandingWrite {
    /// Who has it, if somebody is known to have it now.
    pub(super) replica: Option<Arc<Replica>>,
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
    /// It took rows and did not say that all are stored, also when it was asked again: they may be.
    #[error("ClickHouse did not confirm")]
    Unknown,
    /// It said no.
    #[error("exception {}", .0.code)]
    Refused(Exception),
}

impl Store {
    pub(super) fn new(
        destination: &Destination,
        insert_timeout: Duration,
        insert_repeat: Duration,
    ) -> Self {
        let table = |suffix: &str| {
            qualified(
                &destination.database,
                &format!("{}{suffix}", destination.published.name),
            )
        };
        let columns = &destination.published.columns;
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
            landing: Semaphore::new(1),
            columns: columns.clone(),
            replicas: Arc::clone(&destination.replicas),
            writer: destination.writer.clone(),
            replica: preference(&destination.database, &destination.published.name),
            quarantine: table("_quarantine"),
            table: table(""),
            views: views_query(&destination.database, &destination.published.name),
            replicated: replicated_query(&destination.database, &destination.published.name),
            insert_timeout,
            insert_repeat,
        }
    }

    /// How the blocks are made that it takes.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Which rows of a block may go to quarantine for what they are.
    pub(super) fn doubtful(&self, block: &Block) -> Vec<bool> {
        match &self.fast {
            Some(fast) => fast.types.doubtful(block),
            None => vec![true; block.rows()],
        }
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Writes a block and waits until ClickHouse says that it is stored. Says what
    /// went to the landing, whose views may have put some of it into quarantine. If one of
    /// its rows is to blame for an exception, the block is left with the rows that are not stored.
    pub(super) async fn insert(
        &self,
        block: &mut Block,
        token: &DeduplicationToken,
    ) -> Result<Option<LandingWrite>, StoreError> {
        if block.rows() == 0 {
            return Ok(None);
        }
        let Some(fast) = &self.fast else {
            return self.land(block, token).await.map(Some);
        };
        let Sorted { typed, rest } = fast.sort(block).await?;
        let Some(typed) = typed else {
            return self.land(block, token).await.map(Some);
        };
        let name = token.part("table").of_body(&typed);
        self.write(&fast.insert, &name, &typed).await?;
        let Rest::Some(rest) = rest else {
            return Ok(None);
        };
        *block = *rest;
        self.land(block, token).await.map(Some).map_err(|error| {
            if error.is_for_a_row() {
                return error;
            }
            // Some rows of the block are stored now, whatever becomes of the others.
            tracing::warn!(
                table = self.table,
                %error,
                "a part of a block is not stored"
            );
            StoreError::Unknown
        })
    }

    /// Writes a block into the landing. The replica that has it is the one to ask about it.
    async fn land(
        &self,
        block: &mut Block,
        token: &DeduplicationToken,
    ) -> Result<LandingWrite, StoreError> {
        let imports = block.imports().map(str::to_owned).collect();
        let rows = block.rows() as u64;
        let body = block.encode(&self.columns);
        let name = token.part("landing").of_body(&body);
        // Semaphores are never closed; were it, the INSERT would only lack its bound.
        let _turn = self.landing.acquire().await.ok();
        let sent = match self.write(&self.insert_landing, &name, &body).await {
            Err(error) if error.is_for_a_row() => {
                self.settle_quarantine(block, &name).await?;
                return Err(error);
            }
            sent => sent?,
        };
        self.check_views(&sent, rows).await?;
        Ok(LandingWrite {
            replica: (!sent.by_another).then_some(sent.replica),
            imports,
        })
    }

    /// What a row spoilt may be in quarantine as far as it belongs there: the views write one after
    /// the other, in no order of ours. So that part is written under the same name, once at most,
    /// and the rows that are left may only go into the table.
    async fn settle_quarantine(&self, block: &mut Block, name: &str) -> Result<(), StoreError> {
        if !block.has_unjudged() {
            return Ok(());
        }
        block.say(|said| match said {
            b"" => judged::QUARANTINE_ONLY.as_bytes().into(),
            said => said.into(),
        });
        let body = block.encode(&self.columns);
        let sent = self.write(&self.insert_landing, name, &body).await;
        sent.map_err(|_| StoreError::Unknown)?;
        block.say(|said| {
            let left = said == judged::QUARANTINE_ONLY.as_bytes();
            let said = if left {
                judged::TABLE_ONLY
            } else {
                judged::SETTLED
            };
            said.as_bytes().into()
        });
        Ok(())
    }

    /// The landing keeps nothing: rows are stored when its views have written them on. They count
    /// them, too, so they wrote twice as many. If the table has views of its own, or a server counts
    /// otherwise, the number says nothing.
    async fn check_views(&self, sent: &Sent, rows: u64) -> Result<(), StoreError> {
        let exact = sent.written_rows == Some(2 * rows);
        if exact || self.ask(&sent.replica, &self.views).await.as_deref() == Some(b"2\n") {
            return Ok(());
        }
        tracing::warn!(
            table = self.table,
            rows,
            written = sent.written_rows,
            "a view of the landing is missing"
        );
        Err(StoreError::Unknown)
    }

    /// Writes rows under a name, and again while it is not known whether they are stored.
    async fn write(&self, query: &str, name: &str, body: &[Bytes]) -> Result<Sent, StoreError> {
        let query = format!("{query}&insert_deduplication_token={name}");
        let pieces: Vec<&[u8]> = body.iter().map(AsRef::as_ref).collect();
        let request = Request {
            query_id: None,
            query: &query,
            authorization: &self.writer,
            body: &pieces,
            patience: self.insert_timeout,
            repeat: Repeat::AtTheSame,
        };
        let failed = match self.replicas.send_from(self.replica, &request).await {
            Ok(answer) => match Sent::of(answer).await {
                Ok(sent) => return Ok(sent),
                Err(failed) => failed,
            },
            Err(failed) => failed,
        };
        match failed.replica.filter(|_| is_unknown(&failed.error)) {
            Some(replica) => self.write_again(&replica, &request).await,
            None => Err(failed.error.into()),
        }
    }

    /// Repeats an INSERT that a replica may have carried out.
    async fn write_again(
        &self,
        first: &Arc<Replica>,
        request: &Request<'_>,
    ) -> Result<Sent, StoreError> {
        let end = Instant::now() + self.insert_repeat;
        let mut pause = FIRST_PAUSE;
        while Instant::now() < end {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let other = self.in_place_of(first).await;
            let replica = other.unwrap_or(first);
            if replica.is_away() {
                continue;
            }
            let error = match replica.send(request).await {
                Ok(answer) => match Sent::of(answer).await {
                    Ok(sent) => {
                        return Ok(Sent {
                            by_another: other.is_some(),
                            ..sent
                        });
                    }
                    Err(failed) => failed.error,
                },
                Err(error) => error,
            };
            tracing::debug!(table = self.table, %error, "an INSERT is repeated");
        }
        Err(StoreError::Unknown)
    }

    /// Whom to ask about an INSERT in place of a replica that is away or fails: another one, if it
    /// knows by the INSERT's name whether the rows are stored, as with replicated tables.
    async fn in_place_of(&self, first: &Arc<Replica>) -> Option<&Arc<Replica>> {
        if !first.is_away() && !first.is_out() {
            return None;
        }
        let other = self.replicas.besides(first)?;
        let knows = self.ask(other, &self.replicated).await.as_deref() == Some(b"2\n");
        knows.then_some(other)
    }

    /// What a replica says to a short question; nothing if it does not say.
    async fn ask(&self, replica: &Arc<Replica>, sql: &str) -> Option<Vec<u8>> {
        let request = Request {
            query_id: None,
            query: "",
            // The reader has the limits of the workspace's own queries.
            authorization: &self.writer,
            body: &[sql.as_bytes()],
            patience: COUNT_PATIENCE,
            repeat: Repeat::Anywhere,
        };
        let answer = replica.send(&request).await.ok()?;
        answer.text(usize::MAX).await.ok()
    }

    /// How many rows of each import are in quarantine; nothing when it cannot be told.
    pub(super) async fn quarantined(&self, landed: &LandingWrite) -> Option<HashMap<String, u64>> {
        let mut sql = format!(
            "SELECT {IMPORT_COLUMN}, count() FROM {} WHERE {IMPORT_COLUMN} IN (",
            self.quarantine
        );
        for (index, import_id) in landed.imports.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let _ = write!(sql, "{separator}{}", StringLiteral(import_id));
        }
        let _ = write!(sql, ") GROUP BY {IMPORT_COLUMN} FORMAT TabSeparated");
        let text = self.ask(landed.replica.as_ref()?, &sql).await?;
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
    async fn sort(&self, block: &mut Block) -> Result<Sorted, StoreError> {
        if block.size() < LARGE_BLOCK {
            return Ok(self.types.sort(block));
        }
        let types = Arc::clone(&self.types);
        let mut moved = block.take();
        let sorting = tokio::task::spawn_blocking(move || (types.sort(&mut moved), moved));
        let (sorted, moved) = sorting.await.map_err(|error| {
            tracing::error!(%error, "sort a block");
            StoreError::Unknown
        })?;
        *block = moved;
        Ok(sorted)
    }
}

impl Sent {
    /// With `wait_end_of_query` the head says it all; the body of a good answer is empty, and read
    /// for the next answer to begin where it should.
    async fn of(answer: Answer) -> Result<Self, Failed> {
        let sent = Self {
            replica: Arc::clone(answer.replica()),
            written_rows: answer.written_rows(),
            by_another: false,
        };
        match answer.text(0).await {
            Ok(_) => Ok(sent),
            Err(error) => Err(Failed {
                error,
                replica: Some(sent.replica),
            }),
        }
    }
}

/// Whether rows may be stored all the same.
fn is_unknown(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Unavailable | UpstreamError::Connect(_) => false,
        // The others of an INSERT that one row spoilt are not stored, as far as it is one block.
        UpstreamError::Refused(exception) => {
            exception.blame() != Blame::Row && !exception.precedes_writing()
        }
        UpstreamError::Interrupted(_)
        | UpstreamError::Timeout
        | UpstreamError::Lost
        | UpstreamError::Truncated
        | UpstreamError::Foreign
        | UpstreamError::Malformed(_) => true,
    }
}

/// The URL parameters of an INSERT: what keeps rows together and never drops any.
fn insert_query(sql: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("query", sql)
        // The answer comes when the rows are stored, and says so in its status.
        .append_pair("async_insert", "0")
        .append_pair("wait_end_of_query", "1")
        // Equal rows sent twice are two rows, since they come under two names. What comes under one
        // name twice is stored once, in the tables behind views, too.
        .append_pair("insert_deduplicate", "1")
        .append_pair("deduplicate_blocks_in_dependent_materialized_views", "1")
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

/// Counts the two views of a landing.
fn views_query(database: &str, name: &str) -> String {
    tables_query(database, name, ["__ingest", "__reject"], "View")
}

/// Counts those of a table and its quarantine that are replicated.
fn replicated_query(database: &str, name: &str) -> String {
    tables_query(database, name, ["", "_quarantine"], "Replicated")
}

/// Counts tables in whose engine this word is.
fn tables_query(database: &str, name: &str, suffixes: [&str; 2], engine: &str) -> String {
    let [first, second] =
        suffixes.map(|suffix| StringLiteral(&format!("{name}{suffix}")).to_string());
    format!(
        "SELECT count() FROM system.tables WHERE database = {} AND name IN ({first}, {second}) AND engine LIKE '%{engine}%' FORMAT TabSeparated",
        StringLiteral(database),
    )
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
            UpstreamError::Refused(exception) => Self::Refused(exception),
            UpstreamError::Interrupted(_)
            | UpstreamError::Timeout
            | UpstreamError::Lost
            | UpstreamError::Truncated
            | UpstreamError::Foreign
            | UpstreamError::Malformed(_) => Self::Unknown,
        }
    }
}

impl StoreError {
    /// Whether without one of the rows the others can be stored.
    pub(super) fn is_for_a_row(&self) -> bool {
        matches!(self, Self::Refused(exception) if exception.blame() == Blame::Row)
    }

    /// The error for the client.
    pub(super) fn explain(&self) -> ApiError {
        let soon = Duration::from_secs(1);
        match self {
            Self::Away => ApiError::new(ErrorCode::ClickHouseUnavailable, "ClickHouse cannot be reached: send the rows again later").retry_after(soon),
            Self::Unknown => ApiError::new(
                ErrorCode::IngestionUnknown,
                "ClickHouse did not confirm the rows: they may be stored; with an Idempotency-Key, sending the same body again stores each row once",
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

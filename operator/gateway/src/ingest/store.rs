//! Writes blocks into a landing table, and asks the quarantine what became of them.

use super::IntakeParts;
use super::block::{Block, ERROR_COLUMN, IMPORT_COLUMN, RAW_COLUMN};
use crate::error::{ApiError, ErrorCode};
use crate::upstream::{Authorization, Exception, Replica, Replicas, Request, UpstreamError};
use aviary_crds::published::PublishedColumn;
use aviary_sql::{Identifier, QualifiedName, StringLiteral};
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use url::form_urlencoded;

/// A count is a look at one granule of a primary key.
const COUNT_PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_ERROR: usize = 64 * 1024;

/// The landing table of a data source, and its quarantine.
pub(super) struct Store {
    columns: Vec<PublishedColumn>,
    replicas: Arc<Replicas>,
    writer: Authorization,
    reader: Authorization,
    landing: String,
    quarantine: String,
    insert_block: String,
    insert_timeout: Duration,
}

/// Why rows are not known to be stored.
#[derive(Clone, Debug)]
pub(super) enum StoreError {
    /// ClickHouse is away; nothing was sent.
    Away,
    /// It took the rows and did not say that they are stored: they may be.
    Unsure,
    /// It said no.
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
        let landing = table("__landing");
        let names = parts
            .published
            .columns
            .iter()
            .map(|column| column.name.as_str());
        let names = list(names.chain([RAW_COLUMN, ERROR_COLUMN, IMPORT_COLUMN]));
        Self {
            insert_block: insert_query(&format!("INSERT INTO {landing} ({names}) FORMAT Native")),
            columns: parts.published.columns.clone(),
            replicas: Arc::clone(&parts.replicas),
            writer: parts.writer.clone(),
            reader: parts.reader.clone(),
            quarantine: table("_quarantine"),
            landing,
            insert_timeout,
        }
    }

    pub(super) fn columns(&self) -> &[PublishedColumn] {
        &self.columns
    }

    pub(super) fn landing(&self) -> &str {
        &self.landing
    }

    /// Writes a block and waits until ClickHouse says that it is stored. The
    /// replica that has it is the one to ask about it.
    pub(super) async fn insert(&self, block: Block) -> Result<Arc<Replica>, StoreError> {
        let request = Request {
            query: &self.insert_block,
            authorization: &self.writer,
            body: &block.encode(&self.columns),
            patience: self.insert_timeout,
            repeatable: false,
        };
        let answer = self.replicas.send(&request).await?;
        let replica = Arc::clone(answer.replica());
        let code = answer.exception_code();
        let stored = answer.status() == 200 && code.is_none();
        // With `wait_end_of_query` the head says it all; of a good answer the body is empty.
        let text = answer.text(LONGEST_ERROR).await?;
        if stored {
            Ok(replica)
        } else {
            Err(StoreError::Refused(Exception::parse(code, &text)))
        }
    }

    /// How many rows of each import are in quarantine; nothing when it cannot be told.
    pub(super) async fn quarantined<'a>(
        &self,
        replica: &Arc<Replica>,
        imports: impl Iterator<Item = &'a str>,
    ) -> Option<HashMap<String, u64>> {
        let mut sql = format!(
            "SELECT {IMPORT_COLUMN}, count() FROM {} WHERE {IMPORT_COLUMN} IN (",
            self.quarantine
        );
        for (index, import_id) in imports.enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let _ = write!(sql, "{separator}{}", StringLiteral(import_id));
        }
        let _ = write!(sql, ") GROUP BY {IMPORT_COLUMN} FORMAT TabSeparated");
        let request = Request {
            query: "",
            authorization: &self.reader,
            body: &[Bytes::from(sql)],
            patience: COUNT_PATIENCE,
            repeatable: true,
        };
        let answer = replica
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

/// The URL parameters of an INSERT: what keeps rows together and never drops any.
fn insert_query(sql: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("query", sql)
        // The answer comes when the rows are stored, and says so in its status.
        .append_pair("async_insert", "0")
        .append_pair("wait_end_of_query", "1")
        // Equal rows sent twice are two rows: only the sender knows what a repetition is.
        .append_pair("insert_deduplicate", "0")
        // A file may span more partitions than a default allows at once.
        .append_pair("throw_on_max_partitions_per_insert_block", "0")
        .finish()
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
                "the connection to ClickHouse broke before it confirmed the rows: they may be stored, and sending them again may store them twice",
            )
            .retry_after(soon),
            Self::Refused(exception) => {
                let message = format!("ClickHouse did not take the rows: {}", exception.message);
                ApiError::new(ErrorCode::IngestionFailed, message).exception_code(exception.code).retry_after(soon)
            }
        }
    }
}

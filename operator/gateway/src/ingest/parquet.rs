//! Parquet goes to ClickHouse as it is, which knows the format; its columns
//! become text on the way, so that the landing table judges them like all others.
//!
//! A Parquet file cannot be read without its end, so it is taken as a whole or
//! not at all.

use super::Intake;
use super::block::{ERROR_COLUMN, IMPORT_COLUMN, RAW_COLUMN};
use super::body::PlainBody;
use super::store::{self, StoreError};
use super::upload::Taken;
use crate::error::{ApiError, ErrorCode, Progress};
use crate::upstream::{Answer, Exception, RequestBody};
use aviary_sql::{Identifier, StringLiteral};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};

/// `X-ClickHouse-Summary`; its numbers are texts.
#[derive(Deserialize)]
struct Summary {
    read_rows: String,
}

impl Intake {
    /// Takes the rows of a Parquet file.
    pub(super) async fn take_parquet(
        &self,
        mut body: PlainBody,
        import_id: String,
    ) -> Result<Taken, ApiError> {
        let Some(first) = body.next().await? else {
            return Err(ApiError::new(
                ErrorCode::BodyInvalid,
                "the body is empty, which is no Parquet file",
            ));
        };
        let problem = Arc::new(Mutex::new(None));
        let pieces = pieces(first, body, Arc::clone(&problem));
        let query = store::insert_query(&self.parquet_query(&import_id));
        let sent = self
            .store
            .send(&query, RequestBody::Stream(pieces.boxed()))
            .await;
        let client_problem = problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let answer = sent.map_err(|error| {
            let error = client_problem.unwrap_or_else(|| explain(&error));
            error.progress(Progress {
                import_id: import_id.clone(),
                acknowledged_rows: 0,
            })
        })?;
        let quarantined = self
            .store
            .quarantined(answer.replica(), std::iter::once(import_id.as_str()))
            .await;
        Ok(Taken {
            rows: rows(&answer),
            quarantined: quarantined.map(|counts| counts.get(&import_id).copied().unwrap_or(0)),
            import_id,
            ignored_columns: Vec::new(),
        })
    }

    /// `input` gives every column of the file as text; the import's id is added here.
    fn parquet_query(&self, import_id: &str) -> String {
        let names = || {
            self.parts
                .published
                .columns
                .iter()
                .map(|column| column.name.as_str())
        };
        let targets = store::list(names().chain([RAW_COLUMN, ERROR_COLUMN, IMPORT_COLUMN]));
        let sources = store::list(names());
        let structure: Vec<String> = names()
            .filter_map(|name| Identifier::new(name).ok())
            .map(|name| format!("{name} Nullable(String)"))
            .collect();
        let structure = structure.join(", ");
        format!(
            "INSERT INTO {} ({targets}) SELECT {sources}, '', '', {} FROM input({}) FORMAT Parquet",
            self.store.landing(),
            StringLiteral(import_id),
            StringLiteral(&structure),
        )
    }
}

/// The body as a stream that says when it failed, and leaves the reason behind.
fn pieces(
    first: Bytes,
    body: PlainBody,
    problem: Arc<Mutex<Option<ApiError>>>,
) -> impl futures::Stream<Item = Option<Bytes>> {
    let rest = futures::stream::unfold(Some(body), move |body| {
        let problem = Arc::clone(&problem);
        async move {
            let mut body = body?;
            match body.next().await {
                Ok(Some(piece)) => Some((Some(piece), Some(body))),
                Ok(None) => None,
                Err(error) => {
                    *problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    Some((None, None))
                }
            }
        }
    });
    futures::stream::once(std::future::ready(Some(first))).chain(rest)
}

fn rows(answer: &Answer) -> u64 {
    let summary = answer
        .summary()
        .and_then(|text| serde_json::from_str::<Summary>(text).ok());
    summary
        .and_then(|summary| summary.read_rows.parse().ok())
        .unwrap_or(0)
}

fn explain(error: &StoreError) -> ApiError {
    match error {
        StoreError::Refused(exception) if is_about_the_file(exception) => ApiError::new(
            ErrorCode::BodyInvalid,
            format!(
                "ClickHouse cannot read the Parquet file: {}",
                exception.message
            ),
        )
        .exception_code(exception.code),
        other => other.explain(),
    }
}

/// CANNOT_READ_ALL_DATA, CANNOT_PARSE_*, INCORRECT_DATA, CANNOT_EXTRACT_TABLE_STRUCTURE, CANNOT_CONVERT_TYPE,
/// THERE_IS_NO_COLUMN, TYPE_MISMATCH, BAD_ARGUMENTS, UNKNOWN_TYPE, STD_EXCEPTION (of the Parquet library).
fn is_about_the_file(exception: &Exception) -> bool {
    matches!(
        exception.code,
        6 | 8 | 26 | 27 | 33 | 36 | 38 | 41 | 50 | 53 | 70 | 72 | 117 | 636 | 1001
    )
}

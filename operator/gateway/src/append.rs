//! The two ways in: `POST /v0/events` for NDJSON, and `POST /v0/datasources` for
//! files. What they ask for, and what they are told.

use crate::answer_body::Body;
use crate::budgets::Shares;
use crate::context::Context;
use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::event::Recorder;
use crate::ingest::{Import, ImportId, ImportSummary, Intake, PlainBody};
use crate::request_body::RequestBody;
use crate::rights::Access;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use url::form_urlencoded;

/// The formats of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileFormat {
    Csv,
    NdJson,
    Parquet,
}

/// What a client is told about its rows.
#[derive(Serialize)]
struct Receipt<'a> {
    successful_rows: Option<u64>,
    quarantined_rows: Option<u64>,
    import_id: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    ignored_columns: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

/// `POST /v0/events?name=<data source>`: rows as NDJSON.
///
/// Rows are stored before the answer in any case; `wait=true` only chooses
/// between 200 and the 202 that other clients of this interface know.
pub(crate) async fn handle_events(
    context: &Context<'_>,
    parts: &Parts,
    body: RequestBody,
    recorder: &mut Recorder,
) -> Result<Response<Body>, ApiError> {
    let query = Query::of(parts);
    let intake = find(context, &query)?;
    recorder.about(intake.resource());
    if let Some(format) = query
        .get("format")
        .filter(|format| !matches!(&**format, "ndjson" | "json"))
    {
        return Err(unknown_format(&format, "`ndjson`"));
    }
    let import = import(context, &query, &parts.headers, recorder)?;
    let _slot = admit(context, import.shares)?;
    let body = plain_body(context, &intake, &parts.headers, body).await?;
    let taken = intake.take_ndjson(body, import).await?;
    let status = match query.get("wait").as_deref() {
        Some("true" | "1") => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    Ok(receipt(context, status, &taken))
}

/// `POST /v0/datasources?name=<data source>&mode=append&format=csv|ndjson|parquet`: a file.
pub(crate) async fn handle_file(
    context: &Context<'_>,
    parts: &Parts,
    body: RequestBody,
    recorder: &mut Recorder,
) -> Result<Response<Body>, ApiError> {
    let query = Query::of(parts);
    let intake = find(context, &query)?;
    recorder.about(intake.resource());
    if query.get("mode").is_some_and(|mode| mode != "append") {
        return Err(ApiError::new(
            ErrorCode::RequestInvalid,
            "`mode` must be `append`; other modes are not there yet",
        ));
    }
    if query.get("url").is_some() {
        return Err(ApiError::new(
            ErrorCode::RequestInvalid,
            "`url` is not there yet: send the file as the body",
        ));
    }
    let format = file_format(&query, &parts.headers)?;
    let import = import(context, &query, &parts.headers, recorder)?;
    let _slot = admit(context, import.shares)?;
    let body = plain_body(context, &intake, &parts.headers, body).await?;
    let taken = match format {
        FileFormat::Csv => intake.take_csv(body, import).await?,
        FileFormat::NdJson => intake.take_ndjson(body, import).await?,
        FileFormat::Parquet => intake.take_parquet(body, import).await?,
    };
    Ok(receipt(context, StatusCode::OK, &taken))
}

/// The parameters in a URL.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn of(parts: &'a Parts) -> Self {
        Self(parts.uri.query().unwrap_or_default())
    }

    fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut pairs = form_urlencoded::parse(self.0.as_bytes());
        pairs
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }
}

fn find(context: &Context<'_>, query: &Query<'_>) -> Result<Arc<Intake>, ApiError> {
    let name = query.get("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        ApiError::new(
            ErrorCode::RequestInvalid,
            "which data source? Give `?name=<data source>`",
        )
    })?;
    context.authorize(Access::Append(&name))?;
    let workspace = context.workspace()?;
    let found = workspace.intakes.get(&*name).cloned();
    found.ok_or_else(|| {
        ApiError::new(
            ErrorCode::DataSourceUnknown,
            format!("there is no data source `{name}`"),
        )
    })
}

fn import<'a>(
    context: &'a Context<'_>,
    query: &Query<'_>,
    headers: &HeaderMap,
    recorder: &'a mut Recorder,
) -> Result<Import<'a>, ApiError> {
    let workspace = context.workspace()?;
    let parameter = query.get("import_id");
    Ok(Import {
        id: ImportId::of(headers, parameter.as_deref(), &context.request_id)?,
        shares: &workspace.shares,
        recorder,
    })
}

/// One upload more of the workspace, if it may have one more.
fn admit(context: &Context<'_>, shares: &Shares) -> Result<OwnedSemaphorePermit, ApiError> {
    let slot = shares.uploads.admit();
    slot.inspect_err(|_| context.metrics.refused("upload"))
}

async fn plain_body(
    context: &Context<'_>,
    intake: &Intake,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<PlainBody, ApiError> {
    let workspace = context.workspace()?;
    let limit = workspace.published.body_size_bytes;
    let patience = intake.body_timeout();
    PlainBody::open(headers, body, limit, patience, &workspace.shares.rows).await
}

fn file_format(query: &Query<'_>, headers: &HeaderMap) -> Result<FileFormat, ApiError> {
    if let Some(format) = query.get("format") {
        return match &*format {
            "csv" => Ok(FileFormat::Csv),
            "ndjson" | "json" => Ok(FileFormat::NdJson),
            "parquet" => Ok(FileFormat::Parquet),
            _ => Err(unknown_format(&format, "`csv`, `ndjson` or `parquet`")),
        };
    }
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "text/csv" => Ok(FileFormat::Csv),
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/json" => Ok(FileFormat::NdJson),
        "application/vnd.apache.parquet" | "application/x-parquet" => Ok(FileFormat::Parquet),
        "multipart/form-data" => Err(ApiError::new(
            ErrorCode::FormatUnknown,
            "multipart bodies are not taken: send the file itself, such as `curl --data-binary @file`",
        )),
        _ => Err(ApiError::new(
            ErrorCode::FormatUnknown,
            "which format? Give `format=csv`, `format=ndjson` or `format=parquet`, or a Content-Type",
        )),
    }
}

fn unknown_format(format: &str, known: &str) -> ApiError {
    let shown: String = format.chars().take(32).collect();
    ApiError::new(
        ErrorCode::FormatUnknown,
        format!("`format` must be {known}, not `{shown}`"),
    )
}

fn receipt(context: &Context<'_>, status: StatusCode, taken: &ImportSummary) -> Response<Body> {
    let successful = taken
        .quarantined
        .map(|quarantined| taken.rows.saturating_sub(quarantined));
    let uncounted = taken.quarantined.is_none();
    let receipt = Receipt {
        successful_rows: successful,
        quarantined_rows: taken.quarantined,
        import_id: &taken.import_id,
        ignored_columns: &taken.ignored_columns,
        accepted_rows: uncounted.then_some(taken.rows),
        warning: uncounted.then_some(
            "all rows are stored, and how many of them are in quarantine could not be told",
        ),
    };
    let mut text = serde_json::to_vec(&receipt).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Body::full(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert("x-request-id", context.request_id.header());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(query: &str, content_type: &'static str) -> Result<FileFormat, ErrorCode> {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        file_format(&Query(query), &headers).map_err(|error| error.code())
    }

    #[test]
    fn the_format_is_said_or_told_from_the_content_type() {
        assert_eq!(
            format("name=x&format=csv", "application/json"),
            Ok(FileFormat::Csv)
        );
        assert_eq!(format("", "text/csv; charset=utf-8"), Ok(FileFormat::Csv));
        assert_eq!(
            format("", "application/vnd.apache.parquet"),
            Ok(FileFormat::Parquet)
        );
        assert_eq!(
            format("", "application/x-www-form-urlencoded"),
            Err(ErrorCode::FormatUnknown)
        );
        assert_eq!(
            format("format=xls", "text/csv"),
            Err(ErrorCode::FormatUnknown)
        );
    }
}

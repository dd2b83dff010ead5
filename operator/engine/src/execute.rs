//! Running one request on a worker thread: reads the statement, takes a connection, runs it.

use std::os::fd::AsRawFd;

use bytes::{Bytes, BytesMut};

use crate::access_statements;
use crate::exception::{Exception, code};
use crate::http::body::BodyReader;
use crate::http::multipart;
use crate::job::Job;
use crate::libchdb::QueryClass;
use crate::output::{Failure, Outcome, OutputWriter};
use crate::sql::insert::{InsertHead, insert_head};
use crate::sql::statement::{Route, Statement};

/// How long a statement may be that says nothing else: ClickHouse's default `max_query_size`.
const MAX_QUERY_SIZE: usize = 262_144;

/// How much a body may hold that has both the INSERT and its data.
const MAX_INLINE_DATA: usize = 64 << 20;

/// Runs the request to its end. Blocks.
pub(crate) fn run(job: &mut Job, mut body: BodyReader) -> Result<Outcome, Failure> {
    take_form(job, &mut body)?;
    let ended = run_statement(job, body);
    ended.map_err(|failure| failure.map(|exception| exception.for_user(&job.session.user)))
}

/// Takes the fields of a form, which leaves no body.
fn take_form(job: &mut Job, body: &mut BodyReader) -> Result<(), Exception> {
    let Some(boundary) = job.request.form.take() else {
        return Ok(());
    };
    let mut form = BytesMut::new();
    body.read_into(&mut form, MAX_INLINE_DATA)?;
    for (name, value) in multipart::fields(&form, &boundary)? {
        job.request.take(name, value)?;
    }
    Ok(())
}

fn run_statement(job: &mut Job, mut body: BodyReader) -> Result<Outcome, Failure> {
    let query = Bytes::copy_from_slice(job.request.query.as_bytes());
    if let Some(head) = insert_head(&query) {
        return insert(job, query, head, body);
    }
    let mut text = BytesMut::from(&query[..]);
    if !text.is_empty() {
        // The URL's part and the body are two lines of one query.
        text.extend_from_slice(b"\n");
    }
    body.read_into(&mut text, MAX_INLINE_DATA)?;
    let text = text.freeze();
    if let Some(head) = insert_head(&text) {
        return insert(job, text, head, body);
    }
    check_size(job, text.len())?;
    let statement = Statement::parse(&text)?;
    match statement.route() {
        Route::Select => match job.output.take() {
            Some(output) => select(job, &statement, &output),
            None => collect(job, &statement, statement.text),
        },
        Route::Access => access_statements::change(job, &statement),
        Route::ShowCreateUser if job.is_of_default_user() => {
            let shown = access_statements::show_create_user(job, &statement);
            let text = shown.map_or(statement.text.to_vec(), String::into_bytes);
            collect(job, &statement, &text)
        }
        Route::ShowCreateUser | Route::Other => {
            access_statements::check_makes(job, &statement)?;
            collect(job, &statement, statement.text)
        }
    }
}

fn check_size(job: &Job, size: usize) -> Result<(), Exception> {
    let limit = job.request.setting("max_query_size");
    let limit = limit.and_then(|value| value.parse().ok());
    let limit = limit.unwrap_or(MAX_QUERY_SIZE);
    if size <= limit {
        return Ok(());
    }
    Err(Exception::new(
        code::SYNTAX_ERROR,
        format!(
            "Syntax error: Max query size exceeded (can be increased with the `max_query_size` setting): {limit} bytes."
        ),
    ))
}

/// Streams the output through a pipe that ClickHouse takes for a file, which is good for every
/// format: what libchdb itself streams is a document of its own for each block.
fn select(job: &Job, statement: &Statement<'_>, output: &OutputWriter) -> Result<Outcome, Failure> {
    let format = job.format(statement)?;
    let path = format!("/dev/fd/{}", output.pipe.as_raw_fd());
    let sql = statement.with_outfile(&path, &format.name);
    job.on_connection(job.connection_key(), statement.text, |checkout| {
        // Writes into a file of somebody's choice are not reading.
        if checkout.check(statement.text)? != QueryClass::ReadOnly {
            return Err(no_file().into());
        }
        checkout.check(&sql)?;
        output.announce(&format);
        let statistics = checkout.query(&sql, &format.name)?.statistics();
        job.running.check()?;
        checkout.is_reusable = true;
        Ok(Outcome {
            format,
            statistics,
            output: Bytes::new(),
        })
    })
}

/// Runs `text` in place of a statement whose output is small, or held in memory anyway.
fn collect(job: &Job, statement: &Statement<'_>, text: &[u8]) -> Result<Outcome, Failure> {
    let format = job.format(statement)?;
    job.on_connection(job.connection_key(), text, |checkout| {
        let class = checkout.check(text)?;
        check_files(statement)?;
        // Others could become somebody else, or end queries of others: for libchdb, all are one's.
        let is_harmless = matches!(class, QueryClass::ReadOnly | QueryClass::Mutating);
        if !is_harmless && !job.is_of_default_user() {
            return Err(Exception::new(
                code::ACCESS_DENIED,
                "default: Not enough privileges. This engine has statements about the session and the server for the user `default` only.",
            )
            .into());
        }
        let output = checkout.query(text, &format.name)?;
        let statistics = output.statistics();
        Ok(Outcome {
            format,
            statistics: if statement.inserts() {
                statistics.of_insert()
            } else {
                statistics
            },
            output: Bytes::from_owner(output),
        })
    })
}

fn insert(
    job: &Job,
    text: Bytes,
    head: InsertHead,
    mut body: BodyReader,
) -> Result<Outcome, Failure> {
    let sql = &text[head.statement.clone()];
    let statement = Statement::parse(sql)?;
    check_size(job, sql.len())?;
    let mut key = job.connection_key();
    let sent = if statement.mentions("SETTINGS") {
        sql.to_vec()
    } else {
        key.extract_changing_settings(sql)
    };
    let parameters = &job.request.parameters;
    let mut data = Some(text.slice(head.data..)).filter(|data| !data.is_empty());
    let statistics = job.on_connection(key, sql, |checkout| {
        let mut insert = checkout
            .connection
            .insert(&sent, &head.format, parameters)
            .map_err(|text| Exception::parse(&text))?;
        while let Some(piece) = match data.take() {
            Some(piece) => Some(piece),
            None => body.next()?,
        } {
            job.running.check()?;
            if !insert.append(&piece) {
                break;
            }
        }
        job.running.check()?;
        let statistics = insert.finish().map_err(|text| Exception::parse(&text))?;
        checkout.is_reusable = true;
        Ok(statistics)
    })?;
    Ok(Outcome {
        statistics: statistics.of_insert_with_data(),
        ..Outcome::default()
    })
}

/// Refuses what would reach files of this process.
fn check_files(statement: &Statement<'_>) -> Result<(), Exception> {
    if statement.mentions("OUTFILE") || statement.mentions("INFILE") {
        return Err(no_file());
    }
    // libchdb would look for the rows on standard input.
    if statement.inserts() && statement.calls("input") {
        return Err(Exception::not_implemented(
            "The table function input is not supported by this engine.",
        ));
    }
    Ok(())
}

fn no_file() -> Exception {
    Exception::new(
        code::INTO_OUTFILE_NOT_ALLOWED,
        "INTO OUTFILE and FROM INFILE are not allowed.",
    )
}

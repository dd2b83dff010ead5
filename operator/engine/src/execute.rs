//! Running one request on a worker thread: reads the statement, takes a connection, streams the
//! output or the input.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::access::model::DEFAULT_USER;
use crate::access::session::UserSession;
use crate::access_statement;
use crate::core::{Core, OpenGuard};
use crate::exception::{Exception, code};
use crate::ffi::{Analysis, Connection};
use crate::formats::Assembler;
use crate::http::body::BodyReader;
use crate::http::multipart;
use crate::http::request::Request;
use crate::http::response::{Gone, Responder};
use crate::pipe::{LateReader, PipeToClient};
use crate::running::Running;
use crate::session::ConnectionKey;
use crate::sql::current_user::asked_by;
use crate::sql::insert::{Beginning, InsertHead, MAX_QUERY_SIZE, beginning};
use crate::sql::lexer::without_hints;
use crate::sql::statement::{Route, Statement};

/// ClickHouse's limit for the fields of a form.
const MAX_FORM_SIZE: usize = 10 * 1024 * 1024;

/// A request on its way through the engine.
pub(crate) struct Job {
    pub(crate) core: Arc<Core>,
    pub(crate) request: Request,
    pub(crate) session: Arc<UserSession>,
    pub(crate) running: Arc<Running>,
    pub(crate) late_reader: Arc<LateReader>,
}

/// How a job ends short of an answer.
pub(crate) enum Failure {
    /// The client is told.
    Exception(Exception),
    /// The same, before the query itself is looked at: its user, settings or database are refused.
    Early(Exception),
    /// There is no client any more.
    Gone,
}

impl From<Exception> for Failure {
    fn from(exception: Exception) -> Self {
        Failure::Exception(exception)
    }
}

impl From<Gone> for Failure {
    fn from(Gone: Gone) -> Self {
        Failure::Gone
    }
}

impl Job {
    /// Runs the request, all but the end of its answer. Blocks.
    pub(crate) fn run(
        &mut self,
        body: Result<BodyReader, Exception>,
        responder: &mut Responder,
    ) -> Result<(), Failure> {
        body.and_then(|body| self.with_form(body))
            .map_err(Failure::from)
            .and_then(|body| self.answer(body, responder))
            .map_err(|failure| match failure {
                Failure::Exception(exception) => {
                    Failure::Exception(exception.for_user(&self.session.user))
                }
                Failure::Early(exception) => Failure::Early(exception.for_user(&self.session.user)),
                Failure::Gone => Failure::Gone,
            })
    }

    /// Takes the fields of a form, which leaves no body.
    fn with_form(&mut self, mut body: BodyReader) -> Result<BodyReader, Exception> {
        let Some(boundary) = self.request.form.take() else {
            return Ok(body);
        };
        let form = body.read_to_end(MAX_FORM_SIZE)?;
        for (name, value) in multipart::fields(&form, &boundary)? {
            self.request.take(name, value)?;
        }
        Ok(body)
    }

    fn answer(&self, mut body: BodyReader, responder: &mut Responder) -> Result<(), Failure> {
        let mut text = BytesMut::from(self.request.query.as_bytes());
        if !text.is_empty() {
            // The URL's part and the body are two lines of one query.
            text.extend_from_slice(b"\n");
        }
        let limit = self.max_query_size();
        let (head, complete) = read_beginning(&mut text, &mut body, limit)?;
        match head {
            Beginning::Insert(head) => self.insert(text.freeze(), head, complete, body, responder),
            Beginning::Statement | Beginning::Unknown => {
                read_rest(&mut text, complete, &mut body, limit)?;
                self.statement(&text, responder)
            }
        }
    }

    fn max_query_size(&self) -> usize {
        let of_session = || {
            let values = self.session.values.iter();
            values
                .filter(|(name, _)| name == "max_query_size")
                .find_map(|(_, value)| value.parse().ok())
        };
        self.request
            .setting("max_query_size")
            .and_then(|value| value.parse().ok())
            .or_else(of_session)
            .unwrap_or(MAX_QUERY_SIZE)
    }

    fn statement(&self, text: &[u8], responder: &mut Responder) -> Result<(), Failure> {
        self.running.describe(text);
        let text = &*without_hints(text);
        let statement = Statement::new(text);
        statement.check()?;
        let user = &self.session.user;
        match statement.route() {
            Route::Select if user != DEFAULT_USER => {
                let text = asked_by(text, user);
                self.select(&Statement::new(&text), responder)
            }
            Route::Select => self.select(&statement, responder),
            Route::Access => {
                access_statement::change(self, &statement)?;
                Ok(())
            }
            Route::ShowAccess => match access_statement::show(self, &statement)? {
                Some(sql) => self.collect(sql.as_bytes(), &statement, true, responder),
                None => self.collect(text, &statement, true, responder),
            },
            Route::SetRole => Err(Exception::not_implemented(
                "SET ROLE needs a session, which this engine does not have: name roles with the `role` parameter of each request.",
            )
            .into()),
            Route::KillQuery => match access_statement::kill(self, &statement)? {
                Some(sql) => self.collect(sql.as_bytes(), &statement, true, responder),
                None => self.collect(text, &statement, true, responder),
            },
            Route::Session => self.collect(text, &statement, false, responder),
            Route::Other => match access_statement::with_definer(self, &statement)? {
                Some(sql) => self.collect(&sql, &statement, true, responder),
                None => self.collect(text, &statement, true, responder),
            },
        }
    }

    /// Finds out the answer's format. libchdb has more than those of a server,
    /// whose output is no bytes but pointers into its memory.
    fn announce(
        &self,
        statement: &Statement<'_>,
        responder: &mut Responder,
    ) -> Result<String, Exception> {
        let format = statement
            .format()
            .or_else(|| self.request.default_format.clone())
            .unwrap_or_else(|| "TabSeparated".to_owned());
        let Some(content_type) = self.core.facts.content_type(&format) else {
            return Err(Exception::new(
                code::UNKNOWN_FORMAT,
                format!("Unknown format {format}."),
            ));
        };
        responder.set_format(format.clone(), content_type.to_owned());
        Ok(format)
    }

    fn select(&self, statement: &Statement<'_>, responder: &mut Responder) -> Result<(), Failure> {
        let format = self.announce(statement, responder)?;
        if format.eq_ignore_ascii_case("Null") {
            // A stream without output looks like one at its end.
            return self.collect(statement.text, statement, true, responder);
        }
        match Assembler::new(&format).filter(|_| self.is_rows_only(statement)) {
            Some(assembler) => self.stream(statement, &format, assembler, responder),
            None => self.pipe(statement, &format, responder),
        }
    }

    /// Whether nothing makes more of the output than rows.
    fn is_rows_only(&self, statement: &Statement<'_>) -> bool {
        let settings = ["extremes", "output_format_json_array_of_rows"];
        !statement.mentions("TOTALS")
            && !settings.iter().any(|setting| {
                statement.mentions(setting)
                    || self.request.setting(setting).is_some()
                    || self.session.values.iter().any(|(name, _)| name == setting)
            })
    }

    /// Streams block by block, without copying any.
    fn stream(
        &self,
        statement: &Statement<'_>,
        format: &str,
        mut assembler: Assembler,
        responder: &mut Responder,
    ) -> Result<(), Failure> {
        self.on_connection_for(statement.text, true, |connection| {
            check_only_reads(connection, statement.text)?;
            let mut stream = connection
                .stream(statement.text, format, &self.request.parameters)
                .map_err(|text| Exception::parse(&text))?;
            loop {
                self.running.check()?;
                match stream.next().map_err(|text| Exception::parse(&text))? {
                    Some(output) => {
                        responder.count(output.statistics());
                        responder.write(assembler.add(output))?;
                    }
                    None => return Ok(()),
                }
            }
        })
    }

    /// Streams a format that ClickHouse must write as a whole, through a pipe
    /// that it takes for a file.
    fn pipe(
        &self,
        statement: &Statement<'_>,
        format: &str,
        responder: &mut Responder,
    ) -> Result<(), Failure> {
        let (reader, writer) = io::pipe().map_err(|error| no_pipe(&error))?;
        let path = format!("/dev/fd/{}", writer.as_raw_fd());
        let sql = statement.led_into_file(&path, format);
        let written = self.on_connection_for(statement.text, true, |connection| {
            check_only_reads(connection, statement.text)?;
            self.late_reader.offer(PipeToClient {
                reader,
                responder: responder.take(),
                running: Arc::clone(&self.running),
            });
            let output = connection.query(&sql, format, &self.request.parameters);
            // The last one to hold the pipe's end for writing.
            drop(writer);
            let mut passed = Ok(());
            if let Some((taken, outcome)) = self.late_reader.finish() {
                *responder = taken;
                passed = outcome;
            }
            let output = output.map_err(|text| Exception::parse(&text))?;
            self.running.check()?;
            passed?;
            Ok(output.statistics())
        })?;
        responder.count(written);
        Ok(())
    }

    /// Runs a statement whose output is small.
    fn collect(
        &self,
        text: &[u8],
        statement: &Statement<'_>,
        reusable: bool,
        responder: &mut Responder,
    ) -> Result<(), Failure> {
        let format = self.announce(statement, responder)?;
        self.on_connection_for(text, reusable, |connection| {
            check_one_statement(connection, text)?;
            self.core
                .access
                .note_dependents(statement, &self.session.user, &self.database());
            let output = connection
                .query(text, &format, &self.request.parameters)
                .map_err(|text| Exception::parse(&text))?;
            let brings_old_tables = ["ATTACH", "RESTORE", "UNDROP"]
                .iter()
                .any(|word| statement.is(0, word));
            if brings_old_tables {
                self.core.note_dependents()?;
            }
            let statistics = output.statistics();
            responder.count(if statement.inserts() {
                statistics.of_insert()
            } else {
                statistics
            });
            responder.write(Bytes::from_owner(output))?;
            Ok(())
        })
    }

    fn insert(
        &self,
        text: Bytes,
        head: InsertHead,
        complete: bool,
        mut body: BodyReader,
        responder: &mut Responder,
    ) -> Result<(), Failure> {
        let sql = &*without_hints(&text[head.statement.clone()]);
        let statement = Statement::new(sql);
        statement.check()?;
        self.running.describe(sql);
        let mut data = Some(text.slice(head.data..)).filter(|data| !data.is_empty());
        let mut key = self.connection_key();
        let sent = if statement.mentions("SETTINGS") {
            sql.to_vec()
        } else {
            key.hand_over(sql)
        };
        let statistics = self.on_connection_with(key, sql, true, |connection| {
            let mut insert = connection
                .insert(&sent, &head.format, &self.request.parameters)
                .map_err(|text| Exception::parse(&text))?;
            while let Some(piece) = match data.take() {
                Some(piece) => Some(piece),
                None if complete => None,
                None => body.next()?,
            } {
                self.running.check()?;
                if !insert.append(&piece) {
                    break;
                }
            }
            self.running.check()?;
            insert
                .finish()
                .map_err(|text| Exception::parse(&text).into())
        })?;
        responder.count(statistics.of_insert_with_data());
        Ok(())
    }

    /// Takes a connection for the request, runs `work` on it, and keeps it for
    /// the next request where `work` ended well on a `reusable` one.
    pub(crate) fn on_connection<T>(
        &self,
        reusable: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let engine = self.core.enter()?;
        self.running.check()?;
        self.on_engine(&engine, self.connection_key(), reusable, work)
    }

    /// The same for a statement that may not mind whether libchdb knows the
    /// latest users.
    fn on_connection_for<T>(
        &self,
        statement: &[u8],
        reusable: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.on_connection_with(self.connection_key(), statement, reusable, work)
    }

    /// The same on a connection that is set up in a way of its own.
    fn on_connection_with<T>(
        &self,
        key: ConnectionKey,
        statement: &[u8],
        reusable: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let engine = self
            .core
            .enter_for(&self.session.user, &self.database(), statement)?;
        self.running.check()?;
        self.on_engine(&engine, key, reusable, work)
    }

    /// The same for statements that do not mind whether libchdb knows the
    /// latest users, so that many of them in a row cost one opening.
    pub(crate) fn on_stale_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let known = self.core.knows(&self.session);
        let engine = if known {
            self.core.enter_stale()?
        } else {
            self.core.enter()?
        };
        self.on_engine(&engine, self.connection_key(), false, work)
    }

    fn on_engine<T>(
        &self,
        engine: &OpenGuard<'_>,
        key: ConnectionKey,
        reusable: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _inside = self.running.enter_engine();
        let mut marked = engine.checkout(&key).map_err(Failure::Early)?;
        self.running.enter(&marked.mark);
        let result = work(&mut marked.connection);
        self.running.leave();
        // A killed query may leave its kill to the next one; an INSERT that
        // failed leaves its connection in a state nobody vouches for.
        if reusable && !self.running.is_cancelled() && result.is_ok() {
            engine.give_back(key, marked);
        }
        result
    }

    /// The database of names without one.
    pub(crate) fn database(&self) -> String {
        self.request
            .database
            .clone()
            .filter(|database| !database.is_empty())
            .or_else(|| self.session.default_database.clone())
            .unwrap_or_else(|| "default".to_owned())
    }

    fn connection_key(&self) -> ConnectionKey {
        ConnectionKey {
            session: Arc::clone(&self.session),
            database: self.database(),
            read_only: self.request.read_only,
            settings: self.request.settings.clone(),
        }
    }
}

/// The tokens say that a text is one statement. libchdb would run several, and
/// takes what it cannot parse for an order to its command line; so its own
/// parser has the last word.
pub(crate) fn check_one_statement(
    connection: &mut Connection,
    text: &[u8],
) -> Result<Analysis, Exception> {
    let analysis = connection.classify(text);
    match analysis.statements {
        1 => Ok(analysis),
        // An insertion is parsed and nothing else, and says what is wrong.
        0 => Err(match connection.insert(text, "", &[]) {
            Err(text) => Exception::parse(&text),
            Ok(_) => Exception::new(code::SYNTAX_ERROR, "Syntax error."),
        }),
        _ => Err(Exception::new(
            code::SYNTAX_ERROR,
            "Syntax error (Multi-statements are not allowed).",
        )),
    }
}

/// The same for a query, which must not write a file either.
fn check_only_reads(connection: &mut Connection, text: &[u8]) -> Result<(), Exception> {
    if check_one_statement(connection, text)?.reads_only {
        return Ok(());
    }
    Err(Exception::new(
        code::INTO_OUTFILE_NOT_ALLOWED,
        "INTO OUTFILE is not allowed.",
    ))
}

fn no_pipe(error: &io::Error) -> Exception {
    Exception::new(
        code::LOGICAL_ERROR,
        format!("Cannot make a pipe for the output: {error}."),
    )
}

/// Reads until it is clear what the query is, or all of it is there.
fn read_beginning(
    text: &mut BytesMut,
    body: &mut BodyReader,
    limit: usize,
) -> Result<(Beginning, bool), Failure> {
    let mut complete = false;
    loop {
        match beginning(text, complete)? {
            Beginning::Unknown if text.len() > limit => return Err(too_large(limit).into()),
            Beginning::Unknown if !complete => match body.next()? {
                Some(piece) => text.extend_from_slice(&piece),
                None => complete = true,
            },
            found => return Ok((found, complete)),
        }
    }
}

fn read_rest(
    text: &mut BytesMut,
    complete: bool,
    body: &mut BodyReader,
    limit: usize,
) -> Result<(), Failure> {
    while !complete && text.len() <= limit {
        match body.next()? {
            Some(piece) => text.extend_from_slice(&piece),
            None => break,
        }
    }
    if text.len() > limit {
        return Err(too_large(limit).into());
    }
    Ok(())
}

fn too_large(limit: usize) -> Exception {
    Exception::new(
        code::SYNTAX_ERROR,
        format!(
            "Syntax error: Max query size exceeded (can be increased with the `max_query_size` setting): {limit} bytes."
        ),
    )
}

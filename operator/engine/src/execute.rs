//! Running one request on a worker thread: reads the statement, takes a connection, streams the
//! output or the input.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::access::session::UserSession;
use crate::access_statement;
use crate::core::{Core, OpenGuard};
use crate::exception::{Exception, code};
use crate::ffi::Connection;
use crate::http::body::BodyReader;
use crate::http::request::Request;
use crate::http::response::{Gone, Responder};
use crate::running::Running;
use crate::session::ConnectionKey;
use crate::sql::statement::{Beginning, InsertHead, MAX_QUERY_SIZE, Route, Statement, beginning};

/// A request on its way through the engine.
pub(crate) struct Job {
    pub(crate) core: Arc<Core>,
    pub(crate) request: Request,
    pub(crate) session: Arc<UserSession>,
    pub(crate) running: Arc<Running>,
}

/// How a job ends short of an answer.
pub(crate) enum Failure {
    /// The client is told.
    Exception(Exception),
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
        &self,
        body: Result<BodyReader, Exception>,
        responder: &mut Responder,
    ) -> Result<(), Failure> {
        body.map_err(Failure::from)
            .and_then(|body| self.answer(body, responder))
            .map_err(|failure| match failure {
                Failure::Exception(exception) => {
                    Failure::Exception(exception.for_user(&self.session.user))
                }
                Failure::Gone => Failure::Gone,
            })
    }

    fn answer(&self, mut body: BodyReader, responder: &mut Responder) -> Result<(), Failure> {
        let mut text = BytesMut::from(self.request.query.as_bytes());
        if !text.is_empty() {
            // The URL's part and the body are two lines of one query.
            text.extend_from_slice(b"\n");
        }
        let (head, complete) = read_beginning(&mut text, &mut body)?;
        match head {
            Beginning::Insert(head) => self.insert(text.freeze(), head, complete, body, responder),
            Beginning::Statement | Beginning::Unknown => {
                read_rest(&mut text, complete, &mut body)?;
                self.statement(&text, responder)
            }
        }
    }

    fn statement(&self, text: &[u8], responder: &mut Responder) -> Result<(), Failure> {
        let statement = Statement::new(text);
        statement.check()?;
        self.running.describe(text);
        match statement.route() {
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
            Route::Other => self.collect(text, &statement, true, responder),
        }
    }

    /// What the answer's format will be, and the one to give to libchdb.
    fn announce(&self, statement: &Statement<'_>, responder: &mut Responder) -> String {
        let default = self
            .request
            .default_format
            .clone()
            .unwrap_or_else(|| "TabSeparated".to_owned());
        let format = statement.format().unwrap_or_else(|| default.clone());
        let content_type = self.core.facts.content_type(&format).to_owned();
        responder.set_format(format, content_type);
        default
    }

    fn select(&self, statement: &Statement<'_>, responder: &mut Responder) -> Result<(), Failure> {
        // A stream without output looks like one at its end.
        if statement
            .format()
            .is_some_and(|format| format.eq_ignore_ascii_case("Null"))
        {
            return self.collect(statement.text, statement, true, responder);
        }
        let default_format = self.announce(statement, responder);
        let streamed = self.on_connection(true, |connection| {
            let mut stream = match connection.stream(
                statement.text,
                &default_format,
                &self.request.parameters,
            ) {
                Ok(stream) => stream,
                Err(message) => {
                    let exception = Exception::parse(&message);
                    let unsupported = exception.code == code::BAD_ARGUMENTS
                        && exception
                            .message
                            .starts_with("Streaming query is not supported");
                    return if unsupported {
                        Ok(false)
                    } else {
                        Err(exception.into())
                    };
                }
            };
            loop {
                self.running.check()?;
                match stream.next().map_err(|text| Exception::parse(&text))? {
                    Some(output) => {
                        responder.count(output.statistics());
                        responder.write(Bytes::from_owner(output))?;
                    }
                    None => return Ok(true),
                }
            }
        })?;
        if streamed {
            Ok(())
        } else {
            self.collect(statement.text, statement, true, responder)
        }
    }

    /// Runs a statement whose output is small.
    fn collect(
        &self,
        text: &[u8],
        statement: &Statement<'_>,
        reusable: bool,
        responder: &mut Responder,
    ) -> Result<(), Failure> {
        let default_format = self.announce(statement, responder);
        self.on_connection(reusable, |connection| {
            // The tokens say that this is one statement. libchdb would run
            // several, so its own parser is asked too.
            if connection.count_statements(text) > 1 {
                return Err(Exception::new(
                    code::SYNTAX_ERROR,
                    "Syntax error (Multi-statements are not allowed).",
                )
                .into());
            }
            let output = connection
                .query(text, &default_format, &self.request.parameters)
                .map_err(|text| Exception::parse(&text))?;
            responder.count(output.statistics());
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
        let sql = &text[head.statement.clone()];
        let statement = Statement::new(sql);
        statement.check()?;
        self.running.describe(sql);
        let mut data = Some(text.slice(head.data..)).filter(|data| !data.is_empty());
        let statistics = self.on_connection(true, |connection| {
            let mut insert = connection
                .insert(sql, &head.format, &self.request.parameters)
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
        responder.count(statistics);
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
        self.on_engine(&engine, reusable, work)
    }

    fn on_engine<T>(
        &self,
        engine: &OpenGuard<'_>,
        reusable: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let key = self.connection_key();
        let mut marked = engine.checkout(&key)?;
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

    fn connection_key(&self) -> ConnectionKey {
        let database = self
            .request
            .database
            .clone()
            .filter(|database| !database.is_empty())
            .or_else(|| self.session.default_database.clone())
            .unwrap_or_else(|| "default".to_owned());
        ConnectionKey {
            session: Arc::clone(&self.session),
            database,
            read_only: self.request.read_only,
            settings: self.request.settings.clone(),
        }
    }
}

/// Reads until it is clear what the query is, or all of it is there.
fn read_beginning(
    text: &mut BytesMut,
    body: &mut BodyReader,
) -> Result<(Beginning, bool), Failure> {
    let mut complete = false;
    loop {
        match beginning(text, complete)? {
            Beginning::Unknown if text.len() > MAX_QUERY_SIZE => return Err(too_large().into()),
            Beginning::Unknown if !complete => match body.next()? {
                Some(piece) => text.extend_from_slice(&piece),
                None => complete = true,
            },
            found => return Ok((found, complete)),
        }
    }
}

fn read_rest(text: &mut BytesMut, complete: bool, body: &mut BodyReader) -> Result<(), Failure> {
    if !complete {
        while let Some(piece) = body.next()? {
            text.extend_from_slice(&piece);
            if text.len() > MAX_QUERY_SIZE {
                break;
            }
        }
    }
    if text.len() > MAX_QUERY_SIZE {
        return Err(too_large().into());
    }
    Ok(())
}

fn too_large() -> Exception {
    Exception::new(
        code::SYNTAX_ERROR,
        format!(
            "Syntax error: Max query size exceeded (can be increased with the `max_query_size` setting): {MAX_QUERY_SIZE} bytes."
        ),
    )
}

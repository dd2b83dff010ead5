//! A request on its way through the engine, and the connections that it takes for its statements.

use std::sync::Arc;

use crate::access::model::DEFAULT_USER;
use crate::access::session::UserSession;
use crate::connections::ConnectionKey;
use crate::core::{Core, OpenGuard};
use crate::exception::{Exception, code};
use crate::http::request::Request;
use crate::libchdb::{Connection, QueryClass};
use crate::output::{Failure, Format, OutputWriter};
use crate::running::Running;
use crate::sql::statement::Statement;

/// A request whose user is known and whose place among the running ones is taken.
pub(crate) struct Job {
    pub(crate) core: Arc<Core>,
    pub(crate) request: Request,
    pub(crate) session: Arc<UserSession>,
    pub(crate) running: Arc<Running>,
    /// Where a SELECT's output goes while it runs; nothing where all of it waits for the end.
    pub(crate) output: Option<OutputWriter>,
}

impl Job {
    pub(crate) fn is_of_default_user(&self) -> bool {
        self.session.user == DEFAULT_USER
    }

    /// The database of names without one.
    pub(crate) fn database(&self) -> String {
        let asked = self.request.database.clone();
        asked
            .filter(|database| !database.is_empty())
            .or_else(|| self.session.default_database.clone())
            .unwrap_or_else(|| "default".to_owned())
    }

    /// The answer's format. libchdb has more than those of a server, whose output is no bytes but
    /// pointers into its memory.
    pub(crate) fn format(&self, statement: &Statement<'_>) -> Result<Format, Exception> {
        let asked = statement.format();
        let name = asked
            .or_else(|| self.request.default_format.clone())
            .unwrap_or_else(|| "TabSeparated".to_owned());
        match self.core.info.content_type(&name) {
            Some(content_type) => Ok(Format {
                content_type: content_type.to_owned(),
                name,
            }),
            None => Err(Exception::new(
                code::UNKNOWN_FORMAT,
                format!("Unknown format {name}."),
            )),
        }
    }

    /// What its connections are set up for.
    pub(crate) fn connection_key(&self) -> ConnectionKey {
        ConnectionKey {
            session: Arc::clone(&self.session),
            database: self.database(),
            read_only: self.request.read_only,
            settings: self.request.settings.clone(),
        }
    }

    /// Takes a connection for a statement, with those users as they are now that matter to it.
    pub(crate) fn on_connection<T>(
        &self,
        key: ConnectionKey,
        statement: &[u8],
        work: impl FnOnce(&mut Checkout<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let engine = self.core.enter_for(&self.session.user, statement)?;
        self.on_engine(&engine, key, work)
    }

    /// The same with other users as libchdb knows them, so that many statements in a row cost one
    /// opening.
    pub(crate) fn on_stale_connection<T>(
        &self,
        work: impl FnOnce(&mut Checkout<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let engine = self.core.enter_for(&self.session.user, b"")?;
        self.on_engine(&engine, self.connection_key(), work)
    }

    fn on_engine<T>(
        &self,
        engine: &OpenGuard<'_>,
        key: ConnectionKey,
        work: impl FnOnce(&mut Checkout<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.running.check()?;
        let mut marked = engine.checkout(&key).map_err(Failure::Early)?;
        self.running.enter(&marked.mark);
        let mut checkout = Checkout {
            job: self,
            connection: &mut marked.connection,
            is_reusable: false,
        };
        let result = work(&mut checkout);
        let is_reusable = checkout.is_reusable;
        self.running.leave();
        // A killed query may leave its kill to the next one; a statement that failed leaves its
        // connection in a state nobody vouches for.
        if is_reusable && !self.running.is_cancelled() && result.is_ok() {
            engine.give_back(key, marked);
        }
        result
    }
}

/// A connection in use.
pub(crate) struct Checkout<'a> {
    job: &'a Job,
    pub(crate) connection: &'a mut Connection,
    /// Whether nothing has altered its session.
    pub(crate) is_reusable: bool,
}

impl Checkout<'_> {
    /// Has ClickHouse's own parser say that a text is one statement, and of which kind. libchdb
    /// would run several, and takes what it cannot parse for an order to its command line.
    pub(crate) fn check(&mut self, text: &[u8]) -> Result<QueryClass, Exception> {
        let analysis = self.connection.classify(text);
        match analysis.statements {
            1 => {}
            // An insertion is parsed and nothing else, and says what is wrong.
            0 => {
                return Err(match self.connection.insert(text, "", &[]) {
                    Err(text) => Exception::parse(&text),
                    Ok(_) => Exception::new(code::SYNTAX_ERROR, "Syntax error."),
                });
            }
            _ => {
                return Err(Exception::new(
                    code::SYNTAX_ERROR,
                    "Syntax error (Multi-statements are not allowed).",
                ));
            }
        }
        self.is_reusable = analysis.class == QueryClass::ReadOnly;
        Ok(analysis.class)
    }

    /// Runs a statement and gives its output.
    pub(crate) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
    ) -> Result<crate::libchdb::Output, Exception> {
        self.connection
            .query(sql, format, &self.job.request.parameters)
            .map_err(|text| Exception::parse(&text))
    }
}

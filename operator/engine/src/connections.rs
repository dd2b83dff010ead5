//! Connections to the open engine: each set up for one user, database and set of settings, and
//! used again only for exactly the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::access::session::UserSession;
use crate::control::MARK_SETTING;
use crate::exception::Exception;
use crate::libchdb::{Api, Connection};
use crate::sql::quote::{Identifier, Literal};

/// How many idle connections are kept, over all users.
const MAX_IDLE: usize = 256;

/// What a connection is set up for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionKey {
    pub(crate) session: Arc<UserSession>,
    pub(crate) database: String,
    /// As for GET: nothing may be changed, settings aside.
    pub(crate) read_only: bool,
    pub(crate) settings: Vec<(String, String)>,
}

impl ConnectionKey {
    /// Has an INSERT carry the settings itself that have another value each time: a connection that is
    /// set up for one would never be used again.
    pub(crate) fn extract_changing_settings(&mut self, insert: &[u8]) -> Vec<u8> {
        let changing = |(name, _): &mut (String, String)| name == "insert_deduplication_token";
        let changing: Vec<_> = self.settings.extract_if(.., changing).collect();
        if changing.is_empty() {
            return insert.to_vec();
        }
        [insert, b" SETTINGS ", assignments(&changing).as_bytes()].concat()
    }
}

/// An open engine.
pub(crate) struct OpenEngine {
    api: &'static Api,
    arguments: Vec<String>,
    idle: Mutex<Idle>,
    next_mark: AtomicU64,
}

#[derive(Default)]
struct Idle {
    connections: HashMap<ConnectionKey, Vec<MarkedConnection>>,
    count: usize,
}

/// A connection and its mark in `system.processes`.
pub(crate) struct MarkedConnection {
    pub(crate) connection: Connection,
    pub(crate) mark: String,
}

impl OpenEngine {
    /// `arguments` are those that boot the engine.
    pub(crate) fn new(api: &'static Api, arguments: Vec<String>) -> Self {
        Self {
            api,
            arguments,
            idle: Mutex::default(),
            next_mark: AtomicU64::new(0),
        }
    }

    /// Takes an idle connection or makes a new one.
    pub(crate) fn checkout(&self, key: &ConnectionKey) -> Result<MarkedConnection, Exception> {
        if let Some(connection) = self.take_idle(key) {
            return Ok(connection);
        }
        self.connect(key)
    }

    /// Gives a connection back that ran nothing but a plain query to its end.
    pub(crate) fn give_back(&self, key: ConnectionKey, connection: MarkedConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.count >= MAX_IDLE {
            // Somebody's old connections make room; who needs them makes new ones.
            let victim = idle.connections.keys().next().cloned();
            if let Some(dropped) = victim.and_then(|key| idle.connections.remove(&key)) {
                idle.count -= dropped.len();
            }
        }
        idle.count += 1;
        idle.connections.entry(key).or_default().push(connection);
    }

    fn take_idle(&self, key: &ConnectionKey) -> Option<MarkedConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.connections.get_mut(key)?;
        let connection = connections.pop();
        if connections.is_empty() {
            idle.connections.remove(key);
        }
        if connection.is_some() {
            idle.count -= 1;
        }
        connection
    }

    fn connect(&self, key: &ConnectionKey) -> Result<MarkedConnection, Exception> {
        let session = &key.session;
        let number = self.next_mark.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}:{number}", session.helper_role);

        let mut arguments = self.arguments.clone();
        let mut set = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
        // A server's defaults, where libchdb has those of a command line.
        set("implicit_select", "0");
        set("allow_introspection_functions", "0");
        // Each query would start and join threads for it; blocks are formatted
        // one by one while they stream, so nothing is gained.
        set("output_format_parallel_formatting", "0");
        set(MARK_SETTING, &mark);
        if let Some(definer) = &session.definer {
            set("default_view_definer", definer);
        }
        for (name, value) in &session.values {
            set(name, value);
        }
        let Some(mut connection) = self.api.connect(&arguments) else {
            return Err(Exception::new(
                crate::exception::code::LOGICAL_ERROR,
                "libchdb refused a new connection.",
            ));
        };
        for statement in setup(key) {
            connection
                .query(statement.as_bytes(), "Null", &[])
                .map_err(|text| Exception::parse(&text).for_user(&session.user))?;
        }
        Ok(MarkedConnection { connection, mark })
    }
}

/// The statements that turn a fresh connection, which may do everything, into
/// one of the user: the order is from what the user may not do to what he asks.
fn setup(key: &ConnectionKey) -> Vec<String> {
    let session = &key.session;
    let mut statements = Vec::new();
    if key.database != "default" {
        statements.push(format!("USE {}", Identifier(&key.database)));
    }
    if let Some(profile) = &session.profile {
        // Brings the constraints. Its values do not stick in libchdb, which
        // is why they came as arguments.
        statements.push(format!("SET profile = {}", Literal(profile)));
    }
    let roles: Vec<String> = std::iter::once(&session.helper_role)
        .chain(&session.roles)
        .map(|role| Identifier(role).to_string())
        .collect();
    statements.push(format!("SET ROLE {}", roles.join(", ")));

    let read_only = match session.readonly {
        0 if key.read_only => 2,
        level => level,
    };
    if read_only != 0 {
        statements.push(format!("SET readonly = {read_only}"));
    }
    if !key.settings.is_empty() {
        statements.push(format!("SET {}", assignments(&key.settings)));
    }
    statements
}

fn assignments<'a>(settings: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let assignments: Vec<String> = settings
        .into_iter()
        .map(|(name, value)| format!("{} = {}", Identifier(name), Literal(value)))
        .collect();
    assignments.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(settings: [(&str, &str); 2]) -> ConnectionKey {
        let session = UserSession {
            helper_role: "aviary-user-alice".to_owned(),
            profile: Some("limits".to_owned()),
            readonly: 2,
            roles: vec!["reader".to_owned()],
            ..UserSession::default()
        };
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        ConnectionKey {
            session: Arc::new(session),
            database: "d".to_owned(),
            read_only: true,
            settings: settings.to_vec(),
        }
    }

    #[test]
    fn limits_come_before_wishes() {
        assert_eq!(
            setup(&key([("max_threads", "2"), ("log_comment", "it's")])),
            [
                "USE `d`",
                "SET profile = 'limits'",
                "SET ROLE `aviary-user-alice`, `reader`",
                "SET readonly = 2",
                r"SET `max_threads` = '2', `log_comment` = 'it\'s'",
            ]
        );
    }

    #[test]
    fn an_insert_carries_its_token() {
        let mut key = key([("insert_deduplication_token", "a'b"), ("max_threads", "2")]);
        let insert = key.extract_changing_settings(b"INSERT INTO t");
        let expected = r"INSERT INTO t SETTINGS `insert_deduplication_token` = 'a\'b'";
        assert_eq!(String::from_utf8(insert).unwrap(), expected);
        assert_eq!(key.settings.len(), 1);
        assert_eq!(
            key.extract_changing_settings(b"INSERT INTO t"),
            b"INSERT INTO t"
        );
    }
}

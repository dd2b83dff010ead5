//! The engine's own connection: it keeps libchdb alive between queries, kills queries, and asks
//! the few things the engine wants to know itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::exception::Exception;
use crate::libchdb::Connection;
use crate::sql::quote::Literal;

/// The setting that carries a connection's mark. It names the table of PromQL
/// queries, which this engine does not serve, so it has no effect of its own.
pub(crate) const MARK_SETTING: &str = "promql_table";

/// A connection with all rights, absent while the engine is closed.
#[derive(Default)]
pub(crate) struct Control(Mutex<Option<Connection>>);

impl Control {
    pub(crate) fn set(&self, connection: Connection) {
        *self.lock() = Some(connection);
    }

    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    /// Ends what runs on the connection with this mark, if anything does.
    pub(crate) fn kill(&self, mark: &str) {
        let sql = format!(
            "KILL QUERY WHERE Settings['{MARK_SETTING}'] = {} ASYNC FORMAT Null",
            Literal(mark)
        );
        if let Err(exception) = self.ask(&sql) {
            tracing::warn!(%exception, "cannot kill a query");
        }
    }

    /// Runs a statement and returns its output as tab-separated text.
    pub(crate) fn ask(&self, sql: &str) -> Result<String, Exception> {
        let mut connection = self.lock();
        let Some(connection) = connection.as_mut() else {
            return Ok(String::new());
        };
        let output = connection
            .query(sql.as_bytes(), "TabSeparated", &[])
            .map_err(|text| Exception::parse(&text))?;
        Ok(String::from_utf8_lossy(output.as_ref()).into_owned())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

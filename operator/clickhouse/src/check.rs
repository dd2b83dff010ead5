//! Asks ClickHouse, as the tenant's reader, whether a pipe's SQL is right and
//! allowed, and what columns it gives. Nothing is read.

use crate::error::ClickHouseError;
use crate::replica::Replica;
use aviary_sql::{Identifier, Rendered};
use secrecy::SecretString;
use serde::Deserialize;

/// The login of a workspace's reader.
#[derive(Clone, Debug)]
pub struct ReaderCredentials {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// A column of a pipe's answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: String,
}

/// Why a pipe cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipeError {
    /// ClickHouse refuses the SQL.
    #[error("{0}")]
    Refused(ClickHouseError),
    /// The reader cannot log in: its password must be set again.
    #[error("{0}")]
    ReaderRefused(ClickHouseError),
    /// ClickHouse could not be asked.
    #[error("{0}")]
    NotAsked(ClickHouseError),
    /// The template renders to nothing that can be checked.
    #[error("the template has no rendering to check")]
    NothingToCheck,
}

impl Replica {
    /// Checks every rendering of a pipe and gives the columns of the last: it is
    /// the one with all parameters given.
    pub async fn check_pipe(
        &self,
        database: &Identifier,
        reader: &ReaderCredentials,
        renderings: &[Rendered],
    ) -> Result<Vec<ResultColumn>, PipeError> {
        let client = self
            .as_user(&reader.user, &reader.password)
            .with_database(database.as_str());
        let mut columns = None;
        for rendered in renderings {
            let sql = format!("DESCRIBE TABLE (\n{}\n)", rendered.sql);
            let mut query = client.query_raw(&sql);
            for (name, value) in &rendered.parameters {
                query = query.with_setting(format!("param_{name}"), value);
            }
            let found: Vec<ResultColumn> = self.rows(query).await.map_err(|error| match error {
                ClickHouseError::Authentication { .. } => PipeError::ReaderRefused(error),
                ClickHouseError::Refused { .. } if !error.is_transient() => {
                    PipeError::Refused(error)
                }
                _ => PipeError::NotAsked(error),
            })?;
            columns = Some(found);
        }
        columns.ok_or(PipeError::NothingToCheck)
    }
}

//! Asks ClickHouse, as the tenant's reader, whether a pipe's SQL is right and
//! allowed, and what columns it gives.
//!
//! By `EXPLAIN PLAN`: it checks rights and settings as the query itself would
//! (`DESCRIBE` does not) and reads nothing but scalar subqueries. The plan is left
//! unoptimized, because its root then has the names of the answer's columns.

use crate::error::ClickHouseError;
use crate::replica::Replica;
use aviary_sql::{Identifier, Rendered};
use secrecy::SecretString;
use serde::Deserialize;
use std::time::Duration;

/// The login of a workspace's reader.
#[derive(Clone, Debug)]
pub struct ReaderCredentials {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// What is to be checked of a pipe.
#[derive(Clone, Debug)]
pub struct PipeCheck {
    /// The workspace's database.
    pub database: Identifier,
    /// Who will run it.
    pub reader: ReaderCredentials,
    /// What its template renders to; the last with all parameters given.
    pub renderings: Vec<Rendered>,
}

/// A column of a pipe's answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ResultColumn {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
    /// Its type.
    #[serde(rename = "Type")]
    pub column_type: String,
}

#[derive(Deserialize)]
struct Explained {
    explain: String,
}

#[derive(Deserialize)]
struct QueryPlan {
    #[serde(rename = "Plan")]
    root: PlanNode,
}

#[derive(Deserialize)]
struct PlanNode {
    #[serde(rename = "Header", default)]
    header: Vec<ResultColumn>,
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
    /// The answer took longer than a statement may.
    #[error("ClickHouse could not check the SQL within {} s: look for a subquery that takes long", deadline.as_secs_f64())]
    Slow {
        /// How long it had.
        deadline: Duration,
    },
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
        PipeCheck {
            database,
            reader,
            renderings,
        }: &PipeCheck,
    ) -> Result<Vec<ResultColumn>, PipeError> {
        let reader = self
            .as_user(&reader.user, &reader.password)
            .map_err(PipeError::from)?;
        let mut columns = None;
        for rendered in renderings {
            let sql = format!(
                "EXPLAIN PLAN json = 1, header = 1, optimize = 0, description = 0\n{}",
                rendered.sql
            );
            let mut query = reader.query(&sql).with("database", database.as_str());
            for (name, value) in &rendered.parameters {
                query = query.with(format!("param_{name}"), value);
            }
            let rows: Vec<Explained> = self.rows(query).await.map_err(PipeError::from)?;
            columns = Some(self.columns(&rows)?);
        }
        columns.ok_or(PipeError::NothingToCheck)
    }

    fn columns(&self, rows: &[Explained]) -> Result<Vec<ResultColumn>, PipeError> {
        let lines: Vec<&str> = rows.iter().map(|row| row.explain.as_str()).collect();
        let plans: Vec<QueryPlan> = serde_json::from_str(&lines.join("\n")).map_err(|error| {
            PipeError::NotAsked(ClickHouseError::Malformed {
                replica: self.name().to_owned(),
                what: format!("the plan of a query: {error}"),
            })
        })?;
        let root = plans.into_iter().next().map(|plan| plan.root.header);
        Ok(root.unwrap_or_default())
    }
}

impl From<ClickHouseError> for PipeError {
    fn from(error: ClickHouseError) -> Self {
        match error {
            ClickHouseError::Authentication { .. } => Self::ReaderRefused(error),
            ClickHouseError::TimedOut { deadline, .. } | ClickHouseError::Slow { deadline } => {
                Self::Slow { deadline }
            }
            ClickHouseError::Refused { .. } if !error.is_transient() => Self::Refused(error),
            _ => Self::NotAsked(error),
        }
    }
}

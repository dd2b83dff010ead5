//! Brings expressions into ClickHouse's own spelling, by ClickHouse's own
//! formatter, so that a desired catalog compares with an observed one. What was
//! asked once is remembered: a pass over an unchanged workspace asks nothing.

use crate::error::ClickHouseError;
use crate::replica::Replica;
use aviary_plan::Catalog;
use aviary_plan::catalog::Expression;
use aviary_sql::StringLiteral;
use serde::Deserialize;

#[derive(Deserialize)]
struct Formatted {
    formatted: Vec<Option<String>>,
}

impl Replica {
    /// The catalog with the expressions of what is there to be compared with as this server
    /// would write them; what is not there is made as it was written. One query for all
    /// expressions that are new, none if there are none. What ClickHouse cannot parse stays
    /// as it is; the statement that uses it will be refused with ClickHouse's own words.
    pub async fn canonicalise(
        &self,
        desired: Catalog,
        observed: &Catalog,
    ) -> Result<Catalog, ClickHouseError> {
        let expressions = desired.expressions_beside(observed);
        let unknown = self.spellings.unknown(&expressions);
        if !unknown.is_empty() {
            self.learn(unknown).await?;
        }
        Ok(desired.canonicalised(&self.spellings.spellings(expressions)))
    }

    async fn learn(&self, unknown: Vec<Expression>) -> Result<(), ClickHouseError> {
        let probes: Vec<String> = unknown
            .iter()
            .map(|expression| StringLiteral(&expression.probe()).to_string())
            .collect();
        let sql = format!(
            "SELECT arrayMap(probe -> formatQuerySingleLineOrNull(probe), [{}]) AS formatted",
            probes.join(", ")
        );
        // The statement is as long as all expressions together.
        let query = self
            .query(&sql)
            .with("max_query_size", (sql.len() + 1024).to_string());
        let rows: Vec<Formatted> = self.rows(query).await?;
        let answers = rows.into_iter().flat_map(|row| row.formatted);
        let answers: Vec<Option<String>> = answers.collect();
        if answers.len() != unknown.len() {
            return Err(ClickHouseError::Malformed {
                replica: self.name().to_owned(),
                what: "expected one formatted text for each expression".to_owned(),
            });
        }
        let answers = unknown.into_iter().zip(answers);
        self.spellings.keep(answers.map(|(expression, answer)| {
            let spelling = answer.and_then(|formatted| expression.from_formatted(&formatted));
            (expression, spelling)
        }));
        Ok(())
    }
}

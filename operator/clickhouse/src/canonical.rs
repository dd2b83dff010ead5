//! Brings expressions into ClickHouse's own spelling, by ClickHouse's own
//! formatter, so that a desired catalog compares with an observed one. What was
//! asked once is remembered: a pass over an unchanged workspace asks nothing.

use crate::error::ClickHouseError;
use crate::replica::Replica;
use aviary_plan::Catalog;
use aviary_plan::catalog::Expression;
use aviary_sql::StringLiteral;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of spellings to remember; then the memory starts anew.
const REMEMBERED_BYTES: usize = 16 << 20;

/// Spellings already asked for.
#[derive(Clone, Default)]
pub(crate) struct Spellings(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    /// By the digest of the expression, since its text is as long as the spelling.
    known: BTreeMap<[u8; 32], Option<Box<str>>>,
    bytes: usize,
}

fn digest(expression: &Expression) -> [u8; 32] {
    Sha256::digest(format!("{expression:?}")).into()
}

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
        let unknown: Vec<Expression> = {
            let memory = self
                .spellings
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let is_new = |expression: &&Expression| !memory.known.contains_key(&digest(expression));
            expressions.iter().filter(is_new).cloned().collect()
        };
        if !unknown.is_empty() {
            self.learn(unknown).await?;
        }
        let memory = self
            .spellings
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let canonical = expressions
            .into_iter()
            .filter_map(|expression| {
                let spelling = memory.known.get(&digest(&expression))?.as_deref()?;
                let spelling = spelling.to_owned();
                Some((expression, spelling))
            })
            .collect();
        Ok(desired.canonicalised(&canonical))
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
        let mut memory = self
            .spellings
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if memory.bytes > REMEMBERED_BYTES {
            *memory = Memory::default();
        }
        for (expression, answer) in unknown.into_iter().zip(answers) {
            let spelling = answer.and_then(|formatted| expression.from_formatted(&formatted));
            memory.bytes += spelling.as_ref().map_or(0, String::len);
            let spelling = spelling.map(String::into_boxed_str);
            memory.known.insert(digest(&expression), spelling);
        }
        Ok(())
    }
}

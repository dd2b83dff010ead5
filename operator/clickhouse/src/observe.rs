//! Reads all that a workspace has in ClickHouse, and what the server can do, in
//! one query where the database is known to be there. Where it is not, nobody's
//! rights are asked for: the users are made anew with the database.

mod parse;
mod query;

use crate::error::ClickHouseError;
use crate::replica::Replica;
use aviary_plan::ServerFeatures;
use aviary_plan::catalog::{
    Catalog, Column, Database, Grant, Table, User, View, without_parentheses,
};
use aviary_plan::comment::Comment;
use aviary_plan::derived_names;
use aviary_sql::Identifier;
use aviary_sql::scanner::list_items;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Unknown function, identifier, table; syntax error.
const UNKNOWN_THINGS: [u32; 4] = [46, 47, 60, 62];

/// What was found on a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The workspace's objects.
    pub catalog: Catalog,
    /// What the server can do.
    pub server: ServerFeatures,
    /// Rows in quarantine, by data source.
    pub quarantined: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Line {
    kind: String,
    fields: Vec<Option<String>>,
}

impl Line {
    fn text(&self, index: usize) -> &str {
        self.optional(index).unwrap_or_default()
    }

    fn optional(&self, index: usize) -> Option<&str> {
        self.fields.get(index)?.as_deref()
    }

    fn flag(&self, index: usize) -> bool {
        self.text(index) == "1"
    }
}

impl Replica {
    /// Reads the database and, if it is there, the users that belong to it.
    pub async fn observe(&self, database: &Identifier) -> Result<Observed, ClickHouseError> {
        let known = self.server.known(database);
        let mut parts = query::catalog(database);
        if known.server.is_none() {
            parts.push(query::server());
        }
        if known.has_database {
            parts.extend(query::rights(database));
        }
        let mut lines = self.lines(&parts).await?;
        let is_there = lines.iter().any(|line| line.kind == "database");
        if is_there && !known.has_database {
            lines.extend(self.lines(&query::rights(database)).await?);
        }
        // ClickHouse gives the parts of a UNION ALL in any order.
        lines.sort_by_cached_key(|line| {
            let position = line.text(1).parse::<u64>().unwrap_or_default();
            (rank(&line.kind), line.text(0).to_owned(), position)
        });
        let mut observed = Observed {
            catalog: Catalog::empty(database.clone()),
            server: known.server.unwrap_or_default(),
            quarantined: BTreeMap::new(),
        };
        for line in &lines {
            self.take(&mut observed, line)?;
        }
        self.server.keep(database, is_there, &observed.server);
        Ok(observed)
    }

    async fn lines(&self, parts: &[String]) -> Result<Vec<Line>, ClickHouseError> {
        match self.rows(self.query(&parts.join(" UNION ALL "))).await {
            Err(ClickHouseError::Refused { code, message }) if UNKNOWN_THINGS.contains(&code) => {
                Err(self.too_old(code, &message).await)
            }
            answer => answer,
        }
    }

    /// Says so where a server lacks what workspaces need.
    async fn too_old(&self, code: u32, message: &str) -> ClickHouseError {
        match self.probe().await {
            Ok(health) => ClickHouseError::Refused {
                code,
                message: format!(
                    "version {} has not all that workspaces need: use a newer server ({message})",
                    health.version
                ),
            },
            Err(error) => error,
        }
    }

    fn take(&self, observed: &mut Observed, line: &Line) -> Result<(), ClickHouseError> {
        let Observed {
            catalog,
            server,
            quarantined,
        } = observed;
        match line.kind.as_str() {
            "server" => {
                *server = ServerFeatures {
                    version: line.text(0).to_owned(),
                    sql_security: line.flag(2),
                    replication: line.flag(3),
                    drop_limits: line.flag(4),
                };
            }
            "database" => {
                catalog.database = Some(Database {
                    comment: Comment::parse(line.text(2)),
                });
            }
            "table" => {
                self.take_table(catalog, line)?;
                let source = derived_names::source_of_quarantine(line.text(0));
                if let (Some(source), Ok(rows)) = (source, line.text(9).parse()) {
                    quarantined.insert(source.to_owned(), rows);
                }
            }
            "column" => take_column(catalog, line),
            "user" => {
                let user = User {
                    password_sha256: None,
                    by_password_hash: matches!(
                        line.text(2),
                        "sha256_password" | "['sha256_password']"
                    ),
                    settings: BTreeMap::new(),
                    grants: BTreeSet::new(),
                    roles: BTreeSet::new(),
                };
                catalog.users.insert(line.text(0).to_owned(), user);
            }
            "setting" | "grant" | "role" => take_right(catalog, line),
            _ => {}
        }
        Ok(())
    }

    fn take_table(&self, catalog: &mut Catalog, line: &Line) -> Result<(), ClickHouseError> {
        let name = line.text(0).to_owned();
        let malformed = |what: &str| ClickHouseError::Malformed {
            replica: self.name().to_owned(),
            what: format!("the definition of {name}: {what}"),
        };
        let comment = Comment::parse(line.text(7));
        if line.text(2) == "MaterializedView" {
            let head = parse::view_head(line.text(6)).unwrap_or_default();
            let view = View {
                target: head.target_in(catalog.name.as_str()),
                query: line.text(5).to_owned(),
                definer: head.definer,
                comment,
            };
            catalog.views.insert(name, view);
            return Ok(());
        }
        let clauses = parse::engine(line.text(8)).ok_or_else(|| malformed("its engine"))?;
        let table = Table {
            columns: Vec::new(),
            engine: clauses.engine,
            partition_key: without_parentheses(line.text(3)).to_owned(),
            sorting_key: list_items(line.text(4))
                .into_iter()
                .map(|part| without_parentheses(part).to_owned())
                .collect(),
            ttl: clauses.ttl,
            settings: clauses.settings,
            comment,
        };
        catalog.tables.insert(name, table);
        Ok(())
    }
}

fn take_column(catalog: &mut Catalog, line: &Line) {
    let Some(table) = catalog.tables.get_mut(line.text(0)) else {
        return;
    };
    let default = match line.text(4) {
        "" => String::new(),
        "DEFAULT" => without_parentheses(line.text(5)).to_owned(),
        kind => format!("{kind} {}", line.text(5)),
    };
    table.columns.push(Column {
        name: line.text(2).to_owned(),
        column_type: line.text(3).to_owned(),
        default,
        codec: parse::codec(line.text(6)),
        comment: line.text(7).to_owned(),
    });
}

fn take_right(catalog: &mut Catalog, line: &Line) {
    let Some(user) = catalog.users.get_mut(line.text(0)) else {
        return;
    };
    let owned = |index: usize| line.optional(index).map(str::to_owned);
    match line.kind.as_str() {
        // A setting's value and its bounds may come in lines of their own.
        "setting" => {
            let setting = user.settings.entry(line.text(2).to_owned()).or_default();
            setting.value = owned(3).or(setting.value.take());
            setting.minimum = owned(4).or(setting.minimum.take());
            setting.maximum = owned(5).or(setting.maximum.take());
            setting.constant |= matches!(line.text(6), "CONST" | "1");
        }
        "grant" => {
            user.grants.insert(Grant {
                access: line.text(2).to_owned(),
                database: owned(3),
                table: owned(4),
                column: owned(5),
                with_grant_option: line.flag(6),
                is_partial_revoke: line.flag(7),
            });
        }
        _ => {
            user.roles.insert(line.text(2).to_owned());
        }
    }
}

/// Tables before their columns, users before their rights.
fn rank(kind: &str) -> u8 {
    match kind {
        "server" | "database" => 0,
        "table" | "user" => 1,
        _ => 2,
    }
}

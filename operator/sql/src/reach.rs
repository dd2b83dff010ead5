//! What a tenant's query reaches beyond the tables of its workspace: tables of ClickHouse's own
//! databases, and functions that tell of the server.
//!
//! Other tenants' tables are kept by grants. Not every server has grants on its own tables, so
//! here a query is refused before it is published. Two readings have to agree that it is right:
//! the tables that the parser finds, and the plain sequence of tokens, which no syntax that the
//! parser does not know can hide.

use crate::dependencies::TableReference;
use crate::references;
use crate::scanner::{Token, TokenKind, significant_tokens};
use crate::system_tables::{SystemTable, system_table};

/// Something that a tenant's query must not use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// A table of the server.
    #[error(
        "`{database}.{name}` tells of the server and of other tenants: a pipe reads the data sources of its workspace"
    )]
    Table {
        /// `system` or `information_schema`, as it is written.
        database: String,
        /// The table.
        name: String,
    },
    /// A function that tells of the server, or reads tables by a name that is not seen here.
    #[error("the function `{0}` tells of the server or reaches beyond the workspace: leave it out")]
    Function(String),
    /// The database of `merge`.
    #[error("`merge` takes one argument here, a pattern for tables of the workspace")]
    Merge,
    /// A name that each request chooses.
    #[error(
        "`{{{0}:Identifier}}` would let a request choose the table: write the name, or choose with {{% if %}}"
    )]
    ChosenName(String),
    /// A statement in the place of a table that is no query.
    #[error("`{0}` cannot stand in the place of a table: write a SELECT")]
    Statement(String),
}

/// Functions, in lower case, that no grant keeps from a user on every version.
const CLOSED_FUNCTIONS: [&str; 30] = [
    "addresstoline",
    "addresstolinewithinlines",
    "addresstosymbol",
    "buildid",
    "catboostevaluate",
    "cluster",
    "clusterallreplicas",
    "eval",
    "filesystem",
    "filesystemavailable",
    "filesystemcapacity",
    "filesystemunreserved",
    "fqdn",
    "getclienthttpheader",
    "getmacro",
    "getoskernelversion",
    "getserverport",
    "getserversetting",
    "hostname",
    "loop",
    "mergetreeanalyzeindexes",
    "mergetreeanalyzeindexesuuid",
    "mergetreeindex",
    "mergetreeprojection",
    "mergetreetextindex",
    "remote",
    "remotesecure",
    "serveruuid",
    "showcertificate",
    "tcpport",
];

/// Finds what a query must not use; the query is a rendering of a template.
pub fn check_reach(sql: &str) -> Result<(), ReachError> {
    let found = references(sql);
    for table in found.tables.iter().chain(&found.possible_tables) {
        check_table(table)?;
    }
    let tokens = significant_tokens(sql);
    (0..tokens.len()).try_for_each(|at| {
        Ahead {
            sql,
            rest: &tokens[at..],
        }
        .check()
    })
}

fn check_table(table: &TableReference) -> Result<(), ReachError> {
    let Some(database) = &table.database else {
        return Ok(());
    };
    let may_read = if database.eq_ignore_ascii_case("system") {
        let kind = system_table(&table.name);
        matches!(kind, Some(SystemTable::Harmless | SystemTable::OwnRows))
    } else {
        !database.eq_ignore_ascii_case("information_schema")
    };
    if may_read {
        return Ok(());
    }
    Err(ReachError::Table {
        database: database.clone(),
        name: table.name.clone(),
    })
}

/// Looks at the tokens from one on.
struct Ahead<'a> {
    sql: &'a str,
    rest: &'a [Token],
}

impl Ahead<'_> {
    fn check(&self) -> Result<(), ReachError> {
        self.check_name()?;
        self.check_call()?;
        self.check_placeholder()?;
        self.check_statement()
    }

    /// A known table of the server, wherever it stands. A column that is found in another column
    /// named `system` may be meant, and has to be written with the table's name before it.
    fn check_name(&self) -> Result<(), ReachError> {
        let (Some(database), true, Some(name)) = (self.name(0), self.is(1, '.'), self.name(2))
        else {
            return Ok(());
        };
        let is_known = system_table(&name).is_some() || !database.eq_ignore_ascii_case("system");
        if is_known {
            check_table(&TableReference::qualified(database, name))
        } else {
            Ok(())
        }
    }

    fn check_call(&self) -> Result<(), ReachError> {
        let (Some(name), true) = (self.name(0), self.is(1, '(')) else {
            return Ok(());
        };
        let lower_case = name.to_ascii_lowercase();
        if CLOSED_FUNCTIONS.contains(&lower_case.as_str()) {
            return Err(ReachError::Function(name));
        }
        if lower_case == "merge" && self.has_several_arguments() {
            return Err(ReachError::Merge);
        }
        Ok(())
    }

    fn has_several_arguments(&self) -> bool {
        let mut depth = 0_usize;
        for token in &self.rest[1..] {
            match token.kind {
                TokenKind::Symbol('(' | '[' | '{') => depth += 1,
                TokenKind::Symbol(')' | ']' | '}') => depth = depth.saturating_sub(1),
                TokenKind::Symbol(',') if depth == 1 => return true,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        false
    }

    fn check_placeholder(&self) -> Result<(), ReachError> {
        let is_placeholder = self.is(0, '{') && self.is(2, ':') && self.is_keyword(3, "Identifier");
        match self.name(1) {
            Some(name) if is_placeholder => Err(ReachError::ChosenName(name)),
            _ => Ok(()),
        }
    }

    fn check_statement(&self) -> Result<(), ReachError> {
        let statements = ["EXPLAIN", "SHOW", "DESCRIBE"];
        let is_statement = self.is(0, '(')
            && statements.iter().any(|word| self.is_keyword(1, word))
            && self.name(2).is_some();
        match self.name(1) {
            Some(word) if is_statement => Err(ReachError::Statement(word)),
            _ => Ok(()),
        }
    }

    fn name(&self, at: usize) -> Option<String> {
        self.rest.get(at)?.name(self.sql)
    }

    fn is(&self, at: usize, symbol: char) -> bool {
        let token = self.rest.get(at);
        token.is_some_and(|token| token.kind == TokenKind::Symbol(symbol))
    }

    fn is_keyword(&self, at: usize, word: &str) -> bool {
        let token = self.rest.get(at);
        token.is_some_and(|token| token.is_keyword(self.sql, word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tenant_may_use() {
        for sql in [
            "SELECT 1",
            "SELECT * FROM sales JOIN other.ledger USING id",
            "SELECT number FROM system.numbers LIMIT 3",
            "SELECT name FROM system.columns",
            "SELECT * FROM numbers(10)",
            "SELECT * FROM merge('^sales_')",
            "SELECT * FROM merge(concat('a', 'b'))",
            "SELECT system.cpu FROM readings",
            "SELECT 'system.errors' FROM sales -- FROM system.errors",
            "SELECT hostname, file, explain FROM visits WHERE (show = 1)",
            "SELECT {p_x:String}, {p_y:Array(Int32)}",
        ] {
            assert_eq!(check_reach(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_a_tenant_may_not_use() {
        for sql in [
            "SELECT * FROM system.errors",
            "SELECT * FROM `system`.\"query_log\"",
            "SELECT * FROM system /* here */ . errors",
            r"SELECT * FROM `sys\x74em`.errors",
            r"SELECT `hostN\x61me`()",
            "SELECT * FROM system.a_table_of_the_next_version",
            "SELECT * FROM INFORMATION_SCHEMA.tables",
            "SELECT * FROM information_schema.COLUMNS",
            "SELECT 1 WHERE 'x' IN (SELECT last_error_message FROM system.errors)",
            "SELECT 1 WHERE 1 IN system.errors",
            "SELECT * FROM a, system.processes",
            "WITH e AS (SELECT * FROM system.errors) SELECT * FROM e",
            "SELECT * FROM view(SELECT * FROM system.errors)",
            "SELECT * FROM viewIfPermitted(SELECT * FROM system.errors ELSE null('x Int8'))",
            "SELECT dictGet('system.dictionaries', 'x', 1)",
            "SELECT dictGet(system.dictionaries, 'x', 1)",
            "SELECT * FROM merge('system', '.*')",
            "SELECT * FROM merge(currentDatabase(), '.*')",
            "SELECT * FROM merge(REGEXP('.*'), 'errors')",
            "SELECT * FROM loop('system', 'errors')",
            "SELECT * FROM loop(system.errors)",
            "SELECT * FROM remote('127.0.0.1', 'system', 'errors')",
            "SELECT * FROM clusterAllReplicas('default', 'system', 'errors')",
            "SELECT * FROM mergeTreeIndex('system', 'query_log')",
            "SELECT hostName()",
            "SELECT getServerSetting('max_connections')",
            "SELECT getClientHTTPHeader('Authorization') SETTINGS allow_get_client_http_header = 1",
            "SELECT * FROM {p_database:Identifier}.{p_table:Identifier}",
            "SELECT * FROM (EXPLAIN SELECT 1)",
            "SELECT * FROM (SHOW TABLES FROM system)",
            "SELECT * FROM (DESCRIBE sales)",
        ] {
            assert!(check_reach(sql).is_err(), "{sql}");
        }
    }
}

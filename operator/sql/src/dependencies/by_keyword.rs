//! Finds table names by the words before them, for statements that the parser
//! does not understand. It knows nothing of scopes and expressions: a name that
//! any WITH gives is taken to mean that everywhere.

use std::collections::BTreeSet;

use super::references::{References, TableReference, named, names_a_table_first};
use crate::scanner::{Token, TokenKind, significant_tokens};

/// What the statement seems to refer to.
pub(super) fn references(sql: &str) -> References {
    let tokens = significant_tokens(sql);
    let statement = Statement {
        sql,
        tokens: &tokens,
    };
    let given_names = statement.given_names();
    let mut found = References::default();
    let mut expects_source = false;
    for (index, token) in tokens.iter().enumerate() {
        if expects_source {
            statement.source(index, &mut found);
        }
        expects_source = token.is_keyword(sql, "FROM")
            || token.is_keyword(sql, "JOIN") && !statement.is_array_join(index);
        if token.kind == TokenKind::Word && statement.is_symbol(index + 1, '(') {
            statement.named_argument(index, &mut found);
        }
        if token.is_keyword(sql, "IN") {
            found
                .possible_tables
                .extend(statement.name_at(index + 1).map(|(name, _)| name));
        }
    }
    let is_free =
        |table: &TableReference| table.database.is_some() || !given_names.contains(&table.name);
    found.tables.retain(is_free);
    found.possible_tables.retain(is_free);
    found.own_names = given_names;
    found
}

struct Statement<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl Statement<'_> {
    fn is_symbol(&self, index: usize, symbol: char) -> bool {
        self.tokens
            .get(index)
            .is_some_and(|token| token.kind == TokenKind::Symbol(symbol))
    }

    fn is_keyword(&self, index: usize, keyword: &str) -> bool {
        self.tokens
            .get(index)
            .is_some_and(|token| token.is_keyword(self.sql, keyword))
    }

    fn is_array_join(&self, index: usize) -> bool {
        index > 0 && self.is_keyword(index - 1, "ARRAY")
    }

    /// Names in `name AS (SELECT ...)` and `name AS (WITH ...)`.
    fn given_names(&self) -> BTreeSet<String> {
        (0..self.tokens.len())
            .filter(|&index| {
                self.is_keyword(index + 1, "AS")
                    && self.is_symbol(index + 2, '(')
                    && (self.is_keyword(index + 3, "SELECT") || self.is_keyword(index + 3, "WITH"))
            })
            .filter_map(|index| self.tokens[index].name(self.sql))
            .collect()
    }

    /// A name, or two with a dot between, and the index after it.
    fn name_at(&self, index: usize) -> Option<(TableReference, usize)> {
        let first = self.tokens.get(index)?.name(self.sql)?;
        if !self.is_symbol(index + 1, '.') {
            return Some((TableReference::unqualified(first), index + 1));
        }
        let second = self.tokens.get(index + 2)?.name(self.sql)?;
        Some((TableReference::qualified(first, second), index + 3))
    }

    /// `dictGet('name', ...)` and its kin.
    fn named_argument(&self, index: usize, found: &mut References) {
        let function = self.tokens[index].text(self.sql).to_ascii_lowercase();
        if !names_a_table_first(&function) {
            return;
        }
        let argument = self.tokens.get(index + 2);
        let text = argument.and_then(|token| token.string(self.sql));
        found.tables.extend(text.as_deref().map(named));
    }

    /// What is read from after FROM or JOIN, and after the commas that follow.
    fn source(&self, index: usize, found: &mut References) {
        let mut start = Some(index);
        while let Some((name, next)) = start.and_then(|start| self.name_at(start)) {
            if self.is_symbol(next, '(') {
                found.table_functions.insert(name.name);
                return;
            }
            found.tables.insert(name);
            let comma = self.after_alias(next);
            start = self.is_symbol(comma, ',').then_some(comma + 1);
        }
    }

    /// The index behind `[AS] alias` and `FINAL`, where these follow a table.
    fn after_alias(&self, index: usize) -> usize {
        const NO_ALIAS: [&str; 22] = [
            "ANY",
            "ARRAY",
            "ASOF",
            "CROSS",
            "EXCEPT",
            "FULL",
            "GLOBAL",
            "GROUP",
            "HAVING",
            "INNER",
            "INTERSECT",
            "JOIN",
            "LEFT",
            "LIMIT",
            "OFFSET",
            "ORDER",
            "PREWHERE",
            "RIGHT",
            "SELECT",
            "SETTINGS",
            "UNION",
            "WHERE",
        ];
        let alias = index + usize::from(self.is_keyword(index, "AS"));
        let is_alias = self
            .tokens
            .get(alias)
            .is_some_and(|token| token.name(self.sql).is_some())
            && !NO_ALIAS.iter().any(|word| self.is_keyword(alias, word));
        let next = alias + usize::from(is_alias);
        next + usize::from(self.is_keyword(next, "FINAL"))
    }
}

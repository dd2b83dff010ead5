//! Which tables a SELECT reads. Used for the order in which things are made and
//! for reports; never for isolation, which ClickHouse's grants enforce.
//!
//! A full parser answers where it can. It is one of several for ClickHouse's
//! dialect, and nothing of it shows outside of this file, so it can be exchanged.
//! Where it does not understand a statement, `by_keyword` looks for the
//! words after FROM and JOIN.

use std::collections::BTreeSet;

use polyglot_sql::{
    ComplexityGuardOptions, DialectType, Expression, ExpressionWalk, ParseOptions,
    expressions::{Column, Cte, Function, In, Join, JoinKind, TableRef, With},
    parse_one_with_options,
};

mod by_keyword;
mod references;
#[cfg(test)]
mod tests;

pub use references::{References, TableReference};

use references::{named, names_a_table_first};

/// The tables that a SELECT reads.
pub fn table_references(sql: &str) -> BTreeSet<TableReference> {
    references(sql).tables
}

/// The table functions that a SELECT calls.
pub fn table_functions(sql: &str) -> BTreeSet<String> {
    references(sql).table_functions
}

/// All that a SELECT refers to.
pub fn references(sql: &str) -> References {
    match parse(sql) {
        Some(statement) => {
            let mut visitor = Visitor::default();
            visitor.visit(&statement);
            visitor.found
        }
        None => by_keyword::references(sql),
    }
}

fn parse(sql: &str) -> Option<Expression> {
    // What tenants write must not exhaust the operator. Everything here is far
    // beyond what a statement for reading data needs.
    let guard = ComplexityGuardOptions {
        max_input_bytes: Some(2 << 20),
        max_tokens: Some(200_000),
        max_ast_nodes: Some(400_000),
        max_ast_depth: Some(256),
        max_parenthesis_depth: Some(128),
        max_parser_depth: Some(512),
        ..ComplexityGuardOptions::default()
    };
    let options = ParseOptions {
        complexity_guard: Some(guard),
    };
    let statement = parse_one_with_options(sql, DialectType::ClickHouse, &options).ok()?;
    let is_unread = |part: &Expression| matches!(part, Expression::Command(_) | Expression::Raw(_));
    (!statement.contains(is_unread)).then_some(statement)
}

/// Walks a statement and keeps the names that WITH clauses give.
#[derive(Default)]
struct Visitor {
    found: References,
    /// Names of subqueries in the WITH clauses around the current place. A name
    /// may stand there more than once.
    scope: Vec<String>,
}

impl Visitor {
    fn visit(&mut self, expression: &Expression) {
        let with = with_of(expression);
        let outer = self.scope.len();
        if let Some(with) = with {
            self.enter(with);
        }
        self.note(expression);
        for child in expression.children() {
            let in_with = with.is_some_and(|with| is_body_of(with, child));
            if !in_with {
                self.visit(child);
            }
        }
        self.scope.truncate(outer);
    }

    /// Makes the names of a WITH clause known and visits its subqueries.
    ///
    /// ClickHouse lets a subquery see those before and after it. Its own name
    /// means the table outside of it, except with RECURSIVE.
    fn enter(&mut self, with: &With) {
        let names = with
            .ctes
            .iter()
            .filter(|cte| names_a_query(cte))
            .map(|cte| cte.alias.name.clone());
        let first = self.scope.len();
        self.scope.extend(names);
        let given = self.scope[first..].iter().cloned();
        self.found.own_names.extend(given);
        for cte in &with.ctes {
            let own = self.scope[first..]
                .iter()
                .position(|name| *name == cte.alias.name)
                .filter(|_| !with.recursive && names_a_query(cte));
            let hidden = own.map(|index| std::mem::take(&mut self.scope[first + index]));
            self.visit(&cte.this);
            if let (Some(index), Some(name)) = (own, hidden) {
                self.scope[first + index] = name;
            }
        }
    }

    fn note(&mut self, expression: &Expression) {
        match expression {
            Expression::Table(table) => self.note_table(table),
            Expression::In(membership) => self.note_membership(membership),
            Expression::Function(function) => self.note_function(function),
            Expression::Select(select) => {
                let from = select.from.iter().flat_map(|from| &from.expressions);
                let joined = select
                    .joins
                    .iter()
                    .filter(|join| reads_a_source(join))
                    .map(|join| &join.this);
                for source in from.chain(joined) {
                    self.note_source(source);
                }
            }
            _ => {}
        }
    }

    fn note_table(&mut self, table: &TableRef) {
        let database = table.schema.as_ref().map(|schema| schema.name.clone());
        if let Some(reference) = self.free(database, &table.name.name) {
            self.found.tables.insert(reference);
        }
    }

    /// A function in place of a table.
    fn note_source(&mut self, source: &Expression) {
        match source {
            Expression::Alias(alias) => self.note_source(&alias.this),
            Expression::Function(function) => {
                self.found.table_functions.insert(function.name.clone());
            }
            _ => {}
        }
    }

    fn note_membership(&mut self, membership: &In) {
        if let [Expression::Column(column)] = membership.expressions.as_slice() {
            self.note_possible_table(column);
        }
    }

    fn note_possible_table(&mut self, column: &Column) {
        let database = column.table.as_ref().map(|table| table.name.clone());
        if let Some(reference) = self.free(database, &column.name.name) {
            self.found.possible_tables.insert(reference);
        }
    }

    /// Functions that take a table or dictionary by name.
    fn note_function(&mut self, function: &Function) {
        let name = function.name.to_ascii_lowercase();
        match (name.as_str(), function.args.as_slice()) {
            ("in" | "notin" | "globalin" | "globalnotin", [_, Expression::Column(column)]) => {
                self.note_possible_table(column);
            }
            (name, [first, ..]) if names_a_table_first(name) => self.note_named(first),
            _ => {}
        }
    }

    fn note_named(&mut self, argument: &Expression) {
        let reference = match argument {
            Expression::Literal(literal) if literal.is_string() => named(literal.value_str()),
            Expression::Column(column) => TableReference {
                database: column.table.as_ref().map(|table| table.name.clone()),
                name: column.name.name.clone(),
            },
            _ => return,
        };
        self.found.tables.insert(reference);
    }

    /// The reference, unless a WITH clause gives the name its meaning.
    fn free(&self, database: Option<String>, name: &str) -> Option<TableReference> {
        let is_bound = database.is_none() && self.scope.iter().any(|known| known == name);
        (!is_bound && !name.is_empty()).then(|| TableReference {
            database,
            name: name.to_owned(),
        })
    }
}

/// ARRAY JOIN takes columns, every other join takes something to read from.
fn reads_a_source(join: &Join) -> bool {
    !matches!(join.kind, JoinKind::Array | JoinKind::LeftArray)
}

fn with_of(expression: &Expression) -> Option<&With> {
    match expression {
        Expression::Select(select) => select.with.as_ref(),
        Expression::Union(union) => union.with.as_ref(),
        Expression::Intersect(intersect) => intersect.with.as_ref(),
        Expression::Except(except) => except.with.as_ref(),
        _ => None,
    }
}

fn is_body_of(with: &With, expression: &Expression) -> bool {
    with.ctes
        .iter()
        .any(|cte| std::ptr::eq(&raw const cte.this, expression))
}

/// `WITH (SELECT 1) AS x` gives a name to a value, `WITH x AS (SELECT 1)` to a
/// query, which alone can be read from.
fn names_a_query(cte: &Cte) -> bool {
    cte.alias_first
}

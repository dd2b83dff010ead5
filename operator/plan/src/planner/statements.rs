//! The SQL of each step. Names and texts go through quoting types; expressions
//! that people wrote were checked by [`crate::expression_guard`] and stand in
//! parentheses wherever the grammar lets them.

use super::step::{Action, ColumnPart, Step};
use crate::catalog::{Column, Grant, Setting, Table, TableEngine, User, View, identifier, quoted};
use crate::comment::Comment;
use crate::statement::Statement;
use aviary_sql::{QualifiedName, StringLiteral};
use std::collections::BTreeMap;

impl Step {
    /// The statements, in order.
    pub fn statements(&self) -> Vec<Statement> {
        of(self)
    }
}

fn of(step: &Step) -> Vec<Statement> {
    let database = &step.database;
    let full = |name: &str| QualifiedName::new(database.clone(), identifier(name)).to_string();
    let statement = match &step.action {
        // Not IF NOT EXISTS: of two that want the name, one must learn that it came too late.
        Action::CreateDatabase { database: made } => format!(
            "CREATE DATABASE {database} COMMENT {}",
            comment_literal(&made.comment)
        ),
        Action::CommentDatabase { comment } | Action::ReleaseDatabase { comment } => format!(
            "ALTER DATABASE {database} MODIFY COMMENT {}",
            comment_literal(comment)
        ),
        // What a user of this name had is not known where there was no database, and must
        // not be known: it goes, so that there is no right that nobody asked for.
        Action::CreateUser { name, user } => {
            return vec![user_statement("CREATE USER OR REPLACE", name, user)];
        }
        Action::AlterUser { name, user } => {
            return vec![user_statement("ALTER USER", name, user)];
        }
        Action::Grant { user, grants } => {
            let rights: Vec<String> = grants.iter().map(privilege).collect();
            format!("GRANT {} TO {}", rights.join(", "), quoted(user))
        }
        // The row in system.grants that takes part of a right away goes by granting it.
        Action::Revoke { user, grant } if grant.is_partial_revoke => {
            format!("GRANT {} TO {}", privilege(grant), quoted(user))
        }
        Action::Revoke { user, grant } => {
            format!("REVOKE {} FROM {}", privilege(grant), quoted(user))
        }
        Action::RevokeRole { user, role } => {
            format!("REVOKE {} FROM {}", quoted(role), quoted(user))
        }
        Action::CreateTable { name, table } => {
            create_table("CREATE TABLE IF NOT EXISTS", &full(name), table)
        }
        Action::ReplaceLanding { name, table } => {
            create_table("CREATE OR REPLACE TABLE", &full(name), table)
        }
        Action::AddColumns { table, columns } => {
            let added: Vec<String> = columns
                .iter()
                .map(|(column, after)| {
                    let place = match after {
                        Some(after) => format!("AFTER {}", quoted(after)),
                        None => "FIRST".to_owned(),
                    };
                    format!("ADD COLUMN IF NOT EXISTS {} {place}", definition(column))
                })
                .collect();
            format!("ALTER TABLE {} {}", full(table), added.join(", "))
        }
        Action::AlterColumn {
            table,
            column,
            part,
        } => format!("ALTER TABLE {} {}", full(table), alteration(column, *part)),
        Action::ModifyTtl {
            table,
            ttl: Some(ttl),
        } => format!("ALTER TABLE {} MODIFY TTL {ttl}", full(table)),
        Action::ModifyTtl { table, ttl: None } => {
            format!("ALTER TABLE {} REMOVE TTL", full(table))
        }
        Action::ModifySettings { table, settings } => format!(
            "ALTER TABLE {} MODIFY SETTING {}",
            full(table),
            settings_list(settings)
        ),
        Action::CommentTable { name, comment } | Action::ReleaseTable { name, comment } => format!(
            "ALTER TABLE {} MODIFY COMMENT {}",
            full(name),
            comment_literal(comment)
        ),
        Action::CreateView { name, view } => create_view(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS",
            &full(name),
            &full(&view.target),
            view,
        ),
        // In one statement, or rows would pass by while there is no view.
        Action::ReplaceView { name, view } => create_view(
            "CREATE OR REPLACE MATERIALIZED VIEW",
            &full(name),
            &full(&view.target),
            view,
        ),
        Action::ModifyView { name, view } => {
            format!("ALTER TABLE {} MODIFY QUERY {}", full(name), view.query)
        }
        Action::DropView { name } => format!("DROP VIEW IF EXISTS {} SYNC", full(name)),
        Action::DropTable { name, .. } | Action::DropLanding { name } => {
            format!("DROP TABLE IF EXISTS {} SYNC", full(name))
        }
        Action::DropDatabase { .. } => format!("DROP DATABASE IF EXISTS {database} SYNC"),
        Action::DropUser { name } => format!("DROP USER IF EXISTS {}", quoted(name)),
    };
    vec![Statement::new(statement)]
}

fn create_table(verb: &str, name: &str, table: &Table) -> String {
    let columns: Vec<String> = table.columns.iter().map(definition).collect();
    let mut text = format!(
        "{verb} {name} ({}) ENGINE = {}",
        columns.join(", "),
        engine(&table.engine)
    );
    if !table.partition_key.is_empty() {
        text.push_str(&format!(" PARTITION BY ({})", table.partition_key));
    }
    if table.engine.family.ends_with("MergeTree") {
        let parts: Vec<String> = table.sorting_key.clone();
        text.push_str(&match parts.as_slice() {
            [] => " ORDER BY tuple()".to_owned(),
            [only] => format!(" ORDER BY ({only})"),
            _ => format!(" ORDER BY ({})", parts.join(", ")),
        });
    }
    if let Some(ttl) = &table.ttl {
        text.push_str(&format!(" TTL {ttl}"));
    }
    if !table.settings.is_empty() {
        text.push_str(&format!(" SETTINGS {}", settings_list(&table.settings)));
    }
    text.push_str(&format!(" COMMENT {}", comment_literal(&table.comment)));
    text
}

/// Names and values are our own, from [`crate::desired`].
fn settings_list(settings: &BTreeMap<String, String>) -> String {
    let each = settings
        .iter()
        .map(|(name, value)| format!("{name} = {value}"));
    each.collect::<Vec<_>>().join(", ")
}

/// `{replica}` and `{shard}` are macros that ClickHouse fills in.
fn engine(engine: &TableEngine) -> String {
    let mut arguments = engine.arguments.clone();
    let mut name = engine.family.clone();
    if let Some(path) = &engine.replication_path {
        name = format!("Replicated{name}");
        let replication = [
            StringLiteral(path).to_string(),
            StringLiteral("{replica}").to_string(),
        ];
        arguments.splice(0..0, replication);
    }
    if arguments.is_empty() {
        return name;
    }
    format!("{name}({})", arguments.join(", "))
}

fn definition(column: &Column) -> String {
    let mut text = format!("{} {}", quoted(&column.name), column.column_type);
    if !column.default.is_empty() {
        text.push_str(&format!(" DEFAULT ({})", column.default));
    }
    if !column.comment.is_empty() {
        text.push_str(&format!(" COMMENT {}", StringLiteral(&column.comment)));
    }
    if !column.codec.is_empty() {
        text.push_str(&format!(" CODEC({})", column.codec));
    }
    text
}

fn alteration(column: &Column, part: ColumnPart) -> String {
    let name = quoted(&column.name);
    match part {
        ColumnPart::Default if column.default.is_empty() => {
            format!("MODIFY COLUMN {name} REMOVE DEFAULT")
        }
        ColumnPart::Default => format!("MODIFY COLUMN {name} DEFAULT ({})", column.default),
        ColumnPart::Codec if column.codec.is_empty() => {
            format!("MODIFY COLUMN {name} REMOVE CODEC")
        }
        ColumnPart::Codec => format!("MODIFY COLUMN {name} CODEC({})", column.codec),
        ColumnPart::Comment => {
            format!("COMMENT COLUMN {name} {}", StringLiteral(&column.comment))
        }
    }
}

fn create_view(verb: &str, name: &str, target: &str, view: &View) -> String {
    let security = view.definer.as_ref().map_or_else(String::new, |definer| {
        format!(" DEFINER = {} SQL SECURITY DEFINER", quoted(definer))
    });
    format!(
        "{verb} {name} TO {target}{security} COMMENT {} AS {}",
        comment_literal(&view.comment),
        view.query
    )
}

fn user_statement(verb: &str, name: &str, user: &User) -> Statement {
    let mut text = format!("{verb} {}", quoted(name));
    if let Some(hash) = &user.password_sha256 {
        let hash = StringLiteral(hash.expose()).to_string();
        text.push_str(&format!(" IDENTIFIED WITH sha256_hash BY {hash}"));
    }
    let settings: Vec<String> = user
        .settings
        .iter()
        .map(|(name, setting)| setting_clause(name, setting))
        .collect();
    text.push_str(" SETTINGS ");
    text.push_str(&if settings.is_empty() {
        "NONE".to_owned()
    } else {
        settings.join(", ")
    });
    Statement::sensitive(text)
}

fn setting_clause(name: &str, setting: &Setting) -> String {
    let Setting {
        value,
        minimum,
        maximum,
        constant,
    } = setting;
    let mut text = quoted(name);
    if let Some(value) = value {
        text.push_str(&format!(" = {}", StringLiteral(value)));
    }
    if let Some(minimum) = minimum {
        text.push_str(&format!(" MIN {}", StringLiteral(minimum)));
    }
    if let Some(maximum) = maximum {
        text.push_str(&format!(" MAX {}", StringLiteral(maximum)));
    }
    if *constant {
        text.push_str(" CONST");
    }
    text
}

/// `SELECT(column) ON database.table`, with a star for what is not said.
fn privilege(grant: &Grant) -> String {
    let column = grant
        .column
        .as_ref()
        .map_or_else(String::new, |column| format!("({})", quoted(column)));
    let part = |name: &Option<String>| name.as_deref().map_or_else(|| "*".to_owned(), quoted);
    format!(
        "{}{column} ON {}.{}",
        grant.access,
        part(&grant.database),
        part(&grant.table)
    )
}

fn comment_literal(comment: &Comment) -> String {
    StringLiteral(&comment.to_string()).to_string()
}

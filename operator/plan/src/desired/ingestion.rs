//! What feeds a table: `<name>__landing` takes raw fields, `<name>__ingest` writes
//! the rows that convert to the table, `<name>__reject` all others to
//! `<name>_quarantine` with the reasons.
//!
//! Both views decide by one predicate, the second by its negation, so every row of
//! the landing ends in exactly one of the two tables. A gateway may say of a row in
//! `c__error` that one of them has it already (`aviary_crds::published::judged`).
//! Conversions stand in a
//! subquery under names with `c__`; above it only the columns' own names are
//! given, so that a default such as `a + 1` means the converted column `a`, and
//! messages are computed only for the rows that are left by the filter.

use super::replication::{deduplication, replication_path};
use super::server::ServerFeatures;
use crate::catalog::{Catalog, Column, Table, TableEngine, View, quoted};
use crate::comment::Comment;
use crate::conversion::{Complaint, Conversion, complaint, conversion};
use crate::derived_names;
use crate::model::{ValidColumn, ValidDataSource, WorkspaceModel};
use aviary_crds::published::judged;
use aviary_sql::StringLiteral;
use std::collections::BTreeMap;

/// Bytes of a value that a message shows; the whole value stands in its column.
const SHOWN_BYTES: usize = 200;

/// When a row came into quarantine: the first of these that is not a column of the data source,
/// whose columns cannot begin with `c__`.
const INSERTION_DATE: [&str; 2] = ["insertion_date", "c__insertion_date"];

pub(super) fn add(
    catalog: &mut Catalog,
    model: &WorkspaceModel,
    source: &ValidDataSource,
    server: &ServerFeatures,
    comment: &Comment,
) {
    let landing = derived_names::landing(&source.name);
    let quarantine = derived_names::quarantine(&source.name);
    let from = catalog.qualified(&landing).to_string();
    let definer = server.sql_security.then(|| model.writer.clone());
    let view = |target: &str, query: String| View {
        target: target.to_owned(),
        query,
        definer: definer.clone(),
        comment: comment.clone(),
    };
    let ingest = view(&source.name, ingest_query(&source.columns, &from));
    let reject = view(&quarantine, reject_query(&source.columns, &from));
    catalog
        .views
        .insert(derived_names::ingest(&source.name), ingest);
    catalog
        .views
        .insert(derived_names::reject(&source.name), reject);
    let path = replication_path(model, source, server, "_quarantine");
    let table = quarantine_table(source, path, comment.clone());
    catalog.tables.insert(quarantine, table);
    let table = landing_table(&source.columns, comment.clone());
    catalog.tables.insert(landing, table);
}

fn landing_table(columns: &[ValidColumn], comment: Comment) -> Table {
    let mut raw = raw_columns(columns);
    raw.extend(["c__row", "c__error", "c__import_id"].map(|name| plain(name, "String")));
    Table {
        columns: raw,
        engine: TableEngine {
            family: "Null".to_owned(),
            arguments: Vec::new(),
            replication_path: None,
        },
        partition_key: String::new(),
        sorting_key: Vec::new(),
        ttl: None,
        settings: BTreeMap::new(),
        comment,
    }
}

fn quarantine_table(
    source: &ValidDataSource,
    replication_path: Option<String>,
    comment: Comment,
) -> Table {
    let mut raw = raw_columns(&source.columns);
    let [usual, other] = INSERTION_DATE;
    let is_free = source.columns.iter().all(|column| column.name != usual);
    let insertion_date = if is_free { usual } else { other };
    raw.extend([
        plain("c__row", "String"),
        plain("c__error_column", "Array(String)"),
        plain("c__error", "Array(String)"),
        plain("c__import_id", "String"),
        Column {
            default: "now()".to_owned(),
            ..plain(insertion_date, "DateTime")
        },
    ]);
    Table {
        columns: raw,
        settings: deduplication(replication_path.as_deref()),
        engine: TableEngine {
            family: "MergeTree".to_owned(),
            arguments: Vec::new(),
            replication_path,
        },
        // A month that has expired as a whole goes without anything being rewritten.
        partition_key: format!("toYYYYMM({insertion_date})"),
        sorting_key: vec!["c__import_id".to_owned()],
        ttl: Some(source.quarantine_keep.after(insertion_date)),
        comment,
    }
}

fn raw_columns(columns: &[ValidColumn]) -> Vec<Column> {
    columns
        .iter()
        .map(|column| plain(&column.name, "Nullable(String)"))
        .collect()
}

fn plain(name: &str, column_type: &str) -> Column {
    Column {
        name: name.to_owned(),
        column_type: column_type.to_owned(),
        default: String::new(),
        codec: String::new(),
        comment: String::new(),
    }
}

/// A column in the queries: what it is called there and what it does.
struct Field<'a> {
    column: &'a ValidColumn,
    /// The text of the field, below.
    text: String,
    /// The converted value, below.
    value: String,
    /// The text of a composite value as JSON, and whether it is one, below.
    json: String,
    valid: String,
    conversion: Conversion,
}

impl<'a> Field<'a> {
    fn of(column: &'a ValidColumn) -> Self {
        let named = |what: &str| quoted(&format!("c__{what}_{}", column.name));
        let json = named("json");
        Self {
            text: named("text"),
            value: named("value"),
            valid: named("valid"),
            conversion: conversion(&column.column_type, &quoted(&column.name), &json),
            json,
            column,
        }
    }

    fn may_be_missing(&self) -> bool {
        self.column.column_type.is_nullable() || self.column.default.is_some()
    }

    /// What the subquery gives for the column besides its text.
    fn below(&self) -> Vec<String> {
        match &self.conversion {
            Conversion::Text => Vec::new(),
            Conversion::Nullable(value) => vec![format!("{value} AS {}", self.value)],
            Conversion::Checked { json, valid, value } => vec![
                format!("{json} AS {}", self.json),
                format!("{valid} AS {}", self.valid),
                format!("{value} AS {}", self.value),
            ],
        }
    }

    /// Whether the field is in order; none if it always is.
    fn accepted(&self) -> Option<String> {
        let mut there = match &self.conversion {
            Conversion::Text if self.may_be_missing() => return None,
            Conversion::Text => return Some(format!("isNotNull({})", self.text)),
            Conversion::Nullable(_) => format!("isNotNull({})", self.value),
            Conversion::Checked { .. } => self.valid.clone(),
        };
        if let Some(allowed) = self.allowed(", ") {
            there = format!("({there} AND {} IN ({allowed}))", self.value);
        }
        if self.may_be_missing() {
            return Some(format!("({there} OR isNull({}))", self.text));
        }
        Some(there)
    }

    /// The values that the engine takes of the column, if not all of its type.
    fn allowed(&self, separator: &str) -> Option<String> {
        let values: Vec<String> = self.column.allowed.iter().map(i64::to_string).collect();
        (!values.is_empty()).then(|| values.join(separator))
    }

    /// The typed column, in rows that are accepted.
    fn typed(&self) -> String {
        let value = match &self.conversion {
            Conversion::Text => &self.text,
            Conversion::Nullable(_) | Conversion::Checked { .. } => &self.value,
        };
        let name = quoted(&self.column.name);
        if self.column.column_type.is_nullable() {
            return format!("{value} AS {name}");
        }
        let value = match &self.conversion {
            Conversion::Checked { .. } => value.clone(),
            Conversion::Text | Conversion::Nullable(_) => format!("assumeNotNull({value})"),
        };
        let Some(default) = &self.column.default else {
            return format!("{value} AS {name}");
        };
        let value_type = self.column.column_type.value_type().to_string();
        let value_type = StringLiteral(&value_type);
        let value = match &self.conversion {
            Conversion::Checked { .. } => format!("CAST({value}, {value_type})"),
            Conversion::Text | Conversion::Nullable(_) => value,
        };
        format!(
            "if(isNull({}), CAST(({default}), {value_type}), {value}) AS {name}",
            self.text
        )
    }

    /// What is wrong with the field; empty if nothing is.
    fn message(&self) -> Option<String> {
        let accepted = self.accepted()?;
        let text = &self.text;
        let name = &self.column.name;
        let missing = format!("no value on column '{name}'");
        let expected = self
            .allowed(" or ")
            .unwrap_or_else(|| self.column.column_type.value_type().to_string());
        let wrong = format!("' on column '{name}' is not {expected}");
        let wrong = StringLiteral(&wrong).to_string();
        let wrong = match complaint(&self.column.column_type, text) {
            Some(Complaint { applies, words }) => {
                let more = format!("' on column '{name}' {words}");
                format!("if({applies}, {}, {wrong})", StringLiteral(&more))
            }
            None => wrong,
        };
        Some(format!(
            "multiIf({accepted}, '', isNull({text}), {}, \
             concat('value \\'', substring(assumeNotNull({text}), 1, {SHOWN_BYTES}), {wrong}))",
            StringLiteral(&missing),
        ))
    }
}

/// Whether all values of a row are in order.
fn in_order(fields: &[Field<'_>]) -> String {
    let each: Vec<String> = fields.iter().filter_map(Field::accepted).collect();
    if each.is_empty() {
        "1".to_owned()
    } else {
        each.join(" AND ")
    }
}

fn ingest_query(columns: &[ValidColumn], from: &str) -> String {
    let fields: Vec<Field<'_>> = columns.iter().map(Field::of).collect();
    let typed: Vec<String> = fields.iter().map(Field::typed).collect();
    let mut below = Vec::new();
    for field in &fields {
        let text_needed = field.may_be_missing() || field.conversion == Conversion::Text;
        if text_needed {
            below.push(format!("{} AS {}", quoted(&field.column.name), field.text));
        }
        below.extend(field.below());
    }
    below.push("c__error AS c__said".to_owned());
    format!(
        "SELECT {} FROM (SELECT {} FROM {from}) WHERE c__said IN ('', {}) AND {}",
        typed.join(", "),
        below.join(", "),
        StringLiteral(judged::TABLE_ONLY),
        in_order(&fields)
    )
}

fn reject_query(columns: &[ValidColumn], from: &str) -> String {
    let fields: Vec<Field<'_>> = columns.iter().map(Field::of).collect();
    let raw: Vec<String> = fields
        .iter()
        .map(|field| format!("{} AS {}", field.text, quoted(&field.column.name)))
        .collect();
    let mut below = Vec::new();
    for field in &fields {
        below.push(format!("{} AS {}", quoted(&field.column.name), field.text));
        below.extend(field.below());
    }
    let failures: Vec<String> = fields
        .iter()
        .filter_map(|field| {
            let name = StringLiteral(&field.column.name);
            Some(format!("tuple({name}, {})", field.message()?))
        })
        .collect();
    // Without a column that can fail there is still an array of this type.
    let failures = if failures.is_empty() {
        "CAST([], 'Array(Tuple(String, String))')".to_owned()
    } else {
        format!("[{}]", failures.join(", "))
    };
    let table_only = StringLiteral(judged::TABLE_ONLY);
    let quarantine_only = StringLiteral(judged::QUARANTINE_ONLY);
    let settled = StringLiteral(judged::SETTLED);
    let reason = format!(
        "if(c__error = {quarantine_only}, '', if(startsWith(c__error, {table_only}), substring(c__error, {}), c__error))",
        judged::TABLE_ONLY.len() + 1,
    );
    let in_order = in_order(&fields);
    format!(
        "WITH arrayFilter(c__failed -> c__failed.2 != '', \
         if(c__failure = '', {failures}, [tuple('', c__failure)])) AS c__failures \
         SELECT {}, c__row, \
         arrayFilter(c__name -> c__name != '', c__failures.1) AS c__error_column, \
         c__failures.2 AS c__error, \
         c__import_id \
         FROM (SELECT {}, c__row, c__error AS c__said, {reason} AS c__failure, c__import_id FROM {from}) \
         WHERE multiIf(c__said IN ('', {quarantine_only}), NOT ({in_order}), \
         c__said IN ({table_only}, {settled}), 0, startsWith(c__said, {table_only}), {in_order}, 1)",
        raw.join(", "),
        below.join(", "),
    )
}

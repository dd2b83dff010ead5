//! Tables: made, extended, altered in place, or refused.

use super::steps::SourceSteps;
use crate::catalog::{Column, Table};
use crate::objects::Rejection;
use crate::planner::orphans::holds_data;
use crate::planner::step::{Action, ColumnPart, Why};
use aviary_crds::conditions::Reason;
use aviary_sql::scanner::list_items;

/// A table with data: everything but an extension is refused.
pub(super) fn plan_table(steps: &mut SourceSteps<'_>, name: &str) -> Result<(), Rejection> {
    let wanted = &steps.desired.tables[name];
    plan_table_as(steps, name, wanted)
}

/// A quarantine keeps the partitions it was made with, since those cannot be altered: its rows
/// expire either way.
pub(super) fn plan_quarantine(steps: &mut SourceSteps<'_>, name: &str) -> Result<(), Rejection> {
    let mut wanted = steps.desired.tables[name].clone();
    if let Some(found) = steps.observed.tables.get(name) {
        wanted.partition_key.clone_from(&found.partition_key);
    }
    plan_table_as(steps, name, &wanted)
}

fn plan_table_as(steps: &mut SourceSteps<'_>, name: &str, wanted: &Table) -> Result<(), Rejection> {
    let Some(found) = steps.observed.tables.get(name) else {
        let table = wanted.clone();
        let name = name.to_owned();
        steps.make(Action::CreateTable { name, table });
        return Ok(());
    };
    let differences = shape_differences(steps, wanted, found);
    if !differences.is_empty() {
        return Err(steps.refusal(
            Reason::ShapeChangeRefused,
            format!(
                "`{name}` is live and keeps its shape, which cannot be changed yet: {}; it goes on as it was: undo the change, or make another data source",
                differences.join("; ")
            ),
        ));
    }
    plan_new_columns(steps, name, wanted, found);
    plan_alterations(steps, name, wanted, found);
    Ok(())
}

/// The landing holds nothing, so whatever is wrong with it, it can be made anew.
pub(super) fn plan_landing(steps: &mut SourceSteps<'_>, name: &str) -> Result<(), Rejection> {
    let wanted = &steps.desired.tables[name];
    let Some(found) = steps.observed.tables.get(name) else {
        let table = wanted.clone();
        let name = name.to_owned();
        steps.make(Action::CreateTable { name, table });
        return Ok(());
    };
    if holds_data(&found.engine.family) {
        return Err(steps.refusal(
            Reason::OwnedByAnother,
            format!(
                "`{name}` passes rows on and holds none, but somebody made it a {} that can hold them: rename or drop it",
                found.engine.family
            ),
        ));
    }
    let only_adds = shape_differences(steps, wanted, found).is_empty()
        && found
            .columns
            .iter()
            .all(|column| column.default.is_empty() && column.codec.is_empty());
    if only_adds {
        plan_new_columns(steps, name, wanted, found);
        return Ok(());
    }
    let table = wanted.clone();
    let name = name.to_owned();
    steps.change(Action::ReplaceLanding { name, table });
    Ok(())
}

/// Comments last: they vouch for what came before.
pub(super) fn plan_comments(steps: &mut SourceSteps<'_>, names: &[&str]) {
    for name in names {
        let wanted = &steps.desired.tables[*name];
        let replaced = steps.steps.iter().any(|step| {
            matches!(&step.action, Action::ReplaceLanding { name: replaced, .. } if replaced == name)
        });
        let Some(found) = steps.observed.tables.get(*name).filter(|_| !replaced) else {
            continue;
        };
        if found.comment != wanted.comment {
            let comment = wanted.comment.clone();
            let name = (*name).to_owned();
            steps.change(Action::CommentTable { name, comment });
        }
    }
}

fn plan_new_columns(steps: &mut SourceSteps<'_>, name: &str, wanted: &Table, found: &Table) {
    let mut columns: Vec<(Column, Option<String>)> = Vec::new();
    let mut previous: Option<&str> = None;
    for column in &wanted.columns {
        if find(found, &column.name).is_none() {
            columns.push((column.clone(), previous.map(str::to_owned)));
        }
        previous = Some(&column.name);
    }
    if !columns.is_empty() {
        let table = name.to_owned();
        steps.change(Action::AddColumns { table, columns });
    }
}

fn plan_alterations(steps: &mut SourceSteps<'_>, name: &str, wanted: &Table, found: &Table) {
    for column in &wanted.columns {
        let Some(there) = find(found, &column.name) else {
            continue;
        };
        let parts = [
            (column.default != there.default, ColumnPart::Default),
            (!same_codec(&column.codec, &there.codec), ColumnPart::Codec),
            (column.comment != there.comment, ColumnPart::Comment),
        ];
        for (_, part) in parts.into_iter().filter(|(differs, _)| *differs) {
            let action = Action::AlterColumn {
                table: name.to_owned(),
                column: column.clone(),
                part,
            };
            steps.change(action);
        }
    }
    if wanted.ttl != found.ttl {
        let table = name.to_owned();
        let ttl = wanted.ttl.clone();
        steps.change(Action::ModifyTtl { table, ttl });
    }
    let mut settings = wanted.settings.clone();
    settings.retain(|name, value| found.settings.get(name) != Some(value));
    if !settings.is_empty() {
        let table = name.to_owned();
        steps.change(Action::ModifySettings { table, settings });
    }
}

/// What would need a rewrite of the table. A column that somebody added by hand
/// is nobody's business: a spec can only drop what it had.
fn shape_differences(steps: &SourceSteps<'_>, wanted: &Table, found: &Table) -> Vec<String> {
    let mut differences = Vec::new();
    for column in &wanted.columns {
        let Some(there) = find(found, &column.name) else {
            continue;
        };
        if there.column_type != column.column_type {
            differences.push(format!(
                "column `{}` is {} and would become {}",
                column.name, there.column_type, column.column_type
            ));
        }
    }
    if steps.why_different == Why::SpecChanged {
        for there in &found.columns {
            let was_ours = steps
                .live_columns
                .is_none_or(|live| live.contains(&there.name));
            if was_ours && find(wanted, &there.name).is_none() {
                differences.push(format!(
                    "column `{}` {} would be dropped",
                    there.name, there.column_type
                ));
            }
        }
    }
    let engine = |table: &Table| {
        let arguments = table.engine.arguments.join(", ");
        if arguments.is_empty() {
            table.engine.family.clone()
        } else {
            format!("{}({arguments})", table.engine.family)
        }
    };
    let facets = [
        ("the engine", engine(found), engine(wanted)),
        (
            "the sorting key",
            found.sorting_key.join(", "),
            wanted.sorting_key.join(", "),
        ),
        (
            "the partition key",
            found.partition_key.clone(),
            wanted.partition_key.clone(),
        ),
    ];
    for (what, there, wanted) in facets {
        if there != wanted {
            let shown = |text: String| {
                if text.is_empty() {
                    "none".to_owned()
                } else {
                    text
                }
            };
            differences.push(format!(
                "{what} is {} and would become {}",
                shown(there),
                shown(wanted)
            ));
        }
    }
    differences
}

fn find<'a>(table: &'a Table, name: &str) -> Option<&'a Column> {
    table.columns.iter().find(|column| column.name == name)
}

/// ClickHouse writes out the arguments that were left to it: `Delta` becomes
/// `Delta(4)`. What the spec leaves open, any value agrees with.
fn same_codec(wanted: &str, found: &str) -> bool {
    let (wanted, found) = (list_items(wanted), list_items(found));
    wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(wanted, found)| {
            wanted == found || (!wanted.contains('(') && found.split('(').next() == Some(*wanted))
        })
}

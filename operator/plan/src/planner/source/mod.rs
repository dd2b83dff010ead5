//! The tables and views of one data source.
//!
//! A live table is only ever extended: columns are added, and what can be altered
//! in place (TTL, defaults, codecs, comments) is. Every other difference is
//! refused as a whole, and the data source goes on with its old shape.

mod shape;
mod steps;
mod views;

use self::steps::SourceSteps;
use super::circumstances::Circumstances;
use super::step::{Plan, Why};
use crate::catalog::{Catalog, Table};
use crate::comment::{Comment, OwnerKind, Ownership};
use crate::derived_names;
use crate::objects::Rejection;
use aviary_crds::conditions::Reason;

/// The name in SQL of a data source's table.
pub(super) fn groups(desired: &Catalog) -> Vec<String> {
    let live = |(name, table): (&String, &Table)| {
        let ownership = table.comment.ownership()?;
        let has_landing = desired.tables.contains_key(&derived_names::landing(name));
        (ownership.kind == OwnerKind::DataSource && has_landing).then(|| name.clone())
    };
    desired.tables.iter().filter_map(live).collect()
}

pub(super) fn plan(
    plan: &mut Plan,
    desired: &Catalog,
    observed: &Catalog,
    circumstances: &Circumstances,
    name: &str,
) {
    let Some(ownership) = desired.tables[name].comment.ownership() else {
        return;
    };
    let mut steps = SourceSteps {
        desired,
        observed,
        object: ownership.object(),
        steps: Vec::new(),
        live_columns: circumstances.live_columns.get(&ownership.owner),
        why_missing: why_missing(desired, observed, name),
        why_different: why_different(desired, observed, name),
    };
    match plan_all(&mut steps, ownership, name) {
        Ok(()) => plan.steps.append(&mut steps.steps),
        Err(refusal) => plan.refusals.push(refusal),
    }
}

fn plan_all(
    steps: &mut SourceSteps<'_>,
    ownership: &Ownership,
    name: &str,
) -> Result<(), Rejection> {
    check_ownership(steps, ownership, name)?;
    let quarantine = derived_names::quarantine(name);
    let landing = derived_names::landing(name);
    shape::plan_table(steps, name)?;
    shape::plan_quarantine(steps, &quarantine)?;
    shape::plan_landing(steps, &landing)?;
    views::plan(steps, name);
    // The live table's comment says that all of this is done, so it comes last.
    shape::plan_comments(steps, &[&quarantine, &landing, name]);
    Ok(())
}

fn all_names(name: &str) -> [String; 5] {
    [
        name.to_owned(),
        derived_names::quarantine(name),
        derived_names::landing(name),
        derived_names::ingest(name),
        derived_names::reject(name),
    ]
}

/// Everything that has a name of ours must be ours, or released by a namesake.
fn check_ownership(
    steps: &SourceSteps<'_>,
    ownership: &Ownership,
    name: &str,
) -> Result<(), Rejection> {
    for name in &all_names(name) {
        let Some(comment) = comment_of(steps.observed, name) else {
            continue;
        };
        match &comment {
            Comment::Owned {
                ownership: found, ..
            } if found.admits(ownership) => {}
            Comment::Owned {
                ownership: found, ..
            } => {
                let whose = format!("belongs to {:?} {}", found.kind, found.name);
                return Err(owned_by_another(steps, name, &whose));
            }
            Comment::Foreign(_) => {
                return Err(owned_by_another(steps, name, "was not made by Aviary"));
            }
        }
    }
    Ok(())
}

fn comment_of(catalog: &Catalog, name: &str) -> Option<Comment> {
    let table = catalog.tables.get(name).map(|table| &table.comment);
    let view = catalog.views.get(name).map(|view| &view.comment);
    table.or(view).cloned()
}

fn owned_by_another(steps: &SourceSteps<'_>, name: &str, whose: &str) -> Rejection {
    steps.refusal(
        Reason::OwnedByAnother,
        format!(
            "`{name}` exists in the database and {whose}: make the data source anew with another spec.name, or rename what is there"
        ),
    )
}

/// If anything of the data source is there, the rest was taken away.
fn why_missing(desired: &Catalog, observed: &Catalog, name: &str) -> Why {
    let owner = |catalog, name: &str| Some(comment_of(catalog, name)?.ownership()?.owner.clone());
    let wanted = owner(desired, name);
    if all_names(name)
        .iter()
        .any(|name| owner(observed, name) == wanted)
    {
        Why::Drifted
    } else {
        Why::Missing
    }
}

/// The live table remembers the definition from which all of it was made.
fn why_different(desired: &Catalog, observed: &Catalog, name: &str) -> Why {
    let definition = |catalog: &Catalog| {
        let Ownership { owner, spec, .. } = comment_of(catalog, name)?.ownership()?.clone();
        Some((owner, spec))
    };
    match definition(observed) {
        Some(found) if definition(desired) != Some(found.clone()) => Why::SpecChanged,
        _ => Why::Drifted,
    }
}

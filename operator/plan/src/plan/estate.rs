//! What owners that are gone left under names that are wanted now. It is settled
//! as they asked: dropped, or released so that a namesake takes it over. Otherwise
//! an object that is deleted and made anew would be refused what was its own.

use super::orphans::{holds_data, is_orphan, is_to_be_deleted};
use super::{Circumstances, Plan, Scope, Step, Why, database, orphans};
use crate::catalog::Catalog;
use crate::comment::{Comment, Ownership};
use crate::model::ObjectKey;
use crate::plan::step::Action;
use aviary_crds::DeletionPolicy;

/// Settles a database whose workspace was replaced by a namesake.
pub(super) fn settle_database(plan: &mut Plan, desired: &Catalog, observed: &mut Catalog) {
    let wanted = database::ownership(desired.database.as_ref());
    let found = database::ownership(observed.database.as_ref());
    let (Some(wanted), Some(found)) = (wanted, found) else {
        return;
    };
    if !found.is_succeeded_by(wanted) {
        return;
    }
    if found.deletion == DeletionPolicy::Delete {
        let users = std::mem::take(&mut observed.users);
        *observed = Catalog {
            users,
            ..Catalog::empty(observed.name.clone())
        };
        plan.steps.push(Step {
            database: desired.name.clone(),
            object: ObjectKey::Workspace,
            scope: Scope::Foundation,
            action: Action::DropDatabase,
            why: Why::Orphaned,
        });
    } else if let Some(database) = &mut observed.database {
        database.comment = orphans::released_database(&database.comment);
    }
}

/// Settles tables and views whose data source was replaced.
pub(super) fn settle_tables(
    plan: &mut Plan,
    desired: &Catalog,
    observed: &mut Catalog,
    circumstances: &Circumstances,
) {
    let claimant = |name: &str| {
        let table = desired.tables.get(name).map(|table| &table.comment);
        let view = desired.views.get(name).map(|view| &view.comment);
        table.or(view)?.ownership()
    };
    let mut settle = |name: &String, comment: &mut Comment, holds_data: bool, drop: Action| {
        let Some(claimant) = claimant(name).filter(|_| is_orphan(comment, circumstances)) else {
            return true;
        };
        let keeps = !is_to_be_deleted(comment) && (holds_data || is_namesake(comment, claimant));
        if keeps {
            *comment = comment.released();
        } else {
            plan.steps.push(Step {
                database: desired.name.clone(),
                object: claimant.object(),
                scope: Scope::Object,
                action: drop,
                why: Why::Orphaned,
            });
        }
        keeps
    };
    // Views go before the tables that they write to.
    observed.views.retain(|name, view| {
        let drop = Action::DropView { name: name.clone() };
        settle(name, &mut view.comment, false, drop)
    });
    observed.tables.retain(|name, table| {
        let holds_data = holds_data(&table.engine.family);
        let drop = Action::DropTable {
            name: name.clone(),
            holds_data,
        };
        settle(name, &mut table.comment, holds_data, drop)
    });
}

fn is_namesake(comment: &Comment, claimant: &Ownership) -> bool {
    comment
        .ownership()
        .is_some_and(|found| (found.kind, &found.name) == (claimant.kind, &claimant.name))
}

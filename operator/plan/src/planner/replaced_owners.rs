//! What owners that are gone left under names that are wanted now. Where they
//! consented to it, it is dropped, and otherwise released, so that a namesake takes
//! it over. Otherwise an object that is deleted and made anew would be refused what
//! was its own.

use super::circumstances::Circumstances;
use super::database;
use super::orphans::{holds_data, is_orphan, released_database};
use super::step::{Action, Plan, Scope, Step, Why};
use crate::catalog::{Catalog, View};
use crate::comment::{Comment, Ownership};
use crate::objects::ObjectKey;

/// Settles a database whose workspace was replaced by a namesake.
pub(super) fn settle_database(
    plan: &mut Plan,
    desired: &Catalog,
    observed: &mut Catalog,
    circumstances: &Circumstances,
) {
    let wanted = database::ownership(desired.database.as_ref());
    let found = database::ownership(observed.database.as_ref());
    let (Some(wanted), Some(found)) = (wanted, found) else {
        return;
    };
    if !found.is_succeeded_by(wanted) {
        return;
    }
    let comment = observed.database.as_ref().map(|it| &it.comment);
    let consent = comment.and_then(|it| circumstances.consents.to_destroy(it));
    if let Some(consent) = consent.cloned() {
        let users = std::mem::take(&mut observed.users);
        *observed = Catalog {
            users,
            ..Catalog::empty(observed.name.clone())
        };
        plan.steps.push(Step {
            database: desired.name.clone(),
            object: ObjectKey::Workspace,
            scope: Scope::Foundation,
            action: Action::DropDatabase { consent },
            why: Why::Orphaned,
        });
    } else if let Some(database) = &mut observed.database {
        database.comment = released_database(&database.comment);
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
    // Drops it where there is a step for that, and tells whether it stays.
    let mut settle = |claimant: &Ownership, comment: &mut Comment, drop: Option<Action>| {
        let Some(action) = drop else {
            *comment = comment.released();
            return true;
        };
        plan.steps.push(Step {
            database: desired.name.clone(),
            object: claimant.object(),
            scope: Scope::Object,
            action,
            why: Why::Orphaned,
        });
        false
    };
    let consents = &circumstances.consents;
    // What holds no data is of use to a namesake only, and to none if its table goes.
    let is_of_use = |comment: &Comment, claimant: &Ownership| {
        is_namesake(comment, claimant) && consents.to_destroy(comment).is_none()
    };
    // Views go before the tables that they write to.
    observed.views.retain(|name, View { comment, .. }| {
        let Some(claimant) = claimant(name).filter(|_| is_orphan(comment, circumstances)) else {
            return true;
        };
        let drop = Action::DropView { name: name.clone() };
        let drop = (!is_of_use(comment, claimant)).then_some(drop);
        settle(claimant, comment, drop)
    });
    observed.tables.retain(|name, table| {
        let comment = &mut table.comment;
        let Some(claimant) = claimant(name).filter(|_| is_orphan(comment, circumstances)) else {
            return true;
        };
        let name = name.clone();
        let drop = if holds_data(&table.engine.family) {
            let consent = consents.to_destroy(comment).cloned();
            consent.map(|consent| Action::DropTable { name, consent })
        } else {
            (!is_of_use(comment, claimant)).then_some(Action::DropLanding { name })
        };
        settle(claimant, comment, drop)
    });
}

fn is_namesake(comment: &Comment, claimant: &Ownership) -> bool {
    comment
        .ownership()
        .is_some_and(|found| (found.kind, &found.name) == (claimant.kind, &claimant.name))
}

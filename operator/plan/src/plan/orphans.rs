//! What has lost its owner. Views and landings hold no data and are dropped; a
//! table is dropped if its comment says so, and otherwise released: it stays, and
//! a data source of the same name may take it over.

use super::{Circumstances, Plan, Scope, Step, Why};
use crate::catalog::Catalog;
use crate::comment::{Comment, OwnerKind};
use crate::model::ObjectKey;
use crate::plan::step::Action;
use aviary_crds::DeletionPolicy;

/// What is wanted by name has been settled by now.
pub(super) fn plan(plan: &mut Plan, observed: &Catalog, circumstances: &Circumstances) {
    let is_orphan = |comment| is_orphan(comment, circumstances);
    let mut push = |action| {
        plan.steps
            .push(step(observed, action, Scope::Cleanup, Why::Orphaned));
    };
    for (name, view) in &observed.views {
        if is_orphan(&view.comment) {
            push(Action::DropView { name: name.clone() });
        }
    }
    for (name, table) in &observed.tables {
        if !is_orphan(&table.comment) {
            continue;
        }
        let name = name.clone();
        let holds_data = holds_data(&table.engine.family);
        if !holds_data || is_to_be_deleted(&table.comment) {
            push(Action::DropTable { name, holds_data });
        } else {
            let comment = table.comment.released();
            push(Action::ReleaseTable { name, comment });
        }
    }
}

/// Whether the data source that owns it does not exist any more.
pub(super) fn is_orphan(comment: &Comment, circumstances: &Circumstances) -> bool {
    comment.ownership().is_some_and(|ownership| {
        ownership.kind == OwnerKind::DataSource
            && !ownership.owner.is_empty()
            && !circumstances
                .existing_data_sources
                .contains_key(&ownership.owner)
    })
}

/// The steps when the workspace itself is deleted. Plans nothing for a database
/// that is not this workspace's.
///
/// Views run as a user and go before it. The database goes last: while it is there
/// and says whose it is, what failed halfway can be done again.
pub fn retire(observed: &Catalog, workspace_uid: &str) -> Plan {
    let mut plan = Plan::default();
    let Some(database) = &observed.database else {
        return plan;
    };
    let Some(ownership) = database.comment.ownership() else {
        return plan;
    };
    if ownership.kind != OwnerKind::Workspace || ownership.owner != workspace_uid {
        return plan;
    }
    let mut push = |action| {
        plan.steps
            .push(step(observed, action, Scope::Foundation, Why::Retired));
    };
    let drops_all = ownership.deletion == DeletionPolicy::Delete;
    let is_ours = |comment: &Comment| drops_all || comment.ownership().is_some();
    for (name, view) in &observed.views {
        if is_ours(&view.comment) {
            push(Action::DropView { name: name.clone() });
        }
    }
    for (name, table) in observed.tables.iter().filter(|_| !drops_all) {
        let Some(owned) = table.comment.ownership() else {
            continue;
        };
        let name = name.clone();
        if !holds_data(&table.engine.family) {
            let holds_data = false;
            push(Action::DropTable { name, holds_data });
        } else if !owned.owner.is_empty() {
            let comment = table.comment.released();
            push(Action::ReleaseTable { name, comment });
        }
    }
    for name in observed.users.keys() {
        push(Action::DropUser { name: name.clone() });
    }
    push(if drops_all {
        Action::DropDatabase
    } else {
        let comment = released_database(&database.comment);
        Action::ReleaseDatabase { comment }
    });
    plan
}

/// Nobody answers any more for the passwords that its users have.
pub(super) fn released_database(comment: &Comment) -> Comment {
    let mut released = comment.released();
    if let Comment::Owned { ownership, .. } = &mut released {
        ownership.credentials.clear();
    }
    released
}

pub(super) fn holds_data(engine: &str) -> bool {
    engine != "Null"
}

pub(super) fn is_to_be_deleted(comment: &Comment) -> bool {
    comment
        .ownership()
        .is_some_and(|ownership| ownership.deletion == DeletionPolicy::Delete)
}

fn step(observed: &Catalog, action: Action, scope: Scope, why: Why) -> Step {
    Step {
        database: observed.name.clone(),
        object: ObjectKey::Workspace,
        scope,
        action,
        why,
    }
}

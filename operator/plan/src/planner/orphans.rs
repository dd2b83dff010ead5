//! What has lost its owner. Views and landings hold no data and are dropped. A table
//! is dropped on its owner's consent, and otherwise released: it stays, and a data
//! source of the same name may take it over.

use super::circumstances::Circumstances;
use super::step::{Action, Plan, Scope, Step, Why};
use crate::catalog::Catalog;
use crate::comment::{Comment, OwnerKind, Ownership};
use crate::consent::Consents;
use crate::objects::ObjectKey;

/// What is wanted by name has been settled by now.
pub(super) fn plan(plan: &mut Plan, observed: &Catalog, circumstances: &Circumstances) {
    let is_orphan = |comment| is_orphan(comment, circumstances);
    let mut push = |object, action| {
        plan.steps.push(Step {
            database: observed.name.clone(),
            object,
            scope: Scope::Cleanup,
            action,
            why: Why::Orphaned,
        });
    };
    for (name, view) in &observed.views {
        if is_orphan(&view.comment) {
            let name = name.clone();
            push(ObjectKey::Workspace, Action::DropView { name });
        }
    }
    for (name, table) in &observed.tables {
        let comment = &table.comment;
        if !is_orphan(comment) {
            continue;
        }
        // Who consented is there until it is done, or was told of.
        let object = match circumstances.consents.to_destroy(comment) {
            Some(_) => comment.ownership().map(Ownership::object),
            None => None,
        };
        let action = drop_or_release(name, &table.engine.family, comment, &circumstances.consents);
        push(object.unwrap_or(ObjectKey::Workspace), action);
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

/// What becomes of a table whose owner is gone.
fn drop_or_release(name: &str, engine: &str, comment: &Comment, consents: &Consents) -> Action {
    let name = name.to_owned();
    if !holds_data(engine) {
        return Action::DropLanding { name };
    }
    match consents.to_destroy(comment).cloned() {
        Some(consent) => Action::DropTable { name, consent },
        None => Action::ReleaseTable {
            name,
            comment: comment.released(),
        },
    }
}

/// A workspace that goes, or is gone.
#[derive(Clone, Copy, Debug)]
pub struct Retired<'a> {
    /// Its uid.
    pub uid: &'a str,
    /// Uid of the Kubernetes it is or was in; empty if unknown.
    pub kubernetes: &'a str,
    /// Its consent and those of its data sources, as far as there are any.
    pub consents: &'a Consents,
}

/// The steps when the workspace itself is deleted. Plans nothing for a database
/// that is not this workspace's.
///
/// Views run as a user and go before it. The database goes last: while it is there
/// and says whose it is, what failed halfway can be done again.
pub fn retire(observed: &Catalog, workspace: Retired<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(database) = &observed.database else {
        return plan;
    };
    if !is_of(&database.comment, workspace) {
        return plan;
    }
    let mut push = |action| {
        plan.steps.push(Step {
            database: observed.name.clone(),
            object: ObjectKey::Workspace,
            scope: Scope::Foundation,
            action,
            why: Why::Retired,
        });
    };
    let Retired { consents, .. } = workspace;
    let consent = consents.to_destroy(&database.comment).cloned();
    for (name, view) in &observed.views {
        if consent.is_some() || view.comment.ownership().is_some() {
            push(Action::DropView { name: name.clone() });
        }
    }
    for name in observed.users.keys() {
        push(Action::DropUser { name: name.clone() });
    }
    if let Some(consent) = consent {
        push(Action::DropDatabase { consent });
        return plan;
    }
    for (name, table) in &observed.tables {
        let comment = &table.comment;
        let Some(ownership) = comment.ownership() else {
            continue;
        };
        let engine = &table.engine.family;
        if !ownership.owner.is_empty() || !holds_data(engine) {
            push(drop_or_release(name, engine, comment, consents));
        }
    }
    let comment = released_database(&database.comment);
    push(Action::ReleaseDatabase { comment });
    plan
}

/// Another Kubernetes may have been restored from a copy of this one, uids and all.
fn is_of(comment: &Comment, workspace: Retired<'_>) -> bool {
    comment.ownership().is_some_and(|found| {
        let elsewhere = !found.kubernetes.is_empty()
            && !workspace.kubernetes.is_empty()
            && found.kubernetes != workspace.kubernetes;
        found.kind == OwnerKind::Workspace && found.owner == workspace.uid && !elsewhere
    })
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

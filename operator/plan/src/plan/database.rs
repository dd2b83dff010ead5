//! The database itself: made, adopted when it was released, or refused.

use super::{Circumstances, Plan, Step, Why};
use crate::catalog::{Catalog, Database};
use crate::comment::{Comment, Ownership};
use crate::model::{ObjectKey, Rejection};
use crate::plan::step::Action;
use aviary_crds::conditions::Reason;

/// A database that is there and not this workspace's is never touched.
pub(super) fn refusal(desired: &Catalog, observed: &Catalog) -> Option<Rejection> {
    let wanted = ownership(desired.database.as_ref())?;
    let found = observed.database.as_ref()?;
    let name = &desired.name;
    let message = match &found.comment {
        Comment::Owned { ownership, .. } if ownership.admits(wanted) => return None,
        Comment::Owned { ownership, .. } if ownership.owner.is_empty() => format!(
            "the database {name} was released by Workspace {}: only a Workspace of that name may take it over; set spec.database to another name",
            ownership.name
        ),
        Comment::Owned { ownership, .. } => format!(
            "the database {name} belongs to Workspace {}: set spec.database to another name",
            ownership.name
        ),
        Comment::Foreign(_) => format!(
            "the database {name} exists and was not made by Aviary, which does not adopt databases: set spec.database to another name"
        ),
    };
    Some(Rejection {
        object: ObjectKey::Workspace,
        reason: Reason::OwnedByAnother,
        message,
    })
}

pub(super) fn plan(plan: &mut Plan, desired: &Catalog, observed: &Catalog) {
    if let (Some(wanted), None) = (&desired.database, &observed.database) {
        // The comment says nothing of passwords before the users have them.
        let mut database = wanted.clone();
        if let Comment::Owned { ownership, .. } = &mut database.comment {
            ownership.credentials.clear();
        }
        plan.steps.push(step(
            desired,
            Action::CreateDatabase { database },
            Why::Missing,
        ));
    }
}

/// After the users, because the comment says which passwords they have.
pub(super) fn plan_comment(plan: &mut Plan, desired: &Catalog, observed: &Catalog) {
    let Some(wanted) = &desired.database else {
        return;
    };
    let found = observed.database.as_ref();
    if found.is_some_and(|database| database.comment == wanted.comment) {
        return;
    }
    let why = if found.is_none() {
        Why::Missing
    } else {
        Why::SpecChanged
    };
    plan.steps.push(step(
        desired,
        Action::CommentDatabase {
            comment: wanted.comment.clone(),
        },
        why,
    ));
}

/// Whether the users' passwords are other than wished for, as far as one can tell.
pub(super) fn needs_passwords(
    desired: &Catalog,
    observed: &Catalog,
    circumstances: &Circumstances,
) -> bool {
    let fingerprint =
        |database: Option<&Database>| ownership(database).map(|it| it.credentials.clone());
    circumstances.credentials_refused
        || fingerprint(desired.database.as_ref()) != fingerprint(observed.database.as_ref())
}

fn ownership(database: Option<&Database>) -> Option<&Ownership> {
    database?.comment.ownership()
}

fn step(desired: &Catalog, action: Action, why: Why) -> Step {
    Step {
        database: desired.name.clone(),
        object: ObjectKey::Workspace,
        action,
        why,
    }
}

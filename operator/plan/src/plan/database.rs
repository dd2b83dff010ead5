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
    let Some(wanted) = desired.database.clone() else {
        return;
    };
    let (action, why) = match &observed.database {
        None => (Action::CreateDatabase { database: wanted }, Why::Missing),
        Some(found) if found.comment == wanted.comment => return,
        Some(_) => {
            let Database { comment } = wanted;
            (Action::CommentDatabase { comment }, Why::SpecChanged)
        }
    };
    plan.steps.push(Step {
        database: desired.name.clone(),
        object: ObjectKey::Workspace,
        action,
        why,
    });
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

pub(super) fn ownership(database: Option<&Database>) -> Option<&Ownership> {
    database?.comment.ownership()
}

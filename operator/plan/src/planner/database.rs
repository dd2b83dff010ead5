//! The database itself: made, adopted when it was released, or refused.

use super::circumstances::Circumstances;
use super::step::{Action, Plan, Scope, Step, Why};
use crate::catalog::{Catalog, Database};
use crate::comment::{Comment, Ownership};
use crate::objects::{ObjectKey, Rejection};
use aviary_crds::conditions::Reason;

/// A database that is there and not this workspace's is never touched.
pub(super) fn refusal(desired: &Catalog, observed: &Catalog) -> Option<Rejection> {
    let wanted = ownership(desired.database.as_ref())?;
    let found = observed.database.as_ref()?;
    let name = &desired.name;
    let message = match &found.comment {
        Comment::Owned { ownership, .. } if ownership.admits(wanted) => return None,
        Comment::Owned { ownership, .. } if ownership.owner.is_empty() => format!(
            "the database {name} was released by Workspace {}: only a Workspace of that name may take it over; make this one anew with another spec.database",
            ownership.name
        ),
        Comment::Owned { ownership, .. } => format!(
            "the database {name} belongs to Workspace {}: make this one anew with another spec.database",
            ownership.name
        ),
        Comment::Foreign(_) => format!(
            "the database {name} exists and was not made by Aviary, which does not adopt databases: make this one anew with another spec.database"
        ),
    };
    Some(Rejection {
        object: ObjectKey::Workspace,
        reason: Reason::OwnedByAnother,
        message,
    })
}

/// Makes the database if it is not there.
pub(super) fn create(
    plan: &mut Plan,
    desired: &Catalog,
    observed: &Catalog,
    circumstances: &Circumstances,
) {
    if let (Some(database), None) = (&desired.database, &observed.database) {
        let database = database.clone();
        let why = why_missing(circumstances);
        plan.steps
            .push(step(desired, Action::CreateDatabase { database }, why));
    }
}

/// Sets the comment, which vouches for the users' passwords and limits: it comes after them.
pub(super) fn comment(plan: &mut Plan, desired: &Catalog, observed: &Catalog) {
    if let (Some(Database { comment }), Some(found)) = (&desired.database, &observed.database)
        && found.comment != *comment
    {
        let comment = comment.clone();
        let action = Action::CommentDatabase { comment };
        plan.steps.push(step(desired, action, Why::SpecChanged));
    }
}

fn step(desired: &Catalog, action: Action, why: Why) -> Step {
    Step {
        database: desired.name.clone(),
        object: ObjectKey::Workspace,
        scope: Scope::Foundation,
        action,
        why,
    }
}

/// Why the database and what comes with it is not there.
pub(super) fn why_missing(circumstances: &Circumstances) -> Why {
    if circumstances.had_database {
        Why::Drifted
    } else {
        Why::Missing
    }
}

/// Whether the workspace's limits are other than when the users were made.
pub(super) fn is_redefined(desired: &Catalog, observed: &Catalog) -> bool {
    let definition = |database: Option<&Database>| ownership(database).map(|it| it.spec.clone());
    definition(desired.database.as_ref()) != definition(observed.database.as_ref())
}

/// Whether the users' passwords are other than desired, as far as one can tell.
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

//! A plan and its steps: what is done, to what, and why. A step's `Display` is for
//! events and says nothing that a tenant wrote.

use crate::catalog::{Column, Database, Grant, Table, User, View};
use crate::comment::Comment;
use crate::consent::Consent;
use crate::objects::{ObjectKey, Rejection};
use aviary_crds::event_reasons::EventReason;
use aviary_sql::Identifier;
use std::collections::BTreeMap;
use std::fmt;

/// What to do, and what will not be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they must run. A step that fails stops what its
    /// [`Scope`] says.
    pub steps: Vec<Step>,
    /// What Aviary refuses to do.
    pub refusals: Vec<Rejection>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// What is done, for which object, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The workspace's database.
    pub database: Identifier,
    /// The object to report on.
    pub object: ObjectKey,
    /// What waits for it, and what is not in place while it fails.
    pub scope: Scope,
    /// What is done.
    pub action: Action,
    /// Why.
    pub why: Why,
}

/// How far a step's failure reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything in the workspace needs it: the rest of the plan waits.
    Foundation,
    /// Its object needs it, and that object's later steps wait. Where the object is
    /// the workspace it takes away what is too much, and nothing waits.
    Object,
    /// Nothing needs it: it clears away what nobody wants any more.
    Cleanup,
}

/// Why something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is not there.
    Missing,
    /// The spec says something else than when it was made.
    SpecChanged,
    /// It is not what it was made as.
    Drifted,
    /// What it belonged to is gone.
    Orphaned,
    /// The workspace goes.
    Retired,
}

/// What can be done to a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is a statement, and its fields are the statement's"
)]
pub enum Action {
    CreateDatabase {
        database: Database,
    },
    CommentDatabase {
        comment: Comment,
    },
    CreateUser {
        name: String,
        user: User,
    },
    AlterUser {
        name: String,
        user: User,
    },
    Grant {
        user: String,
        grants: Vec<Grant>,
    },
    Revoke {
        user: String,
        grant: Grant,
    },
    RevokeRole {
        user: String,
        role: String,
    },
    CreateTable {
        name: String,
        table: Table,
    },
    ReplaceLanding {
        name: String,
        table: Table,
    },
    AddColumns {
        table: String,
        columns: Vec<(Column, Option<String>)>,
    },
    AlterColumn {
        table: String,
        column: Column,
        part: ColumnPart,
    },
    ModifyTtl {
        table: String,
        ttl: Option<String>,
    },
    ModifySettings {
        table: String,
        settings: BTreeMap<String, String>,
    },
    CommentTable {
        name: String,
        comment: Comment,
    },
    CreateView {
        name: String,
        view: View,
    },
    ReplaceView {
        name: String,
        view: View,
    },
    ModifyView {
        name: String,
        view: View,
    },
    DropView {
        name: String,
    },
    DropTable {
        name: String,
        consent: Consent,
    },
    DropLanding {
        name: String,
    },
    ReleaseTable {
        name: String,
        comment: Comment,
    },
    ReleaseDatabase {
        comment: Comment,
    },
    DropDatabase {
        consent: Consent,
    },
    DropUser {
        name: String,
    },
}

/// What of a column is altered in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnPart {
    /// Its default.
    Default,
    /// Its codec.
    Codec,
    /// Its comment.
    Comment,
}

impl Step {
    /// Whose word allows it, if data is lost by it.
    pub fn consent(&self) -> Option<&Consent> {
        match &self.action {
            Action::DropTable { consent, .. } | Action::DropDatabase { consent } => Some(consent),
            Action::CreateDatabase { .. }
            | Action::CommentDatabase { .. }
            | Action::CreateUser { .. }
            | Action::AlterUser { .. }
            | Action::Grant { .. }
            | Action::Revoke { .. }
            | Action::RevokeRole { .. }
            | Action::CreateTable { .. }
            | Action::ReplaceLanding { .. }
            | Action::AddColumns { .. }
            | Action::AlterColumn { .. }
            | Action::ModifyTtl { .. }
            | Action::ModifySettings { .. }
            | Action::CommentTable { .. }
            | Action::CreateView { .. }
            | Action::ReplaceView { .. }
            | Action::ModifyView { .. }
            | Action::DropView { .. }
            | Action::DropLanding { .. }
            | Action::ReleaseTable { .. }
            | Action::ReleaseDatabase { .. }
            | Action::DropUser { .. } => None,
        }
    }

    /// The reason of the event that tells of it.
    pub fn event_reason(&self) -> EventReason {
        match (self.why, &self.action) {
            (Why::Drifted, _) => EventReason::DriftRepaired,
            (_, Action::ReleaseTable { .. } | Action::ReleaseDatabase { .. }) => {
                EventReason::Released
            }
            (Why::Orphaned | Why::Retired, _) => EventReason::Dropped,
            (Why::Missing, _) => EventReason::Created,
            (Why::SpecChanged, _) => EventReason::Updated,
        }
    }

    /// Whether it only says who owns something: not worth an event of its own.
    pub fn is_bookkeeping(&self) -> bool {
        matches!(
            self.action,
            Action::CommentDatabase { .. } | Action::CommentTable { .. }
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::CreateDatabase { .. } => write!(formatter, "create the database"),
            Action::CommentDatabase { .. } => write!(formatter, "note the owner of the database"),
            Action::CreateUser { name, .. } => write!(formatter, "create the user {name}"),
            Action::AlterUser { name, .. } => {
                write!(
                    formatter,
                    "set the password and settings of the user {name}"
                )
            }
            Action::Grant { user, grants } => {
                let rights: Vec<&str> = grants.iter().map(|it| it.access.as_str()).collect();
                write!(formatter, "grant {} to {user}", rights.join(", "))
            }
            Action::Revoke { user, grant } => {
                write!(formatter, "revoke {} from {user}", grant.access)
            }
            Action::RevokeRole { user, role } => {
                write!(formatter, "revoke the role {role} from {user}")
            }
            Action::CreateTable { name, .. } => write!(formatter, "create the table {name}"),
            Action::ReplaceLanding { name, .. } => write!(formatter, "make the table {name} anew"),
            Action::AddColumns { table, columns } => {
                let names: Vec<&str> = columns.iter().map(|(c, _)| c.name.as_str()).collect();
                write!(formatter, "add to {table}: {}", names.join(", "))
            }
            Action::AlterColumn {
                table,
                column,
                part,
            } => {
                let part = match part {
                    ColumnPart::Default => "default",
                    ColumnPart::Codec => "codec",
                    ColumnPart::Comment => "comment",
                };
                write!(formatter, "set the {part} of {table}.{}", column.name)
            }
            Action::ModifyTtl { table, ttl: None } => {
                write!(formatter, "remove the TTL of {table}")
            }
            Action::ModifyTtl { table, .. } => write!(
                formatter,
                "set the TTL of {table}: it holds for rows from now on, and the change itself deletes nothing"
            ),
            Action::ModifySettings { table, settings } => {
                let names: Vec<&str> = settings.keys().map(String::as_str).collect();
                write!(formatter, "set {} of {table}", names.join(", "))
            }
            Action::CommentTable { name, .. } => write!(formatter, "set the comment of {name}"),
            Action::CreateView { name, .. } => write!(formatter, "create the view {name}"),
            Action::ReplaceView { name, .. } => write!(formatter, "make the view {name} anew"),
            Action::ModifyView { name, .. } => write!(formatter, "set the query of {name}"),
            Action::DropView { name } => write!(formatter, "drop the view {name}"),
            Action::DropTable { name, .. } | Action::DropLanding { name } => {
                write!(formatter, "drop the table {name}")
            }
            Action::ReleaseTable { name, .. } => {
                write!(formatter, "keep the table {name}, no longer managed")
            }
            Action::ReleaseDatabase { .. } => {
                write!(formatter, "keep the database, no longer managed")
            }
            Action::DropDatabase { .. } => write!(formatter, "drop the database"),
            Action::DropUser { name } => write!(formatter, "drop the user {name}"),
        }
    }
}

//! What a command found out, before it is printed in one form or another.

use crate::inventory::{Refusal, Skipped};
use aviary_plan::{Plan, WorkspaceModel};

/// All that was planned, refused and left out.
pub(crate) struct Report {
    pub(crate) workspaces: Vec<Planned>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) skipped: Vec<Skipped>,
}

/// A workspace with the plan that makes it.
pub(crate) struct Planned {
    pub(crate) model: WorkspaceModel,
    pub(crate) plan: Plan,
}

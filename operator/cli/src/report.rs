//! What a command found out, before it is printed in one form or another.

use crate::input::Place;
use aviary_plan::{ObjectKey, Plan, WorkspaceModel};
use serde::Serialize;

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

/// An object, or a field of it, that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Refusal {
    #[serde(flatten)]
    pub(crate) place: Place,
    #[serde(flatten)]
    pub(crate) object: Reference,
    /// Such as `spec.columns[2].type`; empty where the message tells.
    pub(crate) field: String,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Something that is none of Aviary's objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    #[serde(flatten)]
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// Which object it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Reference {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Reference {
    /// The name of an object of a workspace.
    pub(crate) fn of(object: &ObjectKey, namespace: &str, workspace: &str) -> Self {
        let (kind, name) = match object {
            ObjectKey::Workspace => ("Workspace", workspace),
            ObjectKey::DataSource(name) => ("DataSource", name.as_str()),
            ObjectKey::Pipe(name) => ("Pipe", name.as_str()),
            ObjectKey::AccessToken(name) => ("AccessToken", name.as_str()),
        };
        Self {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

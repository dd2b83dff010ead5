//! Collects the steps of one data source.

use crate::catalog::Catalog;
use crate::objects::{ObjectKey, Rejection};
use crate::planner::step::{Action, Scope, Step, Why};
use aviary_crds::conditions::Reason;
use std::collections::BTreeSet;

/// The steps of one data source so far, and what they are made from.
pub(super) struct SourceSteps<'a> {
    pub(super) desired: &'a Catalog,
    pub(super) observed: &'a Catalog,
    pub(super) object: ObjectKey,
    pub(super) steps: Vec<Step>,
    /// The columns that the data source was last live with, if that is known.
    pub(super) live_columns: Option<&'a BTreeSet<String>>,
    /// Why something is not there.
    pub(super) why_missing: Why,
    /// Why something is not as it should be.
    pub(super) why_different: Why,
}

impl SourceSteps<'_> {
    /// Makes what is not there.
    pub(super) fn make(&mut self, action: Action) {
        self.push(action, self.why_missing);
    }

    /// Changes what is there.
    pub(super) fn change(&mut self, action: Action) {
        self.push(action, self.why_different);
    }

    fn push(&mut self, action: Action, why: Why) {
        self.steps.push(Step {
            database: self.desired.name.clone(),
            object: self.object.clone(),
            scope: Scope::Object,
            action,
            why,
        });
    }

    pub(super) fn refusal(&self, reason: Reason, message: String) -> Rejection {
        Rejection {
            object: self.object.clone(),
            reason,
            message,
        }
    }
}

//! The steps from the catalog that is there to the catalog that should be, in the
//! order in which they must run, each with its reason.
//!
//! Order: the database, whose comment says whose all of it is; tables that are not
//! there; users and their rights; all that runs as a user or changes what is there;
//! and last what is dropped. Nothing is planned for what Aviary does not own.

mod access;
mod database;
mod estate;
mod orphans;
mod source;
pub mod step;
#[cfg(test)]
mod tests;

use crate::catalog::Catalog;
use crate::consent::Consents;
use crate::model::{Rejection, WorkspaceModel};
use std::collections::{BTreeMap, BTreeSet};

pub use orphans::{Retired, retire};
pub use step::{Action, Scope, Step, Why};

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

/// What the planner must know besides the two catalogs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Every data source that exists, valid or not: uid to Kubernetes name.
    pub existing_data_sources: BTreeMap<String, String>,
    /// Who consented to the loss of what was his.
    pub consents: Consents,
    /// The columns that data sources were last live with, by uid.
    pub live_columns: BTreeMap<String, BTreeSet<String>>,
    /// Whether this replica has had the database before: then somebody took it away.
    pub had_database: bool,
    /// Whether ClickHouse refused a password that it should know: it is set again.
    pub credentials_refused: bool,
}

impl WorkspaceModel {
    /// The circumstances as the model knows them.
    pub fn circumstances(&self) -> Circumstances {
        Circumstances {
            existing_data_sources: self.existing_data_sources.clone(),
            consents: self.consents.clone(),
            live_columns: self.live_columns.clone(),
            ..Circumstances::default()
        }
    }
}

/// Compares the two catalogs. `desired` should be canonicalised by the server
/// that `observed` is of, or spelling counts as a difference.
pub fn plan(desired: &Catalog, observed: &Catalog, circumstances: &Circumstances) -> Plan {
    let mut plan = Plan::default();
    let observed = &mut observed.clone();
    estate::settle_database(&mut plan, desired, observed, circumstances);
    if let Some(refusal) = database::refusal(desired, observed) {
        plan.refusals.push(refusal);
        return plan;
    }
    estate::settle_tables(&mut plan, desired, observed, circumstances);
    database::create(&mut plan, desired, observed, circumstances);
    let mut sources = Plan::default();
    for group in source::groups(desired) {
        source::plan(&mut sources, desired, observed, circumstances, &group);
    }
    let is_new_table = |step: &Step| matches!(step.action, Action::CreateTable { .. });
    let (tables, others): (Vec<Step>, Vec<Step>) =
        sources.steps.into_iter().partition(is_new_table);
    plan.steps.extend(tables);
    access::plan(&mut plan, desired, observed, circumstances);
    database::comment(&mut plan, desired, observed);
    plan.steps.extend(others);
    plan.refusals.extend(sources.refusals);
    orphans::plan(&mut plan, observed, circumstances);
    plan
}

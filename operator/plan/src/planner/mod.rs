//! The steps from the catalog that is there to the catalog that should be, in the
//! order in which they must run, each with its reason.
//!
//! Order: the database, whose comment says whose all of it is; tables that are not
//! there; users and their rights; all that runs as a user or changes what is there;
//! and last what is dropped. Nothing is planned for what Aviary does not own.

mod circumstances;
mod database;
mod orphans;
mod replaced_owners;
mod source;
mod statements;
mod step;
#[cfg(test)]
mod tests;
mod users;

use crate::catalog::Catalog;

pub use circumstances::Circumstances;
pub use orphans::{Retired, retire};
pub use step::{Action, ColumnPart, Plan, Scope, Step, Why};

/// Compares the two catalogs. `desired` should be canonicalised by the server
/// that `observed` is of, or spelling counts as a difference.
pub fn plan(desired: &Catalog, observed: &Catalog, circumstances: &Circumstances) -> Plan {
    let mut plan = Plan::default();
    let observed = &mut observed.clone();
    replaced_owners::settle_database(&mut plan, desired, observed, circumstances);
    if let Some(refusal) = database::refusal(desired, observed) {
        plan.refusals.push(refusal);
        return plan;
    }
    replaced_owners::settle_tables(&mut plan, desired, observed, circumstances);
    database::create(&mut plan, desired, observed, circumstances);
    let mut sources = Plan::default();
    for group in source::groups(desired) {
        source::plan(&mut sources, desired, observed, circumstances, &group);
    }
    let is_new_table = |step: &Step| matches!(step.action, Action::CreateTable { .. });
    let (tables, others): (Vec<Step>, Vec<Step>) =
        sources.steps.into_iter().partition(is_new_table);
    plan.steps.extend(tables);
    users::plan(&mut plan, desired, observed, circumstances);
    database::comment(&mut plan, desired, observed);
    plan.steps.extend(others);
    plan.refusals.extend(sources.refusals);
    orphans::plan(&mut plan, observed, circumstances);
    plan
}

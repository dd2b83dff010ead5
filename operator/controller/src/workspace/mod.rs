//! The reconcile of a workspace and everything that names it, in stages that cannot be skipped, since
//! each takes what the one before gives: observe, give access, execute, check pipes, report.

mod access;
mod agenda;
mod checks;
mod conclusions;
mod endpoints;
mod events;
mod execute;
mod farewell;
mod findings;
mod holding;
mod issuing;
mod observe;
mod orphans;
mod paused;
mod pending;
mod placement;
mod reconciler;
mod release;
mod replicas;
mod report;
mod settings;
#[cfg(test)]
mod tests;
mod token_faults;

pub(crate) use reconciler::Workspaces;
pub(crate) use replicas::Executor;
pub(crate) use settings::Settings;

//! The reconcile of a workspace and everything that names it, in stages that cannot be skipped, since
//! each takes what the one before gives: observe, give access, execute, check pipes, report.

mod access;
mod agenda;
mod checks;
mod conclusions;
mod deletions;
mod ended_workspaces;
mod events;
mod execute;
mod finalizers;
mod findings;
mod issuing;
mod observe;
mod orphans;
mod paused;
mod pending;
mod pipe_states;
mod placement;
mod reconciler;
mod replicas;
mod report;
mod settings;
#[cfg(test)]
mod tests;
mod token_faults;

pub(crate) use reconciler::Workspaces;
pub(crate) use replicas::Executor;
pub(crate) use settings::Settings;

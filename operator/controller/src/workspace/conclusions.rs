//! What follows from a pass besides statuses: what became of data that goes, what is logged, and
//! whether another attempt may help.

use crate::workspace::deletions::{self, Fate};
use crate::workspace::findings::waits_for_a_person;
use crate::workspace::pipe_states::{Checked, PipeState};
use crate::workspace::replicas::OnReplica;
use aviary_crds::conditions::Reason;
use aviary_plan::ObjectKey;
use aviary_runtime::ObjectName;

impl Checked {
    /// What became of the data of a data source that is gone or goes.
    pub(crate) fn fate(&self, owner: &str) -> Fate {
        match self.executed.observed.rejections.get(&ObjectKey::Workspace) {
            Some(fault) if fault.reason == Reason::OwnedByAnother => {
                Fate::Left(fault.message.clone())
            }
            Some(fault) => Fate::NotYet(fault.clone()),
            None => deletions::fate(owner, &self.executed.outcomes),
        }
    }

    /// What was done and what went wrong on each replica; a pass without either says nothing.
    pub(crate) fn log(&self) {
        let workspace = ObjectName::of(&*self.executed.observed.workspace);
        for OnReplica { name, work, .. } in &self.executed.outcomes {
            match work {
                Ok(work) if !work.done.is_empty() || !work.failures.is_empty() => {
                    let (done, failed) = (work.done.len(), work.failures.len());
                    tracing::info!(%workspace, replica = name, done, failed, "converged");
                }
                Ok(_) => {}
                Err(fault) => {
                    let reason = fault.reason.as_str();
                    tracing::info!(%workspace, replica = name, reason, "could not converge yet");
                }
            }
        }
    }

    /// What another attempt may cure without anything having changed in Kubernetes.
    pub(crate) fn trouble(&self) -> Option<Reason> {
        let works = self.executed.outcomes.iter().map(|outcome| &outcome.work);
        let in_work = works.filter_map(|work| match work {
            Ok(work) => work.failures.first().map(|failed| failed.fault.reason),
            Err(fault) => Some(fault.reason),
        });
        let in_pipes = self.pipe_states.values().filter_map(|one| match one {
            PipeState::Bad(fault) if !waits_for_a_person(fault.reason) => Some(fault.reason),
            PipeState::Bad(_) | PipeState::Checking | PipeState::Good(_) => None,
        });
        // A Secret that could not be made yet; what a person must mend is not tried again for it.
        let in_tokens = self
            .executed
            .observed
            .rejections
            .iter()
            .filter_map(|(key, fault)| {
                let is_token = matches!(key, ObjectKey::AccessToken(_));
                (is_token && fault.reason == Reason::DependencyNotReady).then_some(fault.reason)
            });
        let in_workspace = self
            .executed
            .observed
            .rejections
            .get(&ObjectKey::Workspace)
            .map(|fault| fault.reason);
        let retried = |reason: &Reason| *reason == Reason::CredentialsInvalid;
        in_work
            .chain(in_pipes)
            .chain(in_tokens)
            .chain(in_workspace.filter(retried))
            .next()
    }
}

//! Runs the steps of a plan, one after another, and says of each what became of it.

use crate::error::ClickHouseError;
use crate::replica::Replica;
use aviary_plan::planner::Action;
use aviary_plan::{ObjectKey, Plan, Scope, Statement, Step};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a replica may take to say that it is there, after a statement got no answer.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// How far a plan may be carried out.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// No step is begun after this.
    pub end: Instant,
    /// Asked right before each statement: whether the caller may still change anything.
    pub may_change: &'a (dyn Fn() -> bool + Send + Sync),
}

impl Bounds<'static> {
    /// For a caller without rivals: this much time to begin steps in.
    pub fn within(time: Duration) -> Self {
        Self {
            end: Instant::now() + time,
            may_change: &|| true,
        }
    }
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Index of the step in the plan.
    pub step: usize,
    /// Whether it was done.
    pub result: Result<(), Failure>,
}

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// ClickHouse, or the way there.
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    /// An earlier step failed that this one needs.
    #[error("waits for an earlier step: {cause}")]
    Skipped {
        /// What happened to the earlier step.
        cause: ClickHouseError,
    },
    /// The time for the plan was over.
    #[error("not begun yet: what came before took all the time there was")]
    NotBegun,
    /// The caller may not change anything any more.
    #[error("stopped: another operator may be at work by now")]
    Stopped,
}

impl Replica {
    /// Runs the plan. A step that fails takes along what its scope says; a replica
    /// that is gone, all that follow.
    pub async fn execute(&self, plan: &Plan, bounds: &Bounds<'_>) -> Vec<Outcome> {
        let mut fatal: Option<ClickHouseError> = None;
        let mut failed: BTreeMap<&ObjectKey, ClickHouseError> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            let waits_for = failed
                .get(&step.object)
                .filter(|_| step.scope == Scope::Object);
            let cause = fatal.as_ref().or(waits_for).cloned();
            let result = match cause {
                Some(cause) => Err(Failure::Skipped { cause }),
                None if Instant::now() >= bounds.end => Err(Failure::NotBegun),
                None => self.execute_step(step, bounds).await,
            };
            if let Err(Failure::ClickHouse(error)) = &result {
                if error.is_about_the_replica() || step.scope == Scope::Foundation {
                    fatal = Some(error.clone());
                } else if step.scope == Scope::Object && step.object != ObjectKey::Workspace {
                    failed.insert(&step.object, error.clone());
                }
            }
            outcomes.push(Outcome {
                step: index,
                result,
            });
        }
        outcomes
    }

    async fn execute_step(&self, step: &Step, bounds: &Bounds<'_>) -> Result<(), Failure> {
        for statement in step.statements() {
            if !(bounds.may_change)() {
                return Err(Failure::Stopped);
            }
            tracing::debug!(replica = self.name(), %statement, "run");
            let settings = self.settings(&step.action);
            match self.execute_statement(&statement, settings).await {
                Err(ClickHouseError::TimedOut { replica, deadline }) => {
                    return Err(self.slow_or_gone(replica, deadline).await.into());
                }
                result => result?,
            }
        }
        if let Action::CreateDatabase { .. } = step.action {
            self.server.made(&step.database);
        }
        Ok(())
    }

    /// What an action needs of the server besides what all do.
    fn settings(&self, action: &Action) -> &'static [(&'static str, &'static str)] {
        match action {
            // By itself ClickHouse would delete what has expired within the second of the edit.
            Action::ModifyTtl { .. } => &[("materialize_ttl_after_modify", "0")],
            // Who consents to a drop consents to its size.
            Action::DropTable { .. } | Action::DropDatabase { .. }
                if self.server.lifts_drop_limits() =>
            {
                &[
                    ("max_table_size_to_drop", "0"),
                    ("max_partition_size_to_drop", "0"),
                ]
            }
            _ => &[],
        }
    }

    /// What a statement without an answer says: of itself if the replica is there, else of that.
    async fn slow_or_gone(&self, replica: String, deadline: Duration) -> ClickHouseError {
        if self.is_there(SIGN_OF_LIFE).await {
            ClickHouseError::Slow { deadline }
        } else {
            ClickHouseError::TimedOut { replica, deadline }
        }
    }

    /// DDL waits for nobody: a replica or mutation that hangs must not hang us.
    async fn execute_statement(
        &self,
        statement: &Statement,
        settings: &[(&'static str, &str)],
    ) -> Result<(), ClickHouseError> {
        let sql = statement.text();
        let mut query = self
            .query(sql)
            .with("alter_sync", "0")
            .with("mutations_sync", "0")
            .with("max_query_size", (sql.len() + (256 << 10)).to_string());
        for (name, value) in settings {
            query = query.with(*name, *value);
        }
        self.run(query).await.map_err(|error| {
            if statement.is_sensitive() {
                error.without_secrets()
            } else {
                error
            }
        })
    }
}

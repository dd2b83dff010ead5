//! Runs the steps of a plan, one after another, and says of each what became of it.

use crate::error::ClickHouseError;
use crate::replica::Replica;
use aviary_plan::plan::Action;
use aviary_plan::{ObjectKey, Plan, Statement, Step};
use std::collections::BTreeMap;

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
}

impl Replica {
    /// Runs the plan. A step that fails takes the later ones of its object with
    /// it; one of the workspace, or a replica that is gone, all that follow.
    pub async fn execute(&self, plan: &Plan) -> Vec<Outcome> {
        let mut fatal: Option<ClickHouseError> = None;
        let mut failed: BTreeMap<&ObjectKey, ClickHouseError> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            let cause = fatal.as_ref().or_else(|| failed.get(&step.object)).cloned();
            let result = match cause {
                Some(cause) => Err(Failure::Skipped { cause }),
                None => self.execute_step(step).await.map_err(|error| {
                    if error.is_about_the_replica() || step.is_foundation() {
                        fatal = Some(error.clone());
                    } else if step.object != ObjectKey::Workspace {
                        failed.insert(&step.object, error.clone());
                    }
                    Failure::ClickHouse(error)
                }),
            };
            outcomes.push(Outcome {
                step: index,
                result,
            });
        }
        outcomes
    }

    async fn execute_step(&self, step: &Step) -> Result<(), ClickHouseError> {
        for statement in step.statements() {
            tracing::debug!(replica = self.name(), %statement, "run");
            self.execute_statement(&statement).await?;
        }
        if let Action::CreateDatabase { .. } = step.action {
            self.memory.made(&step.database);
        }
        Ok(())
    }

    /// DDL waits for nobody: a replica or mutation that hangs must not hang us.
    async fn execute_statement(&self, statement: &Statement) -> Result<(), ClickHouseError> {
        let sql = statement.text();
        let query = self
            .query(sql)
            .with_setting("alter_sync", "0")
            .with_setting("mutations_sync", "0")
            .with_setting("max_query_size", (sql.len() + (256 << 10)).to_string());
        self.run(query).await.map_err(|error| {
            if statement.is_sensitive() {
                error.without_secrets()
            } else {
                error
            }
        })
    }
}

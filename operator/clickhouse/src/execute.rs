//! Runs the steps of a plan, one after another, and says of each what became of it.

use crate::error::ClickHouseError;
use crate::replica::Replica;
use aviary_plan::plan::Action;
use aviary_plan::{ObjectKey, Plan, Scope, Statement, Step};
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
    /// Runs the plan. A step that fails takes along what its scope says; a replica
    /// that is gone, all that follow.
    pub async fn execute(&self, plan: &Plan) -> Vec<Outcome> {
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
                None => self.execute_step(step).await.map_err(|error| {
                    if error.is_about_the_replica() || step.scope == Scope::Foundation {
                        fatal = Some(error.clone());
                    } else if step.scope == Scope::Object && step.object != ObjectKey::Workspace {
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
            self.execute_statement(&statement, self.settings(&step.action))
                .await?;
        }
        if let Action::CreateDatabase { .. } = step.action {
            self.memory.made(&step.database);
        }
        Ok(())
    }

    /// What an action needs of the server besides what all do.
    fn settings(&self, action: &Action) -> &'static [(&'static str, &'static str)] {
        match action {
            // By itself ClickHouse would delete what has expired within the second of the edit.
            Action::ModifyTtl { .. } => &[("materialize_ttl_after_modify", "0")],
            // Who consents to a drop consents to its size.
            Action::DropTable { .. } | Action::DropDatabase if self.memory.lifts_drop_limits() => {
                &[
                    ("max_table_size_to_drop", "0"),
                    ("max_partition_size_to_drop", "0"),
                ]
            }
            _ => &[],
        }
    }

    /// DDL waits for nobody: a replica or mutation that hangs must not hang us.
    async fn execute_statement(
        &self,
        statement: &Statement,
        settings: &[(&str, &str)],
    ) -> Result<(), ClickHouseError> {
        let sql = statement.text();
        let mut query = self
            .query(sql)
            .with_setting("alter_sync", "0")
            .with_setting("mutations_sync", "0")
            .with_setting("max_query_size", (sql.len() + (256 << 10)).to_string());
        for (name, value) in settings {
            query = query.with_setting(*name, *value);
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

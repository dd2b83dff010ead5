//! What the planner must know besides the two catalogs.

use crate::consent::Consents;
use crate::model::WorkspaceModel;
use std::collections::{BTreeMap, BTreeSet};

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

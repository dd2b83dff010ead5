//! What the objects of a workspace were last published as: all that planning knows of
//! the past, apart from what it finds in ClickHouse. Where nothing was live before, as
//! for manifests on their own, it is empty.

use crate::objects::WorkspaceObjects;
use std::collections::{BTreeMap, BTreeSet};

/// What was live, by the uid of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastPublished {
    /// The names in SQL of data sources and pipes.
    pub names: BTreeMap<String, String>,
    /// The columns of data sources.
    pub columns: BTreeMap<String, BTreeSet<String>>,
    /// The Secrets of access tokens.
    pub secrets: BTreeMap<String, String>,
}

impl LastPublished {
    /// What the status of the objects tells.
    pub fn of(objects: &WorkspaceObjects) -> Self {
        let mut last = Self::default();
        for source in &objects.data_sources {
            let status = source.status.as_ref();
            let published = status.and_then(|status| status.published.as_ref());
            if let (Some(uid), Some(published)) = (&source.metadata.uid, published) {
                let columns = published.columns.iter().map(|column| column.name.clone());
                last.names.insert(uid.clone(), published.name.clone());
                last.columns.insert(uid.clone(), columns.collect());
            }
        }
        for pipe in &objects.pipes {
            let status = pipe.status.as_ref();
            let published = status.and_then(|status| status.published.as_ref());
            if let (Some(uid), Some(published)) = (&pipe.metadata.uid, published) {
                last.names.insert(uid.clone(), published.name.clone());
            }
        }
        for token in &objects.access_tokens {
            let status = token.status.as_ref();
            let secret = status.and_then(|status| status.secret_name.as_ref());
            if let (Some(uid), Some(secret)) = (&token.metadata.uid, secret) {
                last.secrets.insert(uid.clone(), secret.clone());
            }
        }
        last
    }
}

//! Consent to a destruction: the word of the object itself, as it is when it is deleted.
//!
//! Data is dropped only on a [`Consent`], and there are two ways to one: a version of
//! the object that has a deletion timestamp and the policy `Delete` both at once, or
//! the record of such a consent that could not be carried out yet. What stands in
//! ClickHouse is older than the object and consents to nothing; it can only veto, by
//! saying that the data is somebody else's.

use crate::comment::{Comment, OwnerKind, Ownership};
use aviary_crds::clickhouse_cluster::PendingDrop;
use aviary_crds::{DataSource, DeletionPolicy, Workspace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// Somebody's word that what he owned shall be destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    kind: OwnerKind,
    owner: String,
}

impl Consent {
    /// What a workspace says of its database while it is being deleted.
    pub fn of_workspace(workspace: &Workspace) -> Option<Self> {
        let owner = given(&workspace.metadata, workspace.spec.deletion_policy)?;
        Some(Self {
            kind: OwnerKind::Workspace,
            owner,
        })
    }

    /// What a data source says of its tables while it is being deleted.
    pub fn of_data_source(source: &DataSource) -> Option<Self> {
        let owner = given(&source.metadata, source.spec.deletion_policy)?;
        Some(Self {
            kind: OwnerKind::DataSource,
            owner,
        })
    }

    /// A consent that was given earlier and could not be carried out then.
    pub fn recorded(record: &PendingDrop) -> Self {
        Self {
            kind: match record.table {
                Some(_) => OwnerKind::DataSource,
                None => OwnerKind::Workspace,
            },
            owner: record.owner_uid.clone(),
        }
    }

    /// The uid of the object that gave it.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    fn is_about(&self, ownership: &Ownership) -> bool {
        self.kind == ownership.kind && self.owner == ownership.owner
    }
}

/// The uid of an object that is being deleted and says in the same version that its data
/// goes with it.
fn given(metadata: &ObjectMeta, policy: DeletionPolicy) -> Option<String> {
    let consents = metadata.deletion_timestamp.is_some() && policy == DeletionPolicy::Delete;
    let uid = metadata.uid.clone().filter(|uid| !uid.is_empty())?;
    consents.then_some(uid)
}

/// All consents that concern a workspace, by the uid of who gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consents(BTreeMap<String, Consent>);

impl Consents {
    /// The consent to destroy what has this comment.
    pub fn to_destroy(&self, comment: &Comment) -> Option<&Consent> {
        let ownership = comment.ownership()?;
        let consent = self.0.get(&ownership.owner)?;
        consent.is_about(ownership).then_some(consent)
    }
}

impl Extend<Consent> for Consents {
    fn extend<T: IntoIterator<Item = Consent>>(&mut self, consents: T) {
        let consents = consents.into_iter();
        self.0
            .extend(consents.map(|consent| (consent.owner.clone(), consent)));
    }
}

impl FromIterator<Consent> for Consents {
    fn from_iter<T: IntoIterator<Item = Consent>>(consents: T) -> Self {
        let mut all = Self::default();
        all.extend(consents);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::objects;

    /// Of a workspace and a data source with this in their metadata and specs.
    fn given(metadata: &str, spec: &str) -> (Option<Consent>, Option<Consent>) {
        let manifests = format!(
            "
kind: Workspace
metadata: {{name: shop, uid: w{metadata}}}
spec: {{clusterRef: {{name: shared}}{spec}}}
---
kind: DataSource
metadata: {{name: my-sales, uid: s{metadata}}}
spec: {{workspace: shop, columns: [{{name: id, type: Int32}}]{spec}}}
"
        );
        let objects = objects("acme", &manifests);
        (
            Consent::of_workspace(&objects.workspace),
            Consent::of_data_source(&objects.data_sources[0]),
        )
    }

    #[test]
    fn one_version_says_both() {
        let deleted = ", deletionTimestamp: '2026-01-01T00:00:00Z'";
        let (delete, retain) = (", deletionPolicy: Delete", ", deletionPolicy: Retain");
        for (metadata, spec) in [("", delete), (deleted, retain), (deleted, "")] {
            assert_eq!(given(metadata, spec), (None, None), "{metadata}{spec}");
        }
        let (workspace, source) = given(deleted, delete);
        assert_eq!(workspace.unwrap().owner(), "w");
        assert_eq!(source.unwrap().owner(), "s");
    }

    /// Whatever the comment says of a policy.
    #[test]
    fn a_comment_vetoes_and_never_consents() {
        let consents = Consents::from_iter([Consent {
            kind: OwnerKind::DataSource,
            owner: "s".to_owned(),
        }]);
        let comment = |owner: &str, kind, deletion| Comment::Owned {
            ownership: Ownership {
                owner: owner.to_owned(),
                kind,
                name: "acme/sales".to_owned(),
                deletion,
                kubernetes: String::new(),
                spec: String::new(),
                credentials: String::new(),
            },
            description: None,
        };
        for policy in [DeletionPolicy::Delete, DeletionPolicy::Retain] {
            for (owner, kind, expected) in [
                ("s", OwnerKind::DataSource, true),
                ("", OwnerKind::DataSource, false),
                ("another", OwnerKind::DataSource, false),
                ("s", OwnerKind::Workspace, false),
            ] {
                let comment = comment(owner, kind, policy);
                assert_eq!(consents.to_destroy(&comment).is_some(), expected);
                assert_eq!(Consents::default().to_destroy(&comment), None);
            }
        }
        let foreign = Comment::Foreign("mine".to_owned());
        assert_eq!(consents.to_destroy(&foreign), None);
    }
}

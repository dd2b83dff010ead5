//! Consents that could not be carried out in time. They stand in the status of the cluster, where
//! they outlive the objects that gave them and are seen until the data is gone.

use crate::index::Members;
use crate::kubernetes::Kubernetes;
use aviary_crds::clickhouse_cluster::PendingDrop;
use aviary_crds::names::sql_name;
use aviary_crds::{ClickHouseCluster, DataSource, Workspace};
use aviary_plan::{Consent, Consents};
use aviary_runtime::ObjectName;
use aviary_runtime::kubernetes::KubernetesError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use std::collections::BTreeSet;

/// More than these a status does not hold.
const MOST: usize = 256;
/// Bytes of a reason that a status holds.
const LONGEST_REASON: usize = 300;

/// What is to be changed in the list of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// To be written down, or with another reason than before.
    pub(crate) written: Vec<PendingDrop>,
    /// Uids of owners whose data is gone, or is somebody else's by now.
    pub(crate) struck: BTreeSet<String>,
}

/// What is written down on the cluster for a workspace and what was in it.
pub(crate) fn pending(
    cluster: Option<&ClickHouseCluster>,
    workspace: &ObjectName,
) -> Vec<PendingDrop> {
    let status = cluster.and_then(|cluster| cluster.status.as_ref());
    let all = status.into_iter().flat_map(|status| &status.pending_drops);
    let workspace = workspace.to_string();
    all.filter(|drop| drop.workspace == workspace)
        .cloned()
        .collect()
}

/// All consents that concern a workspace: of data sources that are being deleted, and those that
/// are written down.
pub(crate) fn consents(pending: &[PendingDrop], members: &Members) -> Consents {
    let sources = members.data_sources.iter();
    let given = sources.filter_map(|source| Consent::of_data_source(source));
    pending.iter().map(Consent::recorded).chain(given).collect()
}

/// Changes the list in the status; gives back what there is no place for.
pub(crate) async fn amend(
    kubernetes: &Kubernetes,
    cluster: &ObjectName,
    changes: Changes,
) -> Result<Vec<PendingDrop>, KubernetesError> {
    let Some(cluster) = kubernetes.index().cluster(cluster) else {
        return Ok(changes.written);
    };
    let mut status = cluster.status.clone().unwrap_or_default();
    let (list, left) = amended(std::mem::take(&mut status.pending_drops), changes);
    status.pending_drops = list;
    kubernetes.patch_status(&*cluster, &status).await?;
    Ok(left)
}

fn amended(mut list: Vec<PendingDrop>, changes: Changes) -> (Vec<PendingDrop>, Vec<PendingDrop>) {
    list.retain(|one| !changes.struck.contains(&one.owner_uid));
    let mut left = Vec::new();
    for mut drop in changes.written {
        let end = drop.why.floor_char_boundary(LONGEST_REASON);
        drop.why.truncate(end);
        let known = list.iter().position(|one| one.owner_uid == drop.owner_uid);
        match known {
            Some(known) => list[known] = drop,
            None if list.len() < MOST => list.push(drop),
            None => left.push(drop),
        }
    }
    (list, left)
}

/// What is to be written down of a workspace that is being deleted.
pub(crate) fn of_workspace(workspace: &Workspace, database: &str, why: &str) -> PendingDrop {
    let name = ObjectName::of(workspace).to_string();
    of(&workspace.metadata, &name, &name, database, None, why)
}

/// What is to be written down of a data source that is being deleted.
pub(crate) fn of_data_source(source: &DataSource, database: &str, why: &str) -> PendingDrop {
    let name = ObjectName::of(source);
    let workspace = ObjectName::new(&name.namespace, &source.spec.workspace).to_string();
    let table = sql_name(source.spec.name.as_deref(), &source.name_any());
    let name = name.to_string();
    of(
        &source.metadata,
        &name,
        &workspace,
        database,
        Some(table),
        why,
    )
}

fn of(
    metadata: &ObjectMeta,
    owner: &str,
    workspace: &str,
    database: &str,
    table: Option<String>,
    why: &str,
) -> PendingDrop {
    PendingDrop {
        owner_uid: metadata.uid.clone().unwrap_or_default(),
        owner: owner.to_owned(),
        workspace: workspace.to_owned(),
        database: database.to_owned(),
        table,
        consented_at: metadata.deletion_timestamp.clone(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(uid: &str, why: &str) -> PendingDrop {
        let metadata = ObjectMeta {
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        };
        of(&metadata, "shop/s", "shop/orders", "shop_orders", None, why)
    }

    #[test]
    fn each_owner_stands_once_until_it_is_struck_out() {
        let written = |drops: Vec<PendingDrop>| Changes {
            written: drops,
            ..Changes::default()
        };
        let (list, _) = amended(Vec::new(), written(vec![drop("a", "1"), drop("b", "1")]));
        let (list, _) = amended(list, written(vec![drop("a", "2")]));
        assert_eq!(list, [drop("a", "2"), drop("b", "1")]);
        let struck = Changes {
            struck: BTreeSet::from(["a".to_owned()]),
            ..Changes::default()
        };
        let (list, left) = amended(list, struck);
        assert_eq!((list, left), (vec![drop("b", "1")], Vec::new()));
    }

    #[test]
    fn the_list_and_its_reasons_have_bounds() {
        let many = (0..=MOST).map(|it| drop(&it.to_string(), &"ü".repeat(500)));
        let changes = Changes {
            written: many.collect(),
            ..Changes::default()
        };
        let (list, left) = amended(Vec::new(), changes);
        assert_eq!((list.len(), left.len()), (MOST, 1));
        assert!(list.iter().all(|it| it.why.len() <= LONGEST_REASON));
    }
}

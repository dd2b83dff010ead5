//! The controller behind the default StorageClass: a volume for every claim,
//! a bigger one when the claim asks, none when the claim is gone.
//!
//! It follows the protocol of external provisioners and resizers: Kubernetes
//! marks a claim with the provisioner and, once a pod wants it, with the node;
//! this makes a `local` PersistentVolume for the claim, and Kubernetes binds it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tracing::{info, warn};

use super::client::client;
use super::layout::NODE_NAME;
use super::quantity;
use super::volumes::Volumes;

/// The provisioner's name in the StorageClass.
pub(crate) const PROVISIONER: &str = "aviary.dev/box";

const WANTED: &str = "volume.kubernetes.io/storage-provisioner";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// What both controllers work with.
struct Controllers {
    client: Client,
    volumes: Volumes,
    recorder: Recorder,
}

/// Run until SIGTERM.
pub async fn run(kubeconfig: &Path, folder: PathBuf) -> Result<()> {
    let client = client(kubeconfig).await?;
    let volumes = Volumes::new(folder);
    recover(&client, &volumes).await?;

    let recorder = Recorder::new(client.clone(), Reporter::from("aviary-box-provisioner"));
    let context = Arc::new(Controllers {
        client: client.clone(),
        volumes,
        recorder,
    });
    let claims = Api::<PersistentVolumeClaim>::all(client.clone());
    let claims = Controller::new(claims, watcher::Config::default())
        .shutdown_on_signal()
        .run(reconcile_claim, retry, context.clone())
        .for_each(|_| async {});
    let disks = Controller::new(
        Api::<PersistentVolume>::all(client),
        watcher::Config::default(),
    )
    .shutdown_on_signal()
    .run(reconcile_volume, retry, context)
    .for_each(|_| async {});
    futures::join!(claims, disks);
    Ok(())
}

/// After a reboot or a killed run: mount what is in use, and remove what was
/// made for claims that are gone.
async fn recover(client: &Client, volumes: &Volumes) -> Result<()> {
    // Claims first: one that is made in between has its volume made later.
    let names = volumes.names();
    let claims = Api::<PersistentVolumeClaim>::all(client.clone());
    let claims = claims
        .list(&ListParams::default())
        .await
        .context("list claims")?;
    let disks = Api::<PersistentVolume>::all(client.clone());
    let disks = disks
        .list(&ListParams::default())
        .await
        .context("list volumes")?;
    let in_use: BTreeSet<String> = disks
        .iter()
        .filter(|disk| is_ours(disk))
        .map(ResourceExt::name_any)
        .collect();
    let wanted: BTreeSet<String> = claims.iter().filter_map(volume_name).collect();
    for name in names {
        if in_use.contains(&name) {
            volumes.mount(&name).await?;
        } else if !wanted.contains(&name) {
            info!(volume = name, "removing the volume of a claim that is gone");
            volumes.destroy(&name).await?;
        }
    }
    Ok(())
}

async fn reconcile_claim(
    claim: Arc<PersistentVolumeClaim>,
    context: Arc<Controllers>,
) -> Result<Action, Failure> {
    let outcome = if is_to_provision(&claim) {
        provision(&claim, &context).await
    } else {
        grow(&claim, &context).await
    };
    if let Err(error) = &outcome {
        let note = format!("{error:#}");
        context
            .tell(&claim, EventType::Warning, "ProvisioningFailed", note)
            .await;
    }
    outcome?;
    Ok(Action::await_change())
}

async fn reconcile_volume(
    disk: Arc<PersistentVolume>,
    context: Arc<Controllers>,
) -> Result<Action, Failure> {
    let phase = disk
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let policy = disk
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    if is_ours(&disk) && phase == Some("Released") && policy == Some("Delete") {
        remove(&disk, &context).await?;
    }
    Ok(Action::await_change())
}

async fn remove(disk: &PersistentVolume, context: &Controllers) -> Result<()> {
    let name = disk.name_any();
    context.volumes.destroy(&name).await?;
    let disks = Api::<PersistentVolume>::all(context.client.clone());
    match disks.delete(&name, &DeleteParams::default()).await {
        Err(error) if !is_status(&error, 404) => Err(error).context("delete the volume"),
        _ => {
            info!(volume = name, "deleted");
            Ok(())
        }
    }
}

async fn provision(claim: &PersistentVolumeClaim, context: &Controllers) -> Result<()> {
    let spec = claim.spec.as_ref().context("the claim has no spec")?;
    if spec.volume_mode.as_deref() == Some("Block") {
        bail!("volumeMode Block is not to be had: only filesystems are");
    }
    let name = volume_name(claim).context("the claim has no uid")?;
    let (size, bytes) = requested(claim)?;
    context.volumes.create(&name, bytes).await?;
    let path = context.volumes.published_path(&name);
    let disk: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": {"storage": size},
            "claimRef": claim.object_ref(&()),
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]},
            ]}]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec.storage_class_name,
            "volumeMode": "Filesystem",
        },
    }))
    .context("describe the volume")?;
    let disks = Api::<PersistentVolume>::all(context.client.clone());
    match disks.create(&PostParams::default(), &disk).await {
        Ok(_) => {
            info!(volume = name, size, "provisioned");
            let note = format!("provisioned {name} of {size}");
            context
                .tell(claim, EventType::Normal, "ProvisioningSucceeded", note)
                .await;
            Ok(())
        }
        Err(error) if is_status(&error, 409) => Ok(()),
        Err(error) => Err(error).context("create the volume"),
    }
}

/// Give a bound claim the size it asks for, while pods use it.
async fn grow(claim: &PersistentVolumeClaim, context: &Controllers) -> Result<()> {
    let Some(name) = bound_volume(claim) else {
        return Ok(());
    };
    let (size, bytes) = requested(claim)?;
    let capacity = claim
        .status
        .as_ref()
        .and_then(|status| status.capacity.as_ref()?.get("storage"));
    let Some(capacity) = capacity.and_then(|capacity| quantity::bytes(&capacity.0)) else {
        return Ok(());
    };
    if bytes <= capacity {
        return Ok(());
    }
    let disks = Api::<PersistentVolume>::all(context.client.clone());
    let disk = disks.get(name).await.context("get the volume")?;
    if !is_ours(&disk) {
        return Ok(());
    }
    context.volumes.grow(name, bytes).await?;
    let capacity = json!({"capacity": {"storage": size}});
    let parameters = PatchParams::default();
    disks
        .patch(name, &parameters, &Patch::Merge(json!({"spec": capacity})))
        .await
        .context("note the volume's size")?;
    let namespace = claim.namespace().unwrap_or_default();
    Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &namespace)
        .patch_status(
            &claim.name_any(),
            &parameters,
            &Patch::Merge(json!({"status": capacity})),
        )
        .await
        .context("note the claim's size")?;
    info!(volume = name, size, "grown");
    let note = format!("grew {name} to {size}");
    context
        .tell(claim, EventType::Normal, "VolumeResizeSuccessful", note)
        .await;
    Ok(())
}

impl Controllers {
    /// Events only tell people; a lost one must not undo the work.
    async fn tell(
        &self,
        claim: &PersistentVolumeClaim,
        kind: EventType,
        reason: &str,
        note: String,
    ) {
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Provision".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &claim.object_ref(&())).await {
            warn!(%error, "event not published");
        }
    }
}

/// An error as the controller runtime wants it.
#[derive(Debug)]
struct Failure(anyhow::Error);

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:#}", self.0)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

fn retry<K: Resource>(object: Arc<K>, failure: &Failure, _: Arc<Controllers>) -> Action
where
    K::DynamicType: Default,
{
    warn!(name = object.name_any(), %failure, "will try again");
    Action::requeue(Duration::from_secs(2))
}

/// Whether Kubernetes waits for this provisioner: it has named it, and a pod
/// that wants the claim has been given a node.
fn is_to_provision(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.annotations();
    let unbound = claim
        .spec
        .as_ref()
        .is_some_and(|spec| spec.volume_name.is_none());
    unbound
        && claim.metadata.deletion_timestamp.is_none()
        && annotations
            .get(WANTED)
            .is_some_and(|name| name == PROVISIONER)
        && annotations
            .get(SELECTED_NODE)
            .is_some_and(|node| node == NODE_NAME)
}

fn bound_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    let bound = claim.status.as_ref()?.phase.as_deref() == Some("Bound");
    claim
        .spec
        .as_ref()?
        .volume_name
        .as_deref()
        .filter(|_| bound)
}

/// The name of a volume follows from its claim, so that a repeated attempt finds it.
fn volume_name(claim: &PersistentVolumeClaim) -> Option<String> {
    Some(format!("pvc-{}", claim.uid()?))
}

fn is_ours(disk: &PersistentVolume) -> bool {
    disk.annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|name| name == PROVISIONER)
}

fn requested(claim: &PersistentVolumeClaim) -> Result<(String, u64)> {
    let size = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"))
        .context("the claim asks for no size")?;
    let bytes = quantity::bytes(&size.0).ok_or_else(|| anyhow!("`{}` is no size", size.0))?;
    Ok((size.0.clone(), bytes))
}

fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

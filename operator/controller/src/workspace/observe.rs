//! The first stage of a pass: what the objects of a workspace say together, and what of it is refused.

use crate::index::Members;
use crate::workspace::findings::Fault;
use crate::workspace::settings::Settings;
use aviary_crds::Workspace;
use aviary_plan::{LastPublished, ObjectKey, Rejection, WorkspaceModel, WorkspaceObjects, model};
use aviary_runtime::ObjectName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A workspace with everything that names it, and what that comes to.
pub(crate) struct Observed {
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) members: Members,
    pub(crate) model: WorkspaceModel,
    /// Faults found so far, by object.
    pub(crate) rejections: BTreeMap<ObjectKey, Fault>,
}

/// Looks at the objects of a workspace.
pub(crate) fn observe(
    settings: &Settings,
    workspace: Arc<Workspace>,
    members: Members,
) -> Observed {
    let model = model_of(settings, &workspace, &members);
    let mut observed = Observed {
        rejections: BTreeMap::new(),
        workspace,
        members,
        model,
    };
    observed.reject(observed.model.rejections.clone());
    observed
}

impl Observed {
    /// The workspace's name.
    pub(crate) fn name(&self) -> ObjectName {
        ObjectName::of(&*self.workspace)
    }

    /// The workspace as a whole cannot be worked on.
    pub(crate) fn refuse(&mut self, fault: Fault) {
        self.rejections.insert(ObjectKey::Workspace, fault);
    }

    /// Whether the workspace as a whole cannot be worked on.
    pub(crate) fn is_refused(&self) -> bool {
        self.rejections.contains_key(&ObjectKey::Workspace)
    }

    /// Objects of it cannot.
    pub(crate) fn reject(&mut self, rejections: Vec<Rejection>) {
        for one in rejections {
            let fault = Fault::new(one.reason, one.message);
            self.rejections.insert(one.object, fault);
        }
    }
}

/// What the objects say together.
pub(crate) fn model_of(
    settings: &Settings,
    workspace: &Arc<Workspace>,
    members: &Members,
) -> WorkspaceModel {
    let objects = WorkspaceObjects {
        workspace: workspace.clone(),
        data_sources: members.data_sources.clone(),
        pipes: members.pipes.clone(),
        access_tokens: members.access_tokens.clone(),
    };
    let mut model = model(&objects, &LastPublished::of(&objects));
    model.kubernetes.clone_from(&settings.kubernetes_uid);
    model
        .existing_data_sources
        .extend(members.unreadable_data_sources.iter().cloned());
    model
}

/// Whether these are the same objects with the same specs.
pub(crate) fn same(before: &Members, now: &Members) -> bool {
    fn alike<K: Resource>(before: &[Arc<K>], now: &[Arc<K>]) -> bool {
        let facts = |one: &Arc<K>| {
            let meta = one.meta();
            (
                meta.uid.clone(),
                meta.generation,
                meta.deletion_timestamp.clone(),
                meta.annotations.clone(),
            )
        };
        before.iter().map(facts).eq(now.iter().map(facts))
    }
    alike(before.workspace.as_slice(), now.workspace.as_slice())
        && alike(&before.data_sources, &now.data_sources)
        && alike(&before.pipes, &now.pipes)
        && alike(&before.access_tokens, &now.access_tokens)
}

/// Objects that are not going away; the API server would only forget what is written to others.
pub(crate) fn existing<K>(objects: &[Arc<K>], metadata: fn(&K) -> &ObjectMeta) -> Vec<Arc<K>> {
    let stays = objects
        .iter()
        .filter(|one| metadata(one).deletion_timestamp.is_none());
    stays.cloned().collect()
}

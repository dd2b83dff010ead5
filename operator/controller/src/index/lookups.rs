//! What objects are found by besides their names, so that no question goes through all of them:
//! workspaces by the Secret that publishes them, and those Secrets by the token values in them.

use aviary_crds::Workspace;
use aviary_crds::names::published_secret;
use aviary_crds::published::{ValueClaim, WorkspaceAccess};
use aviary_runtime::ObjectName;
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
pub(crate) struct Lookups {
    /// By the name of the published Secret.
    workspaces: HashMap<String, ObjectName>,
    /// By the hash of a value: the published Secrets that have a claim to it.
    claims: HashMap<String, BTreeMap<ObjectName, ValueClaim>>,
}

impl Lookups {
    pub(crate) fn note_workspace(&mut self, workspace: &Workspace, name: &ObjectName) {
        self.workspaces.insert(secret_of(workspace), name.clone());
    }

    pub(crate) fn forget_workspace(&mut self, workspace: &Workspace) {
        self.workspaces.remove(&secret_of(workspace));
    }

    pub(crate) fn note_values(&mut self, access: &WorkspaceAccess, secret: &ObjectName) {
        for (sha256, since) in access.claimed_values() {
            let claim = ValueClaim {
                since,
                secret: secret.name.clone(),
            };
            let claims = self.claims.entry(sha256.to_owned()).or_default();
            claims.entry(secret.clone()).or_insert(claim);
        }
    }

    pub(crate) fn forget_values(&mut self, access: &WorkspaceAccess, secret: &ObjectName) {
        for (sha256, _) in access.claimed_values() {
            let Some(claims) = self.claims.get_mut(sha256) else {
                continue;
            };
            claims.remove(secret);
            if claims.is_empty() {
                self.claims.remove(sha256);
            }
        }
    }

    /// The workspace that this Secret publishes.
    pub(crate) fn workspace_of(&self, secret: &ObjectName) -> Option<ObjectName> {
        self.workspaces.get(&secret.name).cloned()
    }

    /// The published Secrets that have a claim to a value.
    pub(crate) fn claimants(&self, sha256: &str) -> impl Iterator<Item = &ObjectName> {
        self.claims.get(sha256).into_iter().flat_map(BTreeMap::keys)
    }

    pub(crate) fn first_claim_of_others(
        &self,
        sha256: &str,
        secret: &ObjectName,
    ) -> Option<ValueClaim> {
        let claims = self.claims.get(sha256)?.iter();
        let others = claims.filter(|(claimant, _)| *claimant != secret);
        others.map(|(_, claim)| claim).min().cloned()
    }
}

/// Name of the Secret that publishes a workspace.
fn secret_of(workspace: &Workspace) -> String {
    published_secret(workspace.metadata.uid.as_deref().unwrap_or_default())
}

//! Which workspace a token opens: every claim to its value on the writer's side, and what readers
//! find. A change costs what the tokens it concerns cost, however many there are.

use super::object::ObjectKey;
use super::served::Opened;
use crate::rights::Principal;
use crate::token_value::{HashedAlready, TokenHash};
use arc_swap::ArcSwap;
use aviary_crds::published::{ValueClaim, WorkspaceAccess};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What each token opens, for readers.
///
/// A change copies only the parts that its tokens are in.
pub(super) struct Tokens([ArcSwap<Part>; PARTS]);

const PARTS: usize = 256;

type Part = HashMap<TokenHash, Arc<Opened>, HashedAlready>;

impl Default for Tokens {
    fn default() -> Self {
        Self(std::array::from_fn(|_| ArcSwap::default()))
    }
}

impl Tokens {
    pub(super) fn opened(&self, token: &TokenHash) -> Option<Arc<Opened>> {
        let part = self.0[part_of(token)].load();
        // Found by hash, and then compared as a whole in constant time.
        let (known, opened) = part.get_key_value(token)?;
        known.matches(token).then(|| Arc::clone(opened))
    }

    /// Takes in what these tokens open now. There is one writer at a time.
    pub(super) fn update(
        &self,
        changes: impl IntoIterator<Item = (TokenHash, Option<Arc<Opened>>)>,
    ) {
        let mut changed: BTreeMap<usize, Part> = BTreeMap::new();
        for (token, opened) in changes {
            let at = part_of(&token);
            let part = changed
                .entry(at)
                .or_insert_with(|| self.0[at].load().as_ref().clone());
            match opened {
                Some(opened) => part.insert(token, opened),
                None => part.remove(&token),
            };
        }
        for (at, part) in changed {
            self.0[at].store(Arc::new(part));
        }
    }
}

/// The last byte says it; within a part the first ones do.
fn part_of(token: &TokenHash) -> usize {
    usize::from(token.last_byte())
}

/// Every claim to a token's value, by workspace Secret.
#[derive(Default)]
pub(super) struct Claims(HashMap<TokenHash, BTreeMap<ValueClaim, Right>, HashedAlready>);

/// What a claim gives: nothing when the workspace only had the value once.
pub(super) type Right = Option<Arc<Principal>>;

/// The claims of one workspace Secret.
pub(super) type OwnClaims = Vec<(TokenHash, ValueClaim, Right)>;

/// Reads the claims in a Secret. Of several to one value the first counts.
pub(super) fn claims_of(
    key: &ObjectKey,
    access: &WorkspaceAccess,
    principals: impl IntoIterator<Item = Arc<Principal>>,
) -> OwnClaims {
    let rights = principals.into_iter().map(Some);
    let rights = rights.chain(std::iter::repeat(None));
    let mut claims: HashMap<TokenHash, (ValueClaim, Right)> = HashMap::new();
    for ((sha256, since), right) in access.claimed_values().zip(rights) {
        let claim = ValueClaim {
            since,
            secret: key.name.clone(),
        };
        if let Some(token) = TokenHash::from_hex(sha256) {
            claims.entry(token).or_insert((claim, right));
        }
    }
    let claims = claims.into_iter();
    claims
        .map(|(token, (claim, right))| (token, claim, right))
        .collect()
}

impl Claims {
    pub(super) fn add(&mut self, own: &OwnClaims) {
        for (token, claim, right) in own {
            let all = self.0.entry(*token).or_default();
            all.insert(claim.clone(), right.clone());
            if let (true, Some(late)) = (all.len() > 1, right) {
                let workspace = &late.workspace;
                tracing::warn!(
                    namespace = workspace.namespace,
                    workspace = workspace.name,
                    "a token has a value that several workspaces claim: who had it first keeps it"
                );
            }
        }
    }

    pub(super) fn remove(&mut self, own: &OwnClaims) {
        for (token, claim, _) in own {
            let Some(all) = self.0.get_mut(token) else {
                continue;
            };
            all.remove(claim);
            if all.is_empty() {
                self.0.remove(token);
            }
        }
    }

    /// Who has the value, by the least claim.
    pub(super) fn holder(&self, token: &TokenHash) -> Right {
        let (_, right) = self.0.get(token)?.first_key_value()?;
        right.clone()
    }
}

//! A token, checked: which Secret it writes, and which of its scopes mean something.

use super::claims::Claims;
use super::metadata::{object_name, precedence, uid};
use crate::last_published::LastPublished;
use crate::objects::{ObjectKey, Rejection};
use aviary_crds::conditions::Reason;
use aviary_crds::{AccessToken, Scope, ScopeType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A token that can be given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidAccessToken {
    /// Its Kubernetes name.
    pub object: String,
    /// Its uid.
    pub uid: String,
    /// The Secret that holds its value.
    pub secret_name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Resources that no object has the name of, yet. The scope grants nothing until then.
    pub missing: Vec<String>,
}

pub(super) fn check_all(
    tokens: &[Arc<AccessToken>],
    last: &LastPublished,
    claims: &Claims,
    rejections: &mut Vec<Rejection>,
) -> Vec<ValidAccessToken> {
    let secret_name = |token: &AccessToken| {
        let given = token.spec.secret_name.clone();
        given.unwrap_or_else(|| object_name(&token.metadata))
    };
    let mut by_age: Vec<&Arc<AccessToken>> = tokens.iter().collect();
    by_age.sort_by_cached_key(|token| {
        let has_it = last.secrets.get(&uid(&token.metadata)) == Some(&secret_name(token));
        precedence(&token.metadata, has_it)
    });
    let mut valid: Vec<ValidAccessToken> = Vec::new();
    let mut secrets: BTreeMap<String, String> = BTreeMap::new();
    for token in by_age {
        let object = object_name(&token.metadata);
        let secret_name = secret_name(token);
        if let Some(holder) = secrets.get(&secret_name) {
            rejections.push(Rejection {
                object: ObjectKey::AccessToken(object),
                reason: Reason::NameConflict,
                message: format!(
                    "the Secret `{secret_name}` is written by AccessToken {holder}: make this one with another secretName"
                ),
            });
            continue;
        }
        secrets.insert(secret_name.clone(), object.clone());
        let missing = token
            .spec
            .scopes
            .iter()
            .filter(|scope| !is_known(scope, claims))
            .map(|scope| scope.resource.clone())
            .collect();
        valid.push(ValidAccessToken {
            uid: uid(&token.metadata),
            secret_name,
            scopes: token.spec.scopes.clone(),
            missing,
            object,
        });
    }
    valid.sort_by(|a, b| a.object.cmp(&b.object));
    valid
}

fn is_known(scope: &Scope, claims: &Claims) -> bool {
    let holder = claims.holder(&scope.resource);
    scope.resource == "*"
        || match scope.scope_type {
            ScopeType::PipesRead => matches!(holder, Some(ObjectKey::Pipe(_))),
            ScopeType::DataSourcesAppend => matches!(holder, Some(ObjectKey::DataSource(_))),
        }
}

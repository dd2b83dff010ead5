//! The two kinds of Secrets the operator writes: one with a token's value, for people, and one a
//! workspace with passwords and token hashes, for the gateways. Pure: what they hold and decide.

use aviary_crds::names::{
    LABEL_PUBLISHED_WORKSPACE, LABEL_ROLE, LABEL_TOKEN, LABEL_WORKSPACE, PUBLISHED_SECRET_KEY,
    TOKEN_SECRET_KEY, published_secret,
};
use aviary_crds::published::WorkspaceAccess;
use aviary_crds::{AccessToken, Workspace};
use aviary_runtime::ObjectName;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The label that kubectl and dashboards show things by.
const LABEL_MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "aviary");

/// What is kept in memory of a Secret with a token's value: not the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenSecret {
    pub(crate) resource_version: Option<String>,
    /// Hash of the value, in lower-case hex, if there is one.
    pub(crate) sha256: Option<String>,
    /// Whether the value could be guessed.
    pub(crate) is_weak: bool,
    /// Uids of the `AccessToken`s that own it.
    pub(crate) owners: Vec<String>,
    /// Whether it says of itself that it holds a token.
    pub(crate) labelled: bool,
}

impl From<&Secret> for TokenSecret {
    fn from(secret: &Secret) -> Self {
        let value = secret
            .data
            .as_ref()
            .and_then(|data| data.get(TOKEN_SECRET_KEY))
            .map(|value| value.0.trim_ascii())
            .filter(|value| !value.is_empty());
        let owners = secret.metadata.owner_references.iter().flatten();
        Self {
            resource_version: secret.metadata.resource_version.clone(),
            sha256: value.map(sha256),
            is_weak: value.is_some_and(is_weak),
            owners: owners
                .filter(|owner| owner.kind == AccessToken::kind(&()))
                .map(|owner| owner.uid.clone())
                .collect(),
            labelled: secret
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(LABEL_ROLE))
                .is_some_and(|role| role == LABEL_TOKEN),
        }
    }
}

/// What to do about a token's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenDecision {
    /// It holds a value with this hash.
    Use { sha256: String },
    /// It is not there.
    Create,
    /// It is this token's and lacks the value or the label.
    Restore { keeps_value: bool },
    /// It is somebody else's.
    Conflict,
    /// It holds a value that could be guessed.
    Weak,
}

/// Characters that a value must have, and how many different ones: what a random UUID has.
/// Values that the operator makes have more.
pub(crate) const SHORTEST_VALUE: usize = 32;
pub(crate) const FEWEST_DIFFERENT: usize = 8;

/// Whether a value could be guessed: a word, a name, a pattern.
fn is_weak(value: &[u8]) -> bool {
    let different: BTreeSet<u8> = value.iter().copied().collect();
    value.len() < SHORTEST_VALUE || different.len() < FEWEST_DIFFERENT
}

/// Decides about the Secret of the token with this uid.
pub(crate) fn decide_token(token_uid: &str, secret: Option<&TokenSecret>) -> TokenDecision {
    let Some(secret) = secret else {
        return TokenDecision::Create;
    };
    let own = secret.owners.iter().any(|owner| owner == token_uid);
    let brought = secret.labelled && secret.owners.is_empty();
    match (&secret.sha256, own) {
        (Some(_), _) if secret.is_weak && (own || brought) => TokenDecision::Weak,
        (Some(sha256), true) if secret.labelled => TokenDecision::Use {
            sha256: sha256.clone(),
        },
        (value, true) => TokenDecision::Restore {
            keeps_value: value.is_some(),
        },
        // A value that somebody brought along, and says so by the label. Another token's
        // Secret is not that: one value would then open what the other token may not.
        (Some(sha256), false) if brought => TokenDecision::Use {
            sha256: sha256.clone(),
        },
        (_, false) => TokenDecision::Conflict,
    }
}

/// A Secret for a token, with a new value.
pub(crate) fn token_secret(token: &AccessToken, name: &ObjectName) -> (Secret, String) {
    let value = random_token();
    let sha256 = sha256(value.expose_secret().as_bytes());
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            labels: Some(labels([(LABEL_ROLE, LABEL_TOKEN)])),
            owner_references: token.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data(TOKEN_SECRET_KEY, value.expose_secret().as_bytes())),
        ..Secret::default()
    };
    (secret, sha256)
}

/// What is kept in memory of a Secret that publishes a workspace.
#[derive(Clone, Debug)]
pub(crate) struct PublishedSecret {
    pub(crate) resource_version: Option<String>,
    /// Hash of the document, to know whether it changes.
    pub(crate) document: Option<String>,
    /// The document, if it can be read.
    pub(crate) access: Option<WorkspaceAccess>,
}

impl From<&Secret> for PublishedSecret {
    fn from(secret: &Secret) -> Self {
        let document = secret
            .data
            .as_ref()
            .and_then(|data| data.get(PUBLISHED_SECRET_KEY))
            .map(|document| document.0.as_slice());
        Self {
            resource_version: secret.metadata.resource_version.clone(),
            document: document.map(sha256),
            access: document.and_then(|document| serde_json::from_slice(document).ok()),
        }
    }
}

/// Where the Secret that publishes a workspace is.
pub(crate) fn published_secret_name(operator_namespace: &str, workspace: &Workspace) -> ObjectName {
    let uid = workspace.metadata.uid.as_deref().unwrap_or_default();
    ObjectName::new(operator_namespace, published_secret(uid))
}

/// The Secret that publishes a workspace, and the hash of its document.
pub(crate) fn published_secret_of(
    access: &WorkspaceAccess,
    name: &ObjectName,
) -> Result<(Secret, String), serde_json::Error> {
    let document = serde_json::to_vec(access)?;
    let sha256 = sha256(&document);
    let mut labels = labels([(LABEL_ROLE, LABEL_PUBLISHED_WORKSPACE)]);
    // A label value is shorter than a name may be; the document has the names in full.
    if access.workspace.len() <= 63 {
        labels.insert(LABEL_WORKSPACE.to_owned(), access.workspace.clone());
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data(PUBLISHED_SECRET_KEY, &document)),
        ..Secret::default()
    };
    Ok((secret, sha256))
}

/// A password for a ClickHouse user: 32 random bytes.
pub(crate) fn random_password() -> SecretString {
    SecretString::from(hex::encode(rand::random::<[u8; 32]>()))
}

fn random_token() -> SecretString {
    let random = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    SecretString::from(format!("aviary_{random}"))
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn labels<const N: usize>(own: [(&str, &str); N]) -> BTreeMap<String, String> {
    own.into_iter()
        .chain([LABEL_MANAGED_BY])
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn data(key: &str, value: &[u8]) -> BTreeMap<String, ByteString> {
    BTreeMap::from([(key.to_owned(), ByteString(value.to_vec()))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn secret(value: Option<&str>, owners: &[&str], labelled: bool) -> TokenSecret {
        TokenSecret {
            resource_version: None,
            sha256: value.map(|value| sha256(value.as_bytes())),
            is_weak: value == Some("weak"),
            owners: owners.iter().map(ToString::to_string).collect(),
            labelled,
        }
    }

    fn used(value: &str) -> TokenDecision {
        TokenDecision::Use {
            sha256: sha256(value.as_bytes()),
        }
    }

    #[rstest]
    #[case::absent(None, TokenDecision::Create)]
    #[case::own(Some(secret(Some("v"), &["me"], true)), used("v"))]
    #[case::own_emptied(Some(secret(None, &["me"], true)), TokenDecision::Restore { keeps_value: false })]
    #[case::own_unlabelled(Some(secret(Some("v"), &["me"], false)), TokenDecision::Restore { keeps_value: true })]
    #[case::brought_along(Some(secret(Some("v"), &[], true)), used("v"))]
    #[case::brought_along_empty(Some(secret(None, &[], true)), TokenDecision::Conflict)]
    #[case::unrelated(Some(secret(Some("v"), &[], false)), TokenDecision::Conflict)]
    #[case::of_another_token(Some(secret(Some("v"), &["other"], true)), TokenDecision::Conflict)]
    #[case::brought_along_weak(Some(secret(Some("weak"), &[], true)), TokenDecision::Weak)]
    #[case::own_weakened(Some(secret(Some("weak"), &["me"], true)), TokenDecision::Weak)]
    #[case::unrelated_weak(Some(secret(Some("weak"), &[], false)), TokenDecision::Conflict)]
    fn decisions(#[case] secret: Option<TokenSecret>, #[case] expected: TokenDecision) {
        assert_eq!(decide_token("me", secret.as_ref()), expected);
    }

    #[test]
    fn a_token_is_long_random_and_safe_in_urls() {
        let (one, other) = (random_token(), random_token());
        assert_ne!(one.expose_secret(), other.expose_secret());
        let random = one.expose_secret().strip_prefix("aviary_").unwrap();
        assert_eq!(random.len(), 43);
        assert!(
            random
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
    }

    #[rstest]
    #[case::word("letmein", true)]
    #[case::repeated("abcabcabcabcabcabcabcabcabcabcabcabcabc", true)]
    #[case::one_short("0123456789abcdef0123456789abcde", true)]
    #[case::hex("5f4dcc3b5aa765d61d8327deb882cf99", false)]
    #[case::uuid("8c7b2a1e-90d4-4f3a-b6c5-d2e1f0a9b8c7", false)]
    fn values_that_could_be_guessed(#[case] value: &str, #[case] expected: bool) {
        assert_eq!(is_weak(value.as_bytes()), expected);
        assert!(!is_weak(random_token().expose_secret().as_bytes()));
    }

    #[test]
    fn a_published_secret_reads_back() {
        let user = |name: &str| aviary_crds::published::ClickHouseUser {
            name: name.to_owned(),
            password: random_password(),
        };
        let access = WorkspaceAccess {
            namespace: "shop".to_owned(),
            workspace: "orders".to_owned(),
            reader: user("reader"),
            writer: user("writer"),
            tokens: Vec::new(),
            former_values: Vec::new(),
            estate: None,
        };
        let (secret, document) =
            published_secret_of(&access, &ObjectName::new("aviary-system", "x")).unwrap();
        let seen = PublishedSecret::from(&secret);
        assert_eq!(seen.document, Some(document));
        assert_eq!(
            seen.access.unwrap().writer.password.expose_secret(),
            access.writer.password.expose_secret()
        );
    }
}

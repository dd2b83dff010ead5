//! Who may come in: the Secrets with tokens' values, beside their `AccessToken`s, and the Secret
//! that tells the gateways of a workspace's users and token hashes.
//!
//! Both are written before ClickHouse is asked anything. A password that ClickHouse knows and no
//! Secret holds would lock the gateways out.

use crate::context::Context;
use crate::kubernetes::KubernetesError;
use crate::names::ObjectName;
use crate::secrets::{
    FEWEST_DIFFERENT, PublishedSecret, SHORTEST_VALUE, TokenDecision, TokenSecret, decide_token,
    published_secret_name, published_secret_of, random_password, sha256, token_secret,
};
use crate::token_values::{GivenToken, Settled, settle};
use aviary_crds::conditions::Reason;
use aviary_crds::published::{ClickHouseUser, WorkspaceAccess};
use aviary_crds::{AccessToken, Workspace};
use aviary_plan::model::ValidAccessToken;
use aviary_plan::{ObjectKey, Rejection, WorkspaceModel};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::ExposeSecret;
use std::sync::Arc;

/// What gateways were told, and which tokens could not be given out.
pub(crate) struct Admitted {
    pub(crate) access: WorkspaceAccess,
    pub(crate) rejections: Vec<Rejection>,
}

/// Makes tokens and publishes them with the workspace's users.
pub(crate) async fn admit(
    context: &Context,
    workspace: &Workspace,
    model: &WorkspaceModel,
    tokens: &[Arc<AccessToken>],
) -> Result<Admitted, KubernetesError> {
    let mut given = Vec::new();
    let mut rejections = Vec::new();
    for token in &model.access_tokens {
        let object = tokens
            .iter()
            .find(|object| object.metadata.uid.as_deref() == Some(&token.uid));
        let Some(object) = object else { continue };
        match give_out(context, object, token).await {
            Ok(Given::Value(sha256)) => given.push(GivenToken {
                name: token.object.clone(),
                created: created(object),
                sha256,
                scopes: token.scopes.clone(),
            }),
            Ok(Given::Conflict) => rejections.push(conflict(token)),
            Ok(Given::Weak) => rejections.push(weak(token)),
            // One token's trouble is not the others'.
            Err(error) => match error.refusal() {
                Some(why) => rejections.push(refused(token, why)),
                None => return Err(error),
            },
        }
    }
    let (access, taken) = publish(context, workspace, model, given).await?;
    rejections.extend(taken.into_iter().map(taken_value));
    Ok(Admitted { access, rejections })
}

/// What the Secret of a token came to.
enum Given {
    /// It holds a value with this hash.
    Value(String),
    /// It is not this token's.
    Conflict,
    /// Its value could be guessed.
    Weak,
}

fn created(token: &AccessToken) -> Timestamp {
    let created = token.metadata.creation_timestamp.as_ref();
    created.map_or(Timestamp::MAX, |time| time.0)
}

fn conflict(token: &ValidAccessToken) -> Rejection {
    Rejection {
        object: ObjectKey::AccessToken(token.object.clone()),
        reason: Reason::SecretConflict,
        message: format!(
            "Secret `{}` exists and is not this token's: name another in spec.secretName, delete that Secret, or label it `aviary.dev/role: token` to use the value it holds under the key `token`",
            token.secret_name
        ),
    }
}

fn weak(token: &ValidAccessToken) -> Rejection {
    Rejection {
        object: ObjectKey::AccessToken(token.object.clone()),
        reason: Reason::ValueTooWeak,
        message: format!(
            "the value in Secret `{}` could be guessed: a value has at least {SHORTEST_VALUE} bytes, {FEWEST_DIFFERENT} of them different; `openssl rand -hex 32` makes one",
            token.secret_name
        ),
    }
}

/// Says nothing of whose the value is.
fn taken_value(token: String) -> Rejection {
    Rejection {
        object: ObjectKey::AccessToken(token),
        reason: Reason::ValueTaken,
        message: "the value in this token's Secret is in use or was: put another one there, or delete the Secret to get a new value".to_owned(),
    }
}

fn refused(token: &ValidAccessToken, why: &str) -> Rejection {
    Rejection {
        object: ObjectKey::AccessToken(token.object.clone()),
        reason: Reason::Invalid,
        message: format!(
            "Kubernetes does not take Secret `{}`: {why}",
            token.secret_name
        ),
    }
}

/// Sees to it that the token's Secret holds a value.
async fn give_out(
    context: &Context,
    object: &AccessToken,
    token: &ValidAccessToken,
) -> Result<Given, KubernetesError> {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = ObjectName::new(namespace, &token.secret_name);
    let known = context.index.token_secret(&name);
    match decide_token(&token.uid, known.as_deref()) {
        TokenDecision::Use { sha256 } => Ok(Given::Value(sha256)),
        TokenDecision::Conflict => Ok(Given::Conflict),
        TokenDecision::Weak => Ok(Given::Weak),
        TokenDecision::Create => create(context, object, token, &name).await,
        TokenDecision::Restore { .. } => restore(context, object, token, &name).await,
    }
}

async fn create(
    context: &Context,
    object: &AccessToken,
    token: &ValidAccessToken,
    name: &ObjectName,
) -> Result<Given, KubernetesError> {
    let (secret, sha256) = token_secret(object, name);
    let kubernetes = &context.kubernetes;
    if kubernetes
        .create_secret::<TokenSecret>(name, &secret)
        .await?
    {
        return Ok(Given::Value(sha256));
    }
    // There is one: without the label that the watch goes by, or so new that it was not seen yet.
    restore(context, object, token, name).await
}

/// Decides by what the API has now, and fills what this token's Secret lacks.
async fn restore(
    context: &Context,
    object: &AccessToken,
    token: &ValidAccessToken,
    name: &ObjectName,
) -> Result<Given, KubernetesError> {
    let found = context.kubernetes.get_secret(name).await?;
    let found = found.as_ref().map(TokenSecret::from);
    match decide_token(&token.uid, found.as_ref()) {
        TokenDecision::Use { sha256 } => Ok(Given::Value(sha256)),
        TokenDecision::Weak => Ok(Given::Weak),
        // It went just now; the next pass makes it.
        TokenDecision::Create | TokenDecision::Conflict => Ok(Given::Conflict),
        TokenDecision::Restore { keeps_value } => {
            let (mut secret, mut sha256) = token_secret(object, name);
            if let (true, Some(known)) = (keeps_value, found.and_then(|found| found.sha256)) {
                secret.data = None;
                sha256 = known;
            }
            context.kubernetes.update_secret(name, &secret).await?;
            Ok(Given::Value(sha256))
        }
    }
}

/// Writes the Secret that gateways read, if it is not as it ought to be, and tells which tokens
/// have a value that is somebody else's.
async fn publish(
    context: &Context,
    workspace: &Workspace,
    model: &WorkspaceModel,
    given: Vec<GivenToken>,
) -> Result<(WorkspaceAccess, Vec<String>), KubernetesError> {
    let name = published_secret_name(&context.namespace, workspace);
    let known = context.index.published_secret(&name);
    let document = document(context, model, &name, known.as_deref(), given.clone())?;
    match known {
        Some(known) if known.document.as_ref() == Some(&document.sha256) => {}
        Some(_) => {
            let kubernetes = &context.kubernetes;
            kubernetes.update_secret(&name, &document.secret).await?;
        }
        None => {
            let kubernetes = &context.kubernetes;
            let is_new = kubernetes
                .create_secret::<PublishedSecret>(&name, &document.secret)
                .await?;
            if !is_new {
                return publish_over(context, model, &name, given).await;
            }
        }
    }
    Ok((document.access, document.taken))
}

/// The Secret is there but was not seen yet: its passwords stay.
async fn publish_over(
    context: &Context,
    model: &WorkspaceModel,
    name: &ObjectName,
    given: Vec<GivenToken>,
) -> Result<(WorkspaceAccess, Vec<String>), KubernetesError> {
    let found: Option<Secret> = context.kubernetes.get_secret(name).await?;
    let found = found.as_ref().map(PublishedSecret::from);
    let document = document(context, model, name, found.as_ref(), given)?;
    if found.and_then(|found| found.document).as_ref() != Some(&document.sha256) {
        let kubernetes = &context.kubernetes;
        kubernetes.update_secret(name, &document.secret).await?;
    }
    Ok((document.access, document.taken))
}

/// What is published, and as what.
struct Document {
    access: WorkspaceAccess,
    secret: Secret,
    /// Hash of the text.
    sha256: String,
    /// Names of tokens whose value is somebody else's.
    taken: Vec<String>,
}

fn document(
    context: &Context,
    model: &WorkspaceModel,
    name: &ObjectName,
    known: Option<&PublishedSecret>,
    given: Vec<GivenToken>,
) -> Result<Document, KubernetesError> {
    let known = known.and_then(|known| known.access.as_ref());
    let others = |value: &str| context.index.first_claim_of_others(value, name);
    let settled = settle(known, &name.name, given, others, Timestamp::now());
    let (access, taken) = access(model, known, settled);
    let (secret, sha256) = published_secret_of(&access, name)
        .map_err(|error| KubernetesError::encoding(format!("encode Secret {name}"), error))?;
    Ok(Document {
        access,
        secret,
        sha256,
        taken,
    })
}

/// The document for the gateways. Passwords are made once and stay.
fn access(
    model: &WorkspaceModel,
    known: Option<&WorkspaceAccess>,
    settled: Settled,
) -> (WorkspaceAccess, Vec<String>) {
    let user = |name: &str, known: Option<&ClickHouseUser>| ClickHouseUser {
        name: name.to_owned(),
        password: known
            .filter(|user| user.name == name && !user.password.expose_secret().is_empty())
            .map_or_else(random_password, |user| user.password.clone()),
    };
    let access = WorkspaceAccess {
        namespace: model.namespace.clone(),
        workspace: model.name.clone(),
        reader: user(&model.reader, known.map(|known| &known.reader)),
        writer: user(&model.writer, known.map(|known| &known.writer)),
        tokens: settled.tokens,
        former_values: settled.former_values,
    };
    (access, settled.taken)
}

/// The hash ClickHouse is given of a user's password.
pub(crate) fn password_sha256(user: &ClickHouseUser) -> String {
    sha256(user.password.expose_secret().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, FakeApi, failure, object};
    use aviary_plan::WorkspaceObjects;
    use serde_json::json;

    #[tokio::test]
    async fn a_secret_that_kubernetes_refuses_keeps_no_other_token_away() {
        let token = |name: &str| -> Arc<AccessToken> {
            let scopes = json!([{ "type": "PIPES:READ", "resource": "*" }]);
            let spec = json!({ "workspace": "orders", "scopes": scopes });
            Arc::new(object("AccessToken", name, spec))
        };
        let tokens = vec![token("bad"), token("good")];
        let spec = json!({ "clusterRef": { "name": "shared" } });
        let workspace: Arc<Workspace> = Arc::new(object("Workspace", "orders", spec));
        let model = aviary_plan::model(&WorkspaceObjects {
            workspace: workspace.clone(),
            data_sources: Vec::new(),
            pipes: Vec::new(),
            access_tokens: tokens.clone(),
        });
        let client = FakeApi::default().client(|request| {
            if request.body["metadata"]["name"] == "bad" {
                return failure(422, "Invalid", "metadata.name: too long");
            }
            (201, request.body.clone())
        });
        let context = testing::context(client);
        let admitted = admit(&context, &workspace, &model, &tokens).await.unwrap();
        let published: Vec<&str> = admitted.access.tokens.iter().map(|it| &*it.name).collect();
        assert_eq!(published, ["good"]);
        let message = "Kubernetes does not take Secret `bad`: metadata.name: too long";
        assert_eq!(admitted.rejections[0].message, message);
    }

    #[test]
    fn passwords_stay_once_made() {
        let model = testing::model();
        let (first, _) = access(&model, None, Settled::default());
        let (second, _) = access(&model, Some(&first), Settled::default());
        assert_eq!(
            password_sha256(&first.reader),
            password_sha256(&second.reader)
        );
        assert_eq!(
            password_sha256(&first.writer),
            password_sha256(&second.writer)
        );
        assert_ne!(
            password_sha256(&first.reader),
            password_sha256(&first.writer)
        );
    }
}

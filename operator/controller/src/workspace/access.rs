//! Who may come in: the Secrets with tokens' values, beside their `AccessToken`s, and the Secret
//! that tells the gateways of a workspace's users and token hashes.
//!
//! Both are written before ClickHouse is asked anything. A password that ClickHouse knows and no
//! Secret holds would lock the gateways out.

use crate::context::Context;
use crate::kubernetes::KubernetesError;
use crate::names::ObjectName;
use crate::secrets::{
    PublishedSecret, TokenDecision, TokenSecret, decide_token, published_secret_name,
    published_secret_of, random_password, sha256, token_secret,
};
use aviary_crds::conditions::Reason;
use aviary_crds::published::{ClickHouseUser, PublishedToken, WorkspaceAccess};
use aviary_crds::{AccessToken, Workspace};
use aviary_plan::model::ValidAccessToken;
use aviary_plan::{ObjectKey, Rejection, WorkspaceModel};
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
    let mut published = Vec::new();
    let mut rejections = Vec::new();
    for token in &model.access_tokens {
        let object = tokens
            .iter()
            .find(|object| object.metadata.uid.as_deref() == Some(&token.uid));
        let Some(object) = object else { continue };
        match give_out(context, object, token).await {
            Ok(Some(sha256)) => published.push(PublishedToken {
                name: token.object.clone(),
                sha256,
                scopes: token.scopes.clone(),
            }),
            Ok(None) => rejections.push(conflict(token)),
            // One token's trouble is not the others'.
            Err(error) => match error.refusal() {
                Some(why) => rejections.push(refused(token, why)),
                None => return Err(error),
            },
        }
    }
    let access = publish(context, workspace, model, published).await?;
    Ok(Admitted { access, rejections })
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

/// Sees to it that the token's Secret holds a value, and tells its hash; `None` if it is not ours.
async fn give_out(
    context: &Context,
    object: &AccessToken,
    token: &ValidAccessToken,
) -> Result<Option<String>, KubernetesError> {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = ObjectName::new(namespace, &token.secret_name);
    let known = context.index.token_secret(&name);
    match decide_token(&token.uid, known.as_deref()) {
        TokenDecision::Use { sha256 } => Ok(Some(sha256)),
        TokenDecision::Conflict => Ok(None),
        TokenDecision::Create => create(context, object, token, &name).await,
        TokenDecision::Restore { .. } => restore(context, object, token, &name).await,
    }
}

async fn create(
    context: &Context,
    object: &AccessToken,
    token: &ValidAccessToken,
    name: &ObjectName,
) -> Result<Option<String>, KubernetesError> {
    let (secret, sha256) = token_secret(object, name);
    let kubernetes = &context.kubernetes;
    if kubernetes
        .create_secret::<TokenSecret>(name, &secret)
        .await?
    {
        return Ok(Some(sha256));
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
) -> Result<Option<String>, KubernetesError> {
    let found = context.kubernetes.get_secret(name).await?;
    let found = found.as_ref().map(TokenSecret::from);
    match decide_token(&token.uid, found.as_ref()) {
        TokenDecision::Use { sha256 } => Ok(Some(sha256)),
        // It went just now; the next pass makes it.
        TokenDecision::Create | TokenDecision::Conflict => Ok(None),
        TokenDecision::Restore { keeps_value } => {
            let (mut secret, mut sha256) = token_secret(object, name);
            if let (true, Some(known)) = (keeps_value, found.and_then(|found| found.sha256)) {
                secret.data = None;
                sha256 = known;
            }
            context.kubernetes.update_secret(name, &secret).await?;
            Ok(Some(sha256))
        }
    }
}

/// Writes the Secret that gateways read, if it is not as it ought to be.
async fn publish(
    context: &Context,
    workspace: &Workspace,
    model: &WorkspaceModel,
    tokens: Vec<PublishedToken>,
) -> Result<WorkspaceAccess, KubernetesError> {
    let name = published_secret_name(&context.namespace, workspace);
    let known = context.index.published_secret(&name);
    let access = access(model, known.as_deref(), tokens);
    let (secret, document) = published_secret_of(&access, &name)
        .map_err(|error| KubernetesError::encoding(format!("encode Secret {name}"), error))?;
    match known {
        Some(known) if known.document.as_ref() == Some(&document) => return Ok(access),
        Some(_) => context.kubernetes.update_secret(&name, &secret).await?,
        None => {
            let kubernetes = &context.kubernetes;
            if !kubernetes
                .create_secret::<PublishedSecret>(&name, &secret)
                .await?
            {
                return publish_over(context, model, &name, access.tokens).await;
            }
        }
    }
    Ok(access)
}

/// The Secret is there but was not seen yet: its passwords stay.
async fn publish_over(
    context: &Context,
    model: &WorkspaceModel,
    name: &ObjectName,
    tokens: Vec<PublishedToken>,
) -> Result<WorkspaceAccess, KubernetesError> {
    let found: Option<Secret> = context.kubernetes.get_secret(name).await?;
    let found = found.as_ref().map(PublishedSecret::from);
    let access = access(model, found.as_ref(), tokens);
    let (secret, document) = published_secret_of(&access, name)
        .map_err(|error| KubernetesError::encoding(format!("encode Secret {name}"), error))?;
    if found.and_then(|found| found.document) != Some(document) {
        context.kubernetes.update_secret(name, &secret).await?;
    }
    Ok(access)
}

/// The document for the gateways. Passwords are made once and stay.
fn access(
    model: &WorkspaceModel,
    known: Option<&PublishedSecret>,
    tokens: Vec<PublishedToken>,
) -> WorkspaceAccess {
    let known = known.and_then(|known| known.access.as_ref());
    let user = |name: &str, known: Option<&ClickHouseUser>| ClickHouseUser {
        name: name.to_owned(),
        password: known
            .filter(|user| user.name == name && !user.password.expose_secret().is_empty())
            .map_or_else(random_password, |user| user.password.clone()),
    };
    WorkspaceAccess {
        namespace: model.namespace.clone(),
        workspace: model.name.clone(),
        reader: user(&model.reader, known.map(|known| &known.reader)),
        writer: user(&model.writer, known.map(|known| &known.writer)),
        tokens,
    }
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
        let first = access(&model, None, Vec::new());
        let (secret, _) =
            published_secret_of(&first, &ObjectName::new("aviary-system", "x")).unwrap();
        let second = access(&model, Some(&PublishedSecret::from(&secret)), Vec::new());
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

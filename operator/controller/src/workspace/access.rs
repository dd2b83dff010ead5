//! Who may come in: the Secrets with tokens' values, beside their `AccessToken`s, and the Secret
//! that tells the gateways of a workspace's users and token hashes.
//!
//! The second is written before ClickHouse is asked anything. A password that ClickHouse knows and no
//! Secret holds would lock the gateways out.

use crate::index::{Index, cluster_of};
use crate::kubernetes::Kubernetes;
use crate::secrets::{
    PublishedSecret, TokenDecision, decide_token, published_secret_name, published_secret_of,
    random_password, sha256,
};
use crate::token_values::{GivenToken, Settled, settle};
use crate::workspace::issuing::{Issuer, Order};
use crate::workspace::observe::{Observed, model_of};
use crate::workspace::settings::Settings;
use crate::workspace::token_faults::{conflict, not_made, taken_value, weak};
use aviary_crds::published::{ClickHouseUser, PublishedToken, WorkspaceAccess, WorkspaceEstate};
use aviary_crds::{AccessToken, Workspace};
use aviary_plan::model::ValidAccessToken;
use aviary_plan::{Rejection, WorkspaceModel};
use aviary_runtime::ObjectName;
use aviary_runtime::kubernetes::KubernetesError;
use aviary_runtime::queue::Next;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::ExposeSecret;
use std::sync::Arc;

/// What giving access takes.
pub(crate) struct Access {
    pub(crate) kubernetes: Kubernetes,
    pub(crate) issuer: Issuer,
    pub(crate) settings: Arc<Settings>,
}

impl Access {
    fn index(&self) -> &Index {
        self.kubernetes.index()
    }
}

/// What gateways were told, and which tokens could not be given out.
pub(crate) struct Admitted {
    pub(crate) access: WorkspaceAccess,
    pub(crate) rejections: Vec<Rejection>,
}

/// Makes tokens and publishes them with the workspace's users.
///
/// What was there already is published first: a token that is gone stops working however long the
/// Secret of another takes.
pub(crate) async fn admit(
    access: &Access,
    observed: &Observed,
) -> Result<Admitted, KubernetesError> {
    let (workspace, model) = (&*observed.workspace, &observed.model);
    let decided = decide(access, model, &observed.members.access_tokens);
    let missing: Vec<_> = decided.iter().filter(|one| one.is_missing()).collect();
    if !missing.is_empty() {
        let secret = published_secret_name(&access.settings.namespace, workspace);
        if access.index().published_secret(&secret).is_some() {
            let (given, _) = given_and_rejected(access, &decided);
            publish(access, workspace, model, given).await?;
        }
        for one in &missing {
            issue(access, workspace, one);
        }
        let uids: Vec<&str> = missing.iter().map(|one| &*one.token.uid).collect();
        access.issuer.settle(&uids).await;
    }
    // A token that went during the wait has been taken away by now, and must not come back.
    let members = access.index().members(&ObjectName::of(workspace));
    let decided = decide(access, model, &members.access_tokens);
    let (given, mut rejections) = given_and_rejected(access, &decided);
    let (published, taken) = publish(access, workspace, model, given).await?;
    rejections.extend(taken.into_iter().map(taken_value));
    Ok(Admitted {
        access: published,
        rejections,
    })
}

/// Takes away from what is published whatever is no more: deleted tokens, values that are gone,
/// scopes that were taken back. Nothing is added, so this is right while nothing else may change.
pub(crate) async fn revoke(access: &Access, name: &ObjectName) -> Result<Next, KubernetesError> {
    let members = access.index().members(name);
    let Some(workspace) = &members.workspace else {
        return Ok(Next::Forget);
    };
    let secret = published_secret_name(&access.settings.namespace, workspace);
    let known = access.index().published_secret(&secret);
    let published = known.as_ref().and_then(|known| known.access.as_ref());
    let Some(published) = published.filter(|published| !published.tokens.is_empty()) else {
        return Ok(Next::Forget);
    };
    let model = model_of(&access.settings, workspace, &members);
    let decided = decide(access, &model, &members.access_tokens);
    let (given, _) = given_and_rejected(access, &decided);
    let stays = |token: &PublishedToken| {
        let same = |it: &&GivenToken| (&it.name, &it.sha256) == (&token.name, &token.sha256);
        let now = given.iter().find(same)?;
        let scopes = token.scopes.iter();
        let scopes = scopes.filter(|scope| now.scopes.contains(scope));
        Some(GivenToken {
            scopes: scopes.cloned().collect(),
            ..now.clone()
        })
    };
    let left: Vec<GivenToken> = published.tokens.iter().filter_map(stays).collect();
    let is_as_before = left.len() == published.tokens.len()
        && left
            .iter()
            .zip(&published.tokens)
            .all(|(now, before)| now.scopes == before.scopes);
    if !is_as_before {
        let estate = estate(workspace, &model);
        let known = known.as_deref();
        let document = document(access, &model, &estate, &secret, known, left)?;
        let kubernetes = &access.kubernetes;
        kubernetes.update_secret(&secret, &document.secret).await?;
    }
    Ok(Next::Forget)
}

/// A token, and what its Secret is as far as the watches have shown.
struct Decided<'a> {
    token: &'a ValidAccessToken,
    object: &'a Arc<AccessToken>,
    secret: ObjectName,
    decision: TokenDecision,
    /// The value it has, also where something else is lacking.
    sha256: Option<String>,
}

impl Decided<'_> {
    fn is_missing(&self) -> bool {
        matches!(
            self.decision,
            TokenDecision::Create | TokenDecision::Restore { .. }
        )
    }
}

fn decide<'a>(
    access: &Access,
    model: &'a WorkspaceModel,
    tokens: &'a [Arc<AccessToken>],
) -> Vec<Decided<'a>> {
    let decided = model.access_tokens.iter().filter_map(|token| {
        let mut objects = tokens.iter();
        let object = objects.find(|it| it.metadata.uid.as_deref() == Some(&token.uid))?;
        // Who is going is gone, whatever holds the object.
        if object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let secret = ObjectName::new(namespace, &token.secret_name);
        let known = access.index().token_secret(&secret);
        Some(Decided {
            decision: decide_token(&token.uid, known.as_deref()),
            sha256: known.and_then(|known| known.sha256.clone()),
            token,
            object,
            secret,
        })
    });
    decided.collect()
}

/// Those that have their value, and why the others have not.
fn given_and_rejected(
    access: &Access,
    decided: &[Decided<'_>],
) -> (Vec<GivenToken>, Vec<Rejection>) {
    let (mut given, mut rejections) = (Vec::new(), Vec::new());
    for one in decided {
        let token = one.token;
        let value = match &one.decision {
            TokenDecision::Use { sha256 } => Some(sha256.clone()),
            TokenDecision::Restore { keeps_value: true } => one.sha256.clone(),
            _ => None,
        };
        if let Some(sha256) = value {
            given.push(GivenToken {
                name: token.object.clone(),
                created: created(one.object),
                sha256,
                scopes: token.scopes.clone(),
            });
        }
        match &one.decision {
            TokenDecision::Use { .. } => access.issuer.forget(&token.uid),
            TokenDecision::Conflict => rejections.push(conflict(token)),
            TokenDecision::Weak => rejections.push(weak(token)),
            TokenDecision::Create | TokenDecision::Restore { .. } => {
                let failure = access.issuer.failure(&token.uid);
                rejections.push(not_made(token, failure));
            }
        }
    }
    (given, rejections)
}

/// Has the Secret made or completed, beside this pass.
fn issue(access: &Access, workspace: &Workspace, decided: &Decided<'_>) {
    let order = Order {
        token: decided.token.clone(),
        object: decided.object.clone(),
        secret: decided.secret.clone(),
    };
    let workspace = ObjectName::of(workspace);
    access.issuer.issue(&access.kubernetes, &workspace, order);
}

fn created(token: &AccessToken) -> Timestamp {
    let created = token.metadata.creation_timestamp.as_ref();
    created.map_or(Timestamp::MAX, |time| time.0)
}

/// Writes the Secret that gateways read, if it is not as it ought to be, and tells which tokens
/// have a value that is somebody else's.
async fn publish(
    access: &Access,
    workspace: &Workspace,
    model: &WorkspaceModel,
    given: Vec<GivenToken>,
) -> Result<(WorkspaceAccess, Vec<String>), KubernetesError> {
    let name = published_secret_name(&access.settings.namespace, workspace);
    let known = access.index().published_secret(&name);
    let estate = estate(workspace, model);
    let document = document(
        access,
        model,
        &estate,
        &name,
        known.as_deref(),
        given.clone(),
    )?;
    match known {
        Some(known) if known.document.as_ref() == Some(&document.sha256) => {}
        Some(_) => {
            let kubernetes = &access.kubernetes;
            kubernetes.update_secret(&name, &document.secret).await?;
        }
        None => {
            let kubernetes = &access.kubernetes;
            let is_new = kubernetes
                .create_secret::<PublishedSecret>(&name, &document.secret)
                .await?;
            if !is_new {
                return publish_over(access, model, &estate, &name, given).await;
            }
        }
    }
    Ok((document.access, document.taken))
}

/// The Secret is there but was not seen yet: its passwords stay.
async fn publish_over(
    access: &Access,
    model: &WorkspaceModel,
    estate: &WorkspaceEstate,
    name: &ObjectName,
    given: Vec<GivenToken>,
) -> Result<(WorkspaceAccess, Vec<String>), KubernetesError> {
    let found: Option<Secret> = access.kubernetes.get_secret(name).await?;
    let found = found.as_ref().map(PublishedSecret::from);
    let document = document(access, model, estate, name, found.as_ref(), given)?;
    if found.and_then(|found| found.document).as_ref() != Some(&document.sha256) {
        let kubernetes = &access.kubernetes;
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
    access: &Access,
    model: &WorkspaceModel,
    estate: &WorkspaceEstate,
    name: &ObjectName,
    known: Option<&PublishedSecret>,
    given: Vec<GivenToken>,
) -> Result<Document, KubernetesError> {
    let known = known.and_then(|known| known.access.as_ref());
    let others = |value: &str| access.index().first_claim_of_others(value, name);
    let settled = settle(known, &name.name, given, others, Timestamp::now());
    let (published, taken) = published_access(model, estate, known, settled);
    let (secret, sha256) = published_secret_of(&published, name)
        .map_err(|error| KubernetesError::encoding(format!("encode Secret {name}"), error))?;
    Ok(Document {
        access: published,
        secret,
        sha256,
        taken,
    })
}

/// The document for the gateways. Passwords are made once and stay.
fn published_access(
    model: &WorkspaceModel,
    estate: &WorkspaceEstate,
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
        estate: Some(estate.clone()),
    };
    (access, settled.taken)
}

/// Where the workspace is, for when it is gone.
fn estate(workspace: &Workspace, model: &WorkspaceModel) -> WorkspaceEstate {
    let ObjectName { namespace, name } = cluster_of(workspace);
    WorkspaceEstate {
        uid: model.uid.clone(),
        cluster_namespace: namespace,
        cluster: name,
        database: model.database.as_str().to_owned(),
    }
}

/// The hash ClickHouse is given of a user's password.
pub(crate) fn password_sha256(user: &ClickHouseUser) -> String {
    sha256(user.password.expose_secret().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, object};
    use crate::workspace::observe::observe;
    use aviary_crds::conditions::Reason;
    use aviary_crds::names::{ANNOTATION_PAUSED, PUBLISHED_SECRET_KEY};
    use aviary_plan::ObjectKey;
    use aviary_runtime::dispatch::Requests;
    use aviary_runtime::testing::{FakeApi, Request, failure};
    use k8s_openapi::ByteString;
    use kube::Client;
    use rstest::rstest;
    use serde_json::{Value, json};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    fn token(name: &str) -> AccessToken {
        let scopes = json!([
            { "type": "PIPES:READ", "resource": "*" },
            { "type": "DATASOURCES:APPEND", "resource": "*" },
        ]);
        let spec = json!({ "workspace": "orders", "scopes": scopes });
        object("AccessToken", name, spec)
    }

    fn workspace() -> Workspace {
        let spec = json!({ "clusterRef": { "name": "shared" } });
        object("Workspace", "orders", spec)
    }

    /// Published names with the number of scopes of each, as written in this Secret.
    fn published(body: &Value) -> Vec<(String, usize)> {
        let data = body["data"][PUBLISHED_SECRET_KEY].as_str().unwrap();
        let document: ByteString = serde_json::from_value(json!(data)).unwrap();
        let access: WorkspaceAccess = serde_json::from_slice(&document.0).unwrap();
        let tokens = access.tokens.into_iter();
        tokens
            .map(|token| (token.name, token.scopes.len()))
            .collect()
    }

    /// Versions grow with each answer, as those of a real API server do.
    fn take(request: &Request, version: &AtomicU64) -> (u16, Value) {
        let mut object = request.body.clone();
        let version = version.fetch_add(1, Ordering::SeqCst).to_string();
        object["metadata"]["resourceVersion"] = json!(version);
        (201, object)
    }

    #[rstest]
    #[case::refused(422, "metadata.name: too long", Reason::Invalid)]
    #[case::by_a_webhook(500, "failed calling webhook", Reason::DependencyNotReady)]
    #[case::too_many_requests(429, "slow down", Reason::DependencyNotReady)]
    #[case::without_answer(
        aviary_runtime::testing::NO_ANSWER,
        "is being made",
        Reason::InProgress
    )]
    #[tokio::test]
    async fn a_secret_that_cannot_be_made_is_its_own_tokens_trouble(
        #[case] code: u16,
        #[case] message: &'static str,
        #[case] reason: Reason,
    ) {
        let version = AtomicU64::new(10);
        let client = FakeApi::default().client(move |request| {
            if request.body["metadata"]["name"] == "bad" {
                return failure(code, "Trouble", message);
            }
            take(request, &version)
        });
        let access = give_access(client);
        access.index().apply(&orders(), workspace());
        add_tokens(&access, &["bad", "good"]);
        let rejection = only_good_is_published(&access).await;
        assert_eq!(rejection.reason, reason);
        assert!(rejection.message.contains(message), "{}", rejection.message);
    }

    #[tokio::test]
    async fn a_secret_of_somebody_else_is_left_alone() {
        let api = FakeApi::default();
        let version = AtomicU64::new(10);
        let client = api.client(move |request| match request.method.as_str() {
            "POST" if request.body["metadata"]["name"] == "bad" => {
                failure(409, "AlreadyExists", "secrets \"bad\" already exists")
            }
            // It has no label, so no watch has shown it.
            "GET" => (
                200,
                json!({ "metadata": { "name": "bad" }, "data": { "token": "dg==" } }),
            ),
            _ => take(request, &version),
        });
        let access = give_access(client);
        access.index().apply(&orders(), workspace());
        add_tokens(&access, &["bad", "good"]);
        let rejection = only_good_is_published(&access).await;
        assert_eq!(rejection.reason, Reason::SecretConflict);
        let asked = api.asked().into_iter();
        let about_it = asked.filter(|request| request.path.ends_with("/secrets/bad"));
        let methods: Vec<String> = about_it.map(|request| request.method).collect();
        assert_eq!(methods, ["GET"]);
    }

    fn add_tokens(access: &Access, names: &[&str]) {
        for name in names {
            let name = ObjectName::new("shop", *name);
            access.index().apply(&name, token(&name.name));
        }
    }

    /// Gives tokens out, of which only `good` can be; tells why `bad` cannot.
    async fn only_good_is_published(access: &Access) -> Rejection {
        let mut admitted = admit_all(access).await;
        let published: Vec<&str> = admitted.access.tokens.iter().map(|it| &*it.name).collect();
        assert_eq!(published, ["good"]);
        assert_eq!(admitted.rejections.len(), 1, "{:?}", admitted.rejections);
        let rejection = admitted.rejections.remove(0);
        assert_eq!(rejection.object, ObjectKey::AccessToken("bad".to_owned()));
        rejection
    }

    /// Access in front of an API server that makes no Secret for one token; two tokens are published.
    async fn two_published(api: &FakeApi) -> Access {
        let version = AtomicU64::new(10);
        let client = api.client(move |request| {
            if request.method == "POST" && request.body["metadata"]["name"] == "new" {
                return failure(500, "InternalError", "failed calling webhook");
            }
            take(request, &version)
        });
        let access = give_access(client);
        access.index().apply(&orders(), workspace());
        add_tokens(&access, &["kept", "gone"]);
        admit_all(&access).await;
        access
    }

    fn give_access(client: Client) -> Access {
        Access {
            kubernetes: testing::kubernetes(client, Arc::default()),
            issuer: Issuer::new(Requests::channel().0, Duration::from_mins(5)),
            settings: Arc::new(testing::settings()),
        }
    }

    fn orders() -> ObjectName {
        ObjectName::new("shop", "orders")
    }

    async fn admit_all(access: &Access) -> Admitted {
        let members = access.index().members(&orders());
        let workspace = members.workspace.clone().unwrap();
        let observed = observe(&access.settings, workspace, members);
        admit(access, &observed).await.unwrap()
    }

    fn patches(api: &FakeApi) -> Vec<Vec<(String, usize)>> {
        let asked = api.asked().into_iter();
        let patches = asked.filter(|request| request.method == "PATCH");
        patches.map(|request| published(&request.body)).collect()
    }

    #[tokio::test]
    async fn taking_away_comes_before_making() {
        let api = FakeApi::default();
        let access = two_published(&api).await;
        let name = ObjectName::new("shop", "gone");
        access.index().remove::<AccessToken>(&name, Some("50"));
        add_tokens(&access, &["new"]);
        admit_all(&access).await;
        assert_eq!(patches(&api)[0], [("kept".to_owned(), 2)]);
        let asked = api.asked();
        let patched = asked.iter().position(|it| it.method == "PATCH").unwrap();
        let is_new = |it: &Request| it.body["metadata"]["name"] == "new";
        assert!(patched < asked.iter().position(is_new).unwrap());
    }

    #[tokio::test]
    async fn what_is_paused_loses_tokens_and_scopes_and_gets_none() {
        let api = FakeApi::default();
        let access = two_published(&api).await;
        let mut paused = workspace();
        let annotation = (ANNOTATION_PAUSED.to_owned(), "true".to_owned());
        paused.metadata.annotations = Some([annotation].into());
        access.index().apply(&orders(), paused);
        revoke(&access, &orders()).await.unwrap();
        assert_eq!(patches(&api), Vec::<Vec<_>>::new());
        let name = ObjectName::new("shop", "gone");
        access.index().remove::<AccessToken>(&name, Some("50"));
        let mut narrower = token("kept");
        narrower.spec.scopes.truncate(1);
        access
            .index()
            .apply(&ObjectName::new("shop", "kept"), narrower);
        revoke(&access, &orders()).await.unwrap();
        assert_eq!(patches(&api), [[("kept".to_owned(), 1)]]);
    }

    #[test]
    fn passwords_stay_once_made() {
        let model = testing::model();
        let spec = json!({ "clusterRef": { "name": "shared" } });
        let estate = estate(&object("Workspace", "orders", spec), &model);
        let (first, _) = published_access(&model, &estate, None, Settled::default());
        let (second, _) = published_access(&model, &estate, Some(&first), Settled::default());
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

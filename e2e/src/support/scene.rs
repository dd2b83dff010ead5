//! One test's scene: its namespace, and what it does there.

use super::objects::{self, ApplyError};
use super::{ClickHouse, Gateway, diagnostics, logs, wait};
use crate::cluster::shell;
use crate::product;
use anyhow::{Context as _, Result, bail};
use aviary_crds::names;
use aviary_crds::published::WorkspaceAccess;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod, Secret};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::future::Future;
use std::time::Duration;

/// One test's namespace, clients and helpers.
#[derive(Clone)]
pub struct Scene {
    /// A client with every right.
    pub client: Client,
    /// The test's own namespace.
    pub namespace: String,
    /// The shared gateway, through its Service.
    pub gateway: Gateway,
    /// The shared engine, as its administrator.
    pub clickhouse: ClickHouse,
}

/// How long the namespaces of all tests may take to go, with everything in them.
const GOING: Duration = Duration::from_mins(3);

/// Runs a test in a namespace of its own, and looks whether a secret of it was
/// logged. When it fails, prints the objects, events and logs; the namespace
/// goes either way unless `AVIARY_KEEP` is set. That is not waited for, since it
/// takes longer than most tests: [`namespaces_gone`] does.
pub async fn run<T, F, Fut>(name: &str, test: F) -> Result<T>
where
    F: FnOnce(Scene) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let scene = Scene::create(name).await?;
    let mut outcome = test(scene.clone()).await;
    if outcome.is_ok() {
        let clean = logs::hold_no_secret_of(&scene.client, &scene.namespace).await;
        outcome = clean.and(outcome);
    }
    if let Err(error) = &outcome {
        eprintln!("{name} failed in namespace {}: {error:?}", scene.namespace);
        diagnostics::print(&scene.client, &scene.namespace).await;
    }
    if std::env::var_os("AVIARY_KEEP").is_none() {
        let deleted = scene.delete_namespace().await;
        let value = outcome?;
        deleted?;
        return Ok(value);
    }
    outcome
}

/// As [`run`], once the namespaces of others are gone, and until its own is:
/// for what must not be disturbed and must disturb nobody.
pub async fn run_alone<T, F, Fut>(name: &str, test: F) -> Result<T>
where
    F: FnOnce(Scene) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let client = crate::cluster::Target::from_environment().client().await?;
    namespaces_gone(&client).await?;
    let value = run(name, test).await?;
    namespaces_gone(&client).await?;
    Ok(value)
}

/// Waits until no namespace of a test is on its way out any more.
pub async fn namespaces_gone(client: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let of_tests = ListParams::default().labels(objects::LABEL);
    let gone = shell::wait_for(GOING, async || {
        let found = namespaces
            .list(&of_tests)
            .await
            .context("list namespaces")?;
        let going = found.items.into_iter();
        let mut going = going.filter(|namespace| namespace.metadata.deletion_timestamp.is_some());
        Ok(going
            .next()
            .map_or(Ok(()), |namespace| Err(still_there(&namespace))))
    });
    gone.await.context("namespaces of tests do not go")
}

/// What holds a namespace, in the words of its conditions.
fn still_there(namespace: &Namespace) -> String {
    let conditions = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let held = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition.status == "True");
    let held: Vec<&str> = held
        .filter_map(|condition| condition.message.as_deref())
        .collect();
    format!("{}: {}", namespace.name_any(), held.join(" "))
}

impl Scene {
    async fn create(name: &str) -> Result<Self> {
        let client = crate::cluster::Target::from_environment().client().await?;
        let suffix: u32 = rand::random();
        let namespace = format!("{name}-{suffix:08x}");
        objects::create_namespace(&client, &namespace).await?;
        let gateway = Gateway::shared(&client).await?;
        let clickhouse = ClickHouse::shared(&client).await?;
        Ok(Self {
            client,
            namespace,
            gateway,
            clickhouse,
        })
    }

    /// The database of a workspace of this namespace.
    pub fn database(&self, workspace: &str) -> String {
        format!("{}_{workspace}", self.namespace)
    }

    /// The table of a data source (or a view beside it) as SQL names it.
    pub fn table(&self, workspace: &str, name: &str) -> String {
        format!("`{}`.`{name}`", self.database(workspace))
    }

    /// Rows in the table of a data source.
    pub async fn count(&self, workspace: &str, name: &str) -> Result<u64> {
        let table = self.table(workspace, name);
        self.clickhouse
            .number(&format!("SELECT count() FROM {table}"))
            .await
    }

    /// Applies a manifest; `{namespace}` in it stands for the test's own.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        let manifest = manifest.replace("{namespace}", &self.namespace);
        Ok(objects::apply(&self.client, &manifest, &self.namespace).await?)
    }

    /// Applies a manifest that the apiserver must refuse; gives its message.
    pub async fn refused(&self, manifest: &str) -> Result<String> {
        match objects::apply(&self.client, manifest, &self.namespace).await {
            Err(ApplyError::Refused(kube::Error::Api(status))) => Ok(status.message.clone()),
            Err(error) => Err(error.into()),
            Ok(()) => bail!("accepted, but it should be refused:\n{manifest}"),
        }
    }

    /// Asks whether a manifest would be accepted, with every object in this namespace.
    pub async fn accepted(&self, manifest: &str) -> Result<()> {
        Ok(objects::dry_run(&self.client, manifest, &self.namespace).await?)
    }

    /// A Secret with texts under keys.
    pub async fn secret(&self, name: &str, content: Value) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name}, "stringData": content,
        });
        self.apply(&secret.to_string()).await
    }

    /// A workspace `name` on the shared cluster that drops its database when it goes.
    pub async fn workspace(&self, name: &str) -> Result<()> {
        self.apply(&format!(
            "{{apiVersion: aviary.dev/v1alpha1, kind: Workspace, metadata: {{name: {name}}}, \
             spec: {{clusterRef: {{name: shared, namespace: clickhouse}}, deletionPolicy: Delete}}}}"
        ))
        .await
    }

    /// A token `name` for everything in `workspace`; gives its value.
    pub async fn token(&self, workspace: &str, name: &str) -> Result<String> {
        self.apply(&format!(
            "{{apiVersion: aviary.dev/v1alpha1, kind: AccessToken, metadata: {{name: {name}}}, spec: {{workspace: {workspace}, \
             scopes: [{{type: 'PIPES:READ', resource: '*'}}, {{type: 'DATASOURCES:APPEND', resource: '*'}}]}}}}"
        ))
        .await?;
        self.ready("AccessToken", name).await?;
        self.token_value(name).await
    }

    /// The value in a token's Secret.
    pub async fn token_value(&self, secret: &str) -> Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = secrets
            .get(secret)
            .await
            .context("read the token's Secret")?;
        let value = secret
            .data
            .unwrap_or_default()
            .remove("token")
            .context("the Secret has no key `token`")?;
        String::from_utf8(value.0).context("the token is not text")
    }

    /// What the operator tells the gateways about a workspace, credentials included.
    pub async fn access(&self, workspace: &str) -> Result<WorkspaceAccess> {
        let uid = self.api("Workspace").get(workspace).await?.uid();
        let name = names::published_secret(&uid.unwrap_or_default());
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), product::NAMESPACE);
        let secret = secrets
            .get(&name)
            .await
            .context("read the published Secret")?;
        let document = secret
            .data
            .and_then(|mut data| data.remove(names::PUBLISHED_SECRET_KEY))
            .context("the published Secret is empty")?;
        serde_json::from_slice(&document.0).context("read the published Secret")
    }

    /// The API of one of Aviary's kinds in this namespace.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("aviary.dev", "v1alpha1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Waits until the object's current generation is Ready.
    pub async fn ready(&self, kind: &str, name: &str) -> Result<DynamicObject> {
        self.condition(kind, name, "Ready", "True").await
    }

    /// Waits until a condition of the object's current generation has this status.
    pub async fn condition(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        status: &str,
    ) -> Result<DynamicObject> {
        self.until(kind, name, &format!("{condition}={status}"), |object| {
            find_condition(object, condition).is_some_and(|c| {
                c["status"] == status
                    && c["observedGeneration"].as_i64() >= object.metadata.generation
            })
        })
        .await
    }

    /// Waits until the object is not ready as it is now, and nothing is under way that may change that.
    pub async fn stays_unready(&self, kind: &str, name: &str) -> Result<DynamicObject> {
        self.until(kind, name, "refused", |object| {
            find_condition(object, "Ready").is_some_and(|ready| {
                ready["status"] == "False"
                    && ready["reason"] != "InProgress"
                    && ready["observedGeneration"].as_i64() >= object.metadata.generation
            })
        })
        .await
    }

    /// Waits until a condition of the object's current generation has this reason; gives its message.
    pub async fn reason(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        reason: &str,
    ) -> Result<String> {
        let object = self
            .until(
                kind,
                name,
                &format!("{condition} with reason {reason}"),
                |object| {
                    find_condition(object, condition).is_some_and(|c| {
                        c["reason"] == reason
                            && c["observedGeneration"].as_i64() >= object.metadata.generation
                    })
                },
            )
            .await?;
        let message = find_condition(&object, condition)
            .and_then(|c| c["message"].as_str().map(str::to_owned));
        Ok(message.unwrap_or_default())
    }

    /// Waits until `accept` holds for the object.
    pub async fn until(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        accept: impl Fn(&DynamicObject) -> bool,
    ) -> Result<DynamicObject> {
        let api = self.api(kind);
        let condition = |object: Option<&DynamicObject>| object.is_some_and(&accept);
        match tokio::time::timeout(
            wait::DEADLINE,
            await_condition(api.clone(), name, condition),
        )
        .await
        {
            Ok(found) => found
                .context("watch")?
                .with_context(|| format!("{kind} {name} is gone")),
            Err(_) => {
                let last = api
                    .get_opt(name)
                    .await?
                    .map(|object| object.data["status"].to_string());
                bail!(
                    "{kind} {name}: no {what} within {} s; status: {}",
                    wait::DEADLINE.as_secs(),
                    last.unwrap_or_else(|| "no object".into())
                )
            }
        }
    }

    /// Changes part of an object, as `kubectl patch --type merge` does.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) -> Result<DynamicObject> {
        let patched = self
            .api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.with_context(|| format!("patch {kind} {name}"))
    }

    /// Changes an annotation that means nothing, so that the operator looks at the object's workspace again.
    pub async fn touch(&self, kind: &str, name: &str) -> Result<()> {
        let value: u32 = rand::random();
        let annotations = json!({"e2e.aviary.dev/touched": value.to_string()});
        let patch = json!({"metadata": {"annotations": annotations}});
        self.patch(kind, name, patch).await.map(drop)
    }

    /// The API of the namespace's StatefulSets.
    pub fn stateful_sets(&self) -> Api<StatefulSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Says how many pods a StatefulSet is to have, and waits until those beyond are gone.
    pub async fn scale(&self, set: &str, replicas: u32) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.stateful_sets()
            .patch(set, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("scale {set}"))?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let first_beyond = format!("{set}-{replicas}");
        wait::eventually(&format!("{first_beyond} is gone"), async || {
            let pod = pods.get_opt(&first_beyond).await?;
            Ok(pod.map_or(Ok(()), |pod| Err(format!("{:?}", pod.status))))
        })
        .await
    }

    /// Deletes an object and waits until it is gone.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let api = self.api(kind);
        api.delete(name, &DeleteParams::default())
            .await
            .with_context(|| format!("delete {kind} {name}"))?;
        self.gone(kind, name).await
    }

    /// Waits until an object is gone that somebody has deleted.
    pub async fn gone(&self, kind: &str, name: &str) -> Result<()> {
        let is_gone = |object: Option<&DynamicObject>| object.is_none();
        let gone = await_condition(self.api(kind), name, is_gone);
        tokio::time::timeout(wait::DEADLINE, gone)
            .await
            .with_context(|| format!("{kind} {name} does not go"))??;
        Ok(())
    }

    /// Reason and message of every event about an object, oldest first.
    pub async fn events(&self, name: &str) -> Result<Vec<(String, String)>> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut found: Vec<Event> = events
            .list(&ListParams::default().fields(&format!("involvedObject.name={name}")))
            .await
            .context("list events")?
            .items;
        found.sort_by_key(ResourceExt::creation_timestamp);
        Ok(found
            .into_iter()
            .map(|e| (e.reason.unwrap_or_default(), e.message.unwrap_or_default()))
            .collect())
    }

    /// Waits for an event with this reason about an object; gives its message.
    pub async fn event(&self, name: &str, reason: &str) -> Result<String> {
        wait::eventually(&format!("event {reason} on {name}"), async || {
            let events = self.events(name).await?;
            Ok(events
                .iter()
                .find(|e| e.0 == reason)
                .map(|e| e.1.clone())
                .ok_or_else(|| format!("{events:?}")))
        })
        .await
    }

    async fn delete_namespace(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
        {
            // The test has deleted it already.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            outcome => outcome.context("delete the test's namespace")?,
        };
        Ok(())
    }
}

/// A condition in an object's status.
fn find_condition<'a>(object: &'a DynamicObject, condition: &str) -> Option<&'a Value> {
    object.data["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == condition)
}

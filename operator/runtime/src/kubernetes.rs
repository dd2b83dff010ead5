//! Every write to the Kubernetes API, and the few reads that no watch covers.
//!
//! Each request has a deadline, few run at once, and a write is sent only when it changes something.

use crate::ObjectName;
use crate::bulkhead::{Bulkheads, Compartment};
use crate::lease::Mandate;
use crate::metrics::Metrics;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::core::object::HasStatus;
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A client that counts its requests.
pub fn counting_client(config: Config, metrics: Arc<Metrics>) -> kube::Result<Client> {
    let count = move |request: http::Request<kube::client::Body>| {
        let is_watch = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        let verb = if is_watch {
            "WATCH".to_owned()
        } else {
            request.method().to_string()
        };
        metrics.kubernetes_request(verb);
        request
    };
    let layer = tower::util::MapRequestLayer::new(count);
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {problem}")]
pub struct KubernetesError {
    action: String,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Timeout,
    #[error("this replica of the operator does not lead any more")]
    NotLeading,
    #[error(transparent)]
    Api(Box<kube::Error>),
    #[error(transparent)]
    Encoding(#[from] serde_json::Error),
}

impl KubernetesError {
    /// Whether somebody else changed the object first.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// What the API server says where it refuses this very request, and would again.
    pub fn refusal(&self) -> Option<&str> {
        match &self.problem {
            Problem::Api(error) => match &**error {
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 422) => {
                    Some(&status.message)
                }
                _ => None,
            },
            Problem::Timeout | Problem::NotLeading | Problem::Encoding(_) => None,
        }
    }

    /// What was to be sent cannot be written as JSON.
    pub fn encoding(action: String, error: serde_json::Error) -> Self {
        Self {
            action,
            problem: error.into(),
        }
    }

    fn code(&self) -> Option<u16> {
        match &self.problem {
            Problem::Api(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Problem::Timeout | Problem::NotLeading | Problem::Encoding(_) => None,
        }
    }
}

/// A kind with a status that the operator writes.
pub trait Reported:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status: Serialize>
    + Clone
    + Debug
    + DeserializeOwned
{
}

impl<K> Reported for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasStatus<Status: Serialize>
        + Clone
        + Debug
        + DeserializeOwned
{
}

/// Writes to the API.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    field_manager: &'static str,
    bulkheads: Bulkheads,
    mandate: Mandate,
}

impl Kubernetes {
    /// Writes stand under `field_manager` in `managedFields`, and are sent only while `mandate` holds.
    pub fn new(client: Client, field_manager: &'static str, mandate: Mandate) -> Self {
        Self {
            client,
            field_manager,
            bulkheads: Bulkheads::default(),
            mandate,
        }
    }

    /// Makes the status what it ought to be, in one request, or in none if it is. A conflict if the
    /// object is not any more what was looked at: what was found of it may not hold, and a request
    /// that a former leader sent before it lost the lease must not undo what the next one says.
    /// Gives the object as it is then, if it was changed.
    pub async fn patch_status<K: Reported>(
        &self,
        object: &K,
        status: &K::Status,
    ) -> Result<Option<K>, KubernetesError> {
        let name = ObjectName::of(object);
        let action = || format!("patch status of {} {name}", K::kind(&()));
        let Some(difference) = status_difference(object, status)
            .map_err(|error| KubernetesError::encoding(action(), error))?
        else {
            return Ok(None);
        };
        // With the uid, an object that was deleted and made anew does not get the old one's status.
        let seen = json!({ "uid": object.uid(), "resourceVersion": object.resource_version() });
        let patch = json!({ "metadata": seen, "status": difference });
        let patch = Patch::Merge(&patch);
        let api = Api::<K>::namespaced(self.client.clone(), &name.namespace);
        let parameters = PatchParams::apply(self.field_manager);
        let request = api.patch_status(&name.name, &parameters, &patch);
        match self.send(change::<K>(&name), action, request).await {
            Ok(patched) => Ok(Some(patched)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the finalizers of an object that nobody else has changed meanwhile. Gives the object as
    /// it is then, if it is still there.
    pub async fn set_finalizers<K: Reported>(
        &self,
        object: &K,
        finalizers: Vec<String>,
    ) -> Result<Option<K>, KubernetesError> {
        let name = ObjectName::of(object);
        let action = || format!("set finalizers of {} {name}", K::kind(&()));
        let patch = json!({ "metadata": {
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
        }});
        let patch = Patch::Merge(&patch);
        let api = Api::<K>::namespaced(self.client.clone(), &name.namespace);
        let parameters = PatchParams::apply(self.field_manager);
        let request = api.patch(&name.name, &parameters, &patch);
        match self.send(change::<K>(&name), action, request).await {
            Ok(patched) => Ok(Some(patched)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a Secret, and gives it as it is then; nothing if one of this name is there already.
    pub async fn create_secret(
        &self,
        name: &ObjectName,
        secret: &Secret,
    ) -> Result<Option<Secret>, KubernetesError> {
        let parameters = PostParams {
            field_manager: Some(self.field_manager.to_owned()),
            ..PostParams::default()
        };
        let api = self.secrets(name);
        let request = api.create(&parameters, secret);
        let action = || format!("create Secret {name}");
        match self.send(change::<Secret>(name), action, request).await {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a Secret the labels and data that `secret` has; the rest of it stays.
    pub async fn update_secret(
        &self,
        name: &ObjectName,
        secret: &Secret,
    ) -> Result<(), KubernetesError> {
        let mut patch = json!({ "metadata": { "labels": secret.metadata.labels } });
        if let Some(data) = &secret.data {
            patch["data"] = json!(data);
        }
        let patch = Patch::Merge(&patch);
        let parameters = PatchParams::apply(self.field_manager);
        let api = self.secrets(name);
        let request = api.patch(&name.name, &parameters, &patch);
        let action = || format!("patch Secret {name}");
        let patched = self.send(change::<Secret>(name), action, request).await;
        patched.map(drop)
    }

    /// Reads a Secret, whatever a watch has shown.
    pub async fn get_secret(&self, name: &ObjectName) -> Result<Option<Secret>, KubernetesError> {
        let api = self.secrets(name);
        let request = api.get_opt(&name.name);
        let action = || format!("get Secret {name}");
        self.send(look::<Secret>(name), action, request).await
    }

    /// Deletes a Secret; one that is gone already is fine.
    pub async fn delete_secret(&self, name: &ObjectName) -> Result<(), KubernetesError> {
        let api = self.secrets(name);
        let parameters = DeleteParams::default();
        let request = api.delete(&name.name, &parameters);
        let action = || format!("delete Secret {name}");
        match self.send(change::<Secret>(name), action, request).await {
            Err(error) if error.code() != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// The uid that an object has in the API now, whatever a watch has shown.
    pub async fn get_uid<K>(&self, name: &ObjectName) -> Result<Option<String>, KubernetesError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug,
        K: DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &name.namespace);
        let request = api.get_metadata_opt(&name.name);
        let action = || format!("get {} {name}", K::kind(&()));
        let found = self.send(look::<K>(name), action, request).await?;
        Ok(found.and_then(|found| found.metadata.uid))
    }

    /// Reads a namespace.
    pub async fn get_namespace(&self, name: &str) -> Result<Option<Namespace>, KubernetesError> {
        let api = Api::<Namespace>::all(self.client.clone());
        let request = api.get_opt(name);
        let compartment = look::<Namespace>(&ObjectName::new("", name));
        let action = || format!("get Namespace {name}");
        self.send(compartment, action, request).await
    }

    fn secrets(&self, name: &ObjectName) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &name.namespace)
    }

    async fn send<T>(
        &self,
        compartment: Compartment,
        action: impl Fn() -> String,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, KubernetesError> {
        let in_time = async {
            // Asked last, after all waiting: a process that was frozen may not lead any more.
            if !self.mandate.holds() {
                return Err(Problem::NotLeading);
            }
            match tokio::time::timeout(DEADLINE, request).await {
                Ok(answer) => answer.map_err(|error| Problem::Api(Box::new(error))),
                Err(_) => Err(Problem::Timeout),
            }
        };
        let answer = self.bulkheads.run(compartment, in_time).await;
        answer.map_err(|problem| KubernetesError {
            action: action(),
            problem,
        })
    }
}

/// The compartment of requests that change an object.
fn change<K: Resource<DynamicType = ()>>(name: &ObjectName) -> Compartment {
    Compartment {
        is_change: true,
        ..look::<K>(name)
    }
}

/// The compartment of requests that read an object.
fn look<K: Resource<DynamicType = ()>>(name: &ObjectName) -> Compartment {
    Compartment {
        kind: K::kind(&()),
        namespace: name.namespace.clone(),
        is_change: false,
    }
}

/// Whether the object went, or was made anew under its name, while we worked.
fn is_gone(error: &KubernetesError) -> bool {
    match error.code() {
        Some(404) => true,
        Some(422) => error.to_string().contains("metadata.uid"),
        _ => false,
    }
}

fn status_difference<K>(object: &K, status: &K::Status) -> Result<Option<Value>, serde_json::Error>
where
    K: HasStatus,
    K::Status: Serialize,
{
    let previous = match object.status() {
        Some(previous) => serde_json::to_value(previous)?,
        None => Value::Object(Map::new()),
    };
    Ok(merge_difference(&previous, &serde_json::to_value(status)?))
}

/// The merge patch (RFC 7396) that makes `new` of `old`; `None` if they are equal.
fn merge_difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter_map(|(key, value)| {
        let difference = match old.get(key) {
            Some(before) => merge_difference(before, value)?,
            None => value.clone(),
        };
        Some((key.clone(), difference))
    });
    let difference: Map<String, Value> = gone.chain(changed).collect();
    (!difference.is_empty()).then_some(Value::Object(difference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeApi, Request, failure, mandate};
    use kube::CustomResource;
    use rstest::rstest;
    use serde::Deserialize;

    #[rstest]
    #[case::equal(json!({"a": {"b": [1]}}), json!({"a": {"b": [1]}}), None)]
    #[case::added(json!({}), json!({"a": 1}), Some(json!({"a": 1})))]
    #[case::removed(json!({"a": 1, "b": 2}), json!({"b": 2}), Some(json!({"a": null})))]
    #[case::nested(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 1, "c": 3}}), Some(json!({"a": {"c": 3}})))]
    #[case::lists_are_replaced(json!({"a": [1, 2]}), json!({"a": [2]}), Some(json!({"a": [2]})))]
    fn differences(#[case] old: Value, #[case] new: Value, #[case] expected: Option<Value>) {
        assert_eq!(merge_difference(&old, &new), expected);
    }

    #[derive(CustomResource, Clone, Debug, Deserialize, Serialize)]
    #[kube(
        group = "test.dev",
        version = "v1",
        kind = "Thing",
        namespaced,
        status = "ThingStatus",
        schema = "disabled"
    )]
    struct ThingSpec {}

    #[derive(Clone, Debug, Deserialize, Serialize)]
    struct ThingStatus {
        phase: String,
    }

    fn thing() -> Thing {
        let meta = json!({
            "namespace": "shop", "name": "p", "uid": "uid-of-p", "resourceVersion": "1",
        });
        let kind = json!({
            "apiVersion": "test.dev/v1", "kind": "Thing", "metadata": meta, "spec": {},
        });
        serde_json::from_value(kind).unwrap()
    }

    fn running() -> ThingStatus {
        ThingStatus {
            phase: "Running".to_owned(),
        }
    }

    fn kubernetes(client: Client) -> Kubernetes {
        Kubernetes::new(client, "operator", mandate())
    }

    #[tokio::test]
    async fn a_status_is_one_patch_and_the_same_status_none() {
        let api = FakeApi::default();
        let mut patched = thing();
        patched.status = Some(running());
        let answer = serde_json::to_value(&patched).unwrap();
        let kubernetes = kubernetes(api.client(move |_| (200, answer.clone())));
        let now = kubernetes.patch_status(&thing(), &running()).await.unwrap();
        let again = kubernetes.patch_status(&now.unwrap(), &running()).await;
        assert!(again.unwrap().is_none());
        let expected = Request {
            method: "PATCH".to_owned(),
            path: "/apis/test.dev/v1/namespaces/shop/things/p/status".to_owned(),
            body: json!({
                "metadata": { "uid": "uid-of-p", "resourceVersion": "1" },
                "status": { "phase": "Running" },
            }),
        };
        assert_eq!(api.asked(), [expected]);
    }

    #[rstest]
    #[case::gone(404, "NotFound", "things \"p\" not found", Ok(()))]
    #[case::made_anew(422, "Invalid", "metadata.uid: Invalid value: field is immutable", Ok(()))]
    #[case::changed(409, "Conflict", "the object has been modified", Err(true))]
    #[case::refused(422, "Invalid", "status.phase: Invalid value", Err(false))]
    #[case::forbidden(403, "Forbidden", "no", Err(false))]
    #[tokio::test]
    async fn a_status_that_cannot_be_written(
        #[case] code: u16,
        #[case] reason: &'static str,
        #[case] message: &'static str,
        #[case] expected: Result<(), bool>,
    ) {
        let client = FakeApi::default().client(move |_| failure(code, reason, message));
        let kubernetes = kubernetes(client);
        let result = kubernetes.patch_status(&thing(), &running()).await;
        let result = result.map(drop);
        assert_eq!(result.map_err(|error| error.is_conflict()), expected);
    }

    #[tokio::test]
    async fn finalizers_are_set_only_on_what_was_seen() {
        let api = FakeApi::default();
        let client = api.client(|_| failure(409, "Conflict", "the object has been modified"));
        let kubernetes = kubernetes(client);
        let finalizers = vec!["aviary.dev/workspace".to_owned()];
        let result = kubernetes.set_finalizers(&thing(), finalizers).await;
        assert!(result.unwrap_err().is_conflict());
        assert_eq!(api.asked()[0].body["metadata"]["resourceVersion"], "1");
    }
}

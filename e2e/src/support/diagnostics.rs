//! What a failed test prints: the namespace's objects, its events, and the
//! last lines of the operator's and the gateway's logs.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, LogParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};

const KINDS: [&str; 5] = [
    "ClickHouseCluster",
    "Workspace",
    "DataSource",
    "Pipe",
    "AccessToken",
];
const LOG_LINES: i64 = 60;

/// Prints to standard error. What cannot be read is said, not raised: the test has failed already.
pub(crate) async fn print(client: &Client, namespace: &str) {
    for kind in KINDS {
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("aviary.dev", "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        match api.list(&ListParams::default()).await {
            Ok(list) => list.items.iter().for_each(|object| {
                eprintln!(
                    "--- {kind} {}: status {}",
                    object.name_any(),
                    object.data["status"]
                );
            }),
            Err(error) => eprintln!("--- {kind}: {error}"),
        }
    }
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Ok(list) = events.list(&ListParams::default()).await {
        for event in list.items {
            let object = event.involved_object;
            eprintln!(
                "--- event {} {}: {} {}",
                object.kind.unwrap_or_default(),
                object.name.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            );
        }
    }
    print_logs(client).await;
}

async fn print_logs(client: &Client) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "aviary-system");
    let Ok(list) = pods.list(&ListParams::default()).await else {
        return;
    };
    for pod in list.items {
        let name = pod.name_any();
        let parameters = LogParams {
            tail_lines: Some(LOG_LINES),
            ..LogParams::default()
        };
        let log = pods
            .logs(&name, &parameters)
            .await
            .unwrap_or_else(|error| error.to_string());
        eprintln!("--- last lines of {name}\n{log}");
    }
}

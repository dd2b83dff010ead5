//! Kubernetes events: each change is told once, as a log line, a metric and an event.
//!
//! Events are a courtesy and reconciles are not: they are sent beside everything else, those of
//! each namespace beside those of others, and those that would wait too long are dropped.

use crate::bulkhead::{Bulkheads, Compartment};
use crate::keyed::Keyed;
use crate::metrics::Metrics;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event as KubernetesEvent, EventType, Recorder, Reporter};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Events of one namespace that wait to be sent; more are dropped.
const LONGEST_QUEUE: usize = 100;
/// How long sending one event may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// What Kubernetes accepts as the note of an event.
const LONGEST_NOTE: usize = 1_000;

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Why, in one word of `CamelCase`; also the label of the metric.
    pub reason: &'static str,
    /// What was done, in the words of the events API.
    pub action: &'static str,
    /// Whether somebody should look at it.
    pub is_warning: bool,
    /// The sentence that people read.
    pub note: String,
}

/// Where events are told.
#[derive(Clone)]
pub struct EventRecorder {
    metrics: Arc<Metrics>,
    sender: Arc<Sender>,
}

struct Sender {
    client: Client,
    reporter: Reporter,
    bulkheads: Bulkheads,
    /// By namespace: a place for each event that waits.
    queues: Keyed<String, Semaphore>,
}

impl EventRecorder {
    /// Events are sent as this controller, from the instance of this name.
    pub fn new(client: Client, controller: &str, instance: String, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter {
            controller: controller.to_owned(),
            instance: Some(instance),
        };
        let sender = Arc::new(Sender {
            client,
            reporter,
            bulkheads: Bulkheads::default(),
            queues: Keyed::default(),
        });
        Self { metrics, sender }
    }

    /// Tells of a change.
    pub fn publish(&self, object: &ObjectReference, event: Event) {
        let kind = object.kind.as_deref().unwrap_or_default();
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let name = object.name.as_deref().unwrap_or_default();
        let Event {
            reason,
            action,
            is_warning,
            note,
        } = event;
        if is_warning {
            tracing::warn!(kind, namespace, name, reason, "{note}");
        } else {
            tracing::info!(kind, namespace, name, reason, "{note}");
        }
        self.metrics.event(reason);
        let event = KubernetesEvent {
            type_: if is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(shorten(note)),
            action: action.to_owned(),
            secondary: None,
        };
        let queue = || Semaphore::new(LONGEST_QUEUE);
        let queue = self.sender.queues.get(namespace.to_owned(), queue);
        let Ok(place) = queue.try_acquire_owned() else {
            self.metrics.event_dropped();
            return;
        };
        let (sender, object) = (self.sender.clone(), object.clone());
        tokio::spawn(async move {
            sender.send(&event, &object).await;
            drop(place);
        });
    }
}

impl Sender {
    /// Sends an event by a recorder of its own: a shared one would count a new message under an old
    /// one of the same reason and drop its text.
    async fn send(&self, event: &KubernetesEvent, object: &ObjectReference) {
        let compartment = Compartment {
            kind: "Event".into(),
            namespace: object.namespace.clone().unwrap_or_default(),
            is_change: true,
        };
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        let sent = tokio::time::timeout(DEADLINE, recorder.publish(event, object));
        let reason = &event.reason;
        match self.bulkheads.run(compartment, sent).await {
            Ok(Ok(())) => {}
            // The namespace is going or gone, and takes its events with it.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                tracing::debug!(reason, error = status.message, "no event");
            }
            Ok(Err(error)) => tracing::warn!(reason, %error, "could not send an event"),
            Err(_) => tracing::warn!(reason, "could not send an event in time"),
        }
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > LONGEST_NOTE {
        text.truncate(text.floor_char_boundary(LONGEST_NOTE - "…".len()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, FakeApi, Request};
    use serde_json::json;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = shorten("ü".repeat(2_000));
        assert!(note.len() <= LONGEST_NOTE && note.ends_with("ü…"));
        assert_eq!(shorten("short".to_owned()), "short");
    }

    fn drifted() -> Event {
        Event {
            reason: "DriftRepaired",
            action: "Repair",
            is_warning: true,
            note: "column `a` of `t` was missing".to_owned(),
        }
    }

    fn in_namespace(name: &str) -> ObjectReference {
        ObjectReference {
            namespace: Some(name.to_owned()),
            ..ObjectReference::default()
        }
    }

    fn recorder(client: Client, metrics: &Arc<Metrics>) -> EventRecorder {
        EventRecorder::new(client, "operator", "test".to_owned(), metrics.clone())
    }

    /// Waits for an event in this namespace.
    async fn event_in(api: &FakeApi, namespace: &str) -> Request {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let sent = async {
            loop {
                let found = api.events().into_iter().find(|one| one.path == path);
                match found {
                    Some(event) => return event,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), sent);
        in_time.await.unwrap()
    }

    #[tokio::test]
    async fn a_change_is_counted_and_becomes_an_event() {
        let api = FakeApi::default();
        let client = api.client(|request| (201, request.body.clone()));
        let metrics = Arc::new(Metrics::new("test"));
        recorder(client, &metrics).publish(&in_namespace("shop"), drifted());
        let event = event_in(&api, "shop").await.body;
        assert_eq!(event["reason"], "DriftRepaired");
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["note"], "column `a` of `t` was missing");
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"test_events_total{reason="DriftRepaired"} 1"#),
            "{text}"
        );
    }

    #[tokio::test]
    async fn events_that_hang_are_dropped_in_their_own_namespace() {
        let api = FakeApi::default();
        let client = api.client(|request| match &request.path {
            path if path.contains("/broken/") => (testing::NO_ANSWER, json!({})),
            _ => (201, request.body.clone()),
        });
        let metrics = Arc::new(Metrics::new("test"));
        let recorder = recorder(client, &metrics);
        for _ in 0..=LONGEST_QUEUE {
            recorder.publish(&in_namespace("broken"), drifted());
        }
        recorder.publish(&in_namespace("shop"), drifted());
        event_in(&api, "shop").await;
        let text = metrics.encode().unwrap();
        assert!(text.contains("test_events_dropped_total 1"), "{text}");
    }
}

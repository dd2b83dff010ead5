//! What happens and somebody may want to know: one type for each happening, told once, as a log
//! line, a metric and a Kubernetes event.
//!
//! Happenings are changes, not states: a condition that stays as it is tells nothing here.

use crate::keyed::Keyed;
use crate::metrics::{Metrics, ReasonLabel};
use crate::places::{Places, Share};
use aviary_crds::conditions::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Events of one namespace that wait to be sent; more are dropped, as events are a courtesy and
/// reconciles are not.
const LONGEST_QUEUE: usize = 100;
/// How long sending one event may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// What Kubernetes accepts as the note of an event.
const LONGEST_NOTE: usize = 1_000;

/// Something happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// What differed from the spec was put back.
    DriftRepaired { what: String },
    /// The workspace's ClickHouse objects were made.
    Created { what: String },
    /// ClickHouse objects were changed after the spec.
    Updated { what: String },
    /// ClickHouse objects were dropped.
    Dropped { what: String },
    /// ClickHouse objects were left in place and are no longer managed.
    Released { what: String },
    /// A condition turned bad.
    Worsened { reason: Reason, message: String },
    /// A condition turned good again.
    Recovered { reason: Reason, message: String },
    /// The object does not fit its kind's type.
    Unreadable,
}

impl Happening {
    /// The reason of the event and the label of the metric.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::DriftRepaired { .. } => Reason::DriftRepaired,
            Self::Created { .. } => Reason::Created,
            Self::Updated { .. } => Reason::Updated,
            Self::Dropped { .. } => Reason::Dropped,
            Self::Released { .. } => Reason::Released,
            Self::Worsened { reason, .. } | Self::Recovered { reason, .. } => *reason,
            Self::Unreadable => Reason::Invalid,
        }
    }

    fn is_warning(&self) -> bool {
        match self {
            Self::DriftRepaired { .. } | Self::Worsened { .. } | Self::Unreadable => true,
            Self::Created { .. }
            | Self::Updated { .. }
            | Self::Dropped { .. }
            | Self::Released { .. }
            | Self::Recovered { .. } => false,
        }
    }

    /// What the operator was doing, in the words of the events API.
    fn action(&self) -> &'static str {
        match self {
            Self::DriftRepaired { .. } => "Repair",
            Self::Created { .. } => "Create",
            Self::Updated { .. } => "Update",
            Self::Dropped { .. } => "Drop",
            Self::Released { .. } => "Release",
            Self::Worsened { .. } | Self::Recovered { .. } => "Observe",
            Self::Unreadable => "Read",
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DriftRepaired { what } => {
                write!(formatter, "put back what differed from the spec: {what}")
            }
            Self::Created { what } => write!(formatter, "done for the first time: {what}"),
            Self::Updated { what } => write!(formatter, "done because the spec changed: {what}"),
            Self::Dropped { what } => write!(formatter, "done because the owner is gone: {what}"),
            Self::Released { what } => formatter.write_str(what),
            Self::Worsened { message, .. } | Self::Recovered { message, .. } => {
                formatter.write_str(message)
            }
            // What the parser says of it would show values.
            Self::Unreadable => formatter.write_str(
                "the object does not fit its definition and what was made of it is left as it was: compare it with `kubectl explain`",
            ),
        }
    }
}

/// Where happenings are told.
#[derive(Clone)]
pub(crate) struct Telemetry {
    metrics: Arc<Metrics>,
    post: Arc<Post>,
}

/// Sends events, beside everything else and those of each namespace beside those of others.
struct Post {
    client: Client,
    reporter: Reporter,
    places: Places,
    /// By namespace: a place for each event that waits.
    queues: Keyed<String, Semaphore>,
}

impl Telemetry {
    /// Events are sent as this component.
    pub(crate) fn new(client: Client, identity: String, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter {
            controller: "aviary-operator".into(),
            instance: Some(identity),
        };
        let post = Arc::new(Post {
            client,
            reporter,
            places: Places::new(),
            queues: Keyed::default(),
        });
        Self { metrics, post }
    }

    /// Tells of a happening.
    pub(crate) fn emit(&self, object: &ObjectReference, happening: &Happening) {
        let (warning, reason) = (happening.is_warning(), happening.reason().as_str());
        let kind = object.kind.as_deref().unwrap_or_default();
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let name = object.name.as_deref().unwrap_or_default();
        let message = happening.to_string();
        if warning {
            tracing::warn!(kind, namespace, name, reason, "{message}");
        } else {
            tracing::info!(kind, namespace, name, reason, "{message}");
        }
        self.metrics
            .happenings
            .get_or_create(&ReasonLabel { reason })
            .inc();
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(shorten(message)),
            action: happening.action().to_owned(),
            secondary: None,
        };
        let queue = || Semaphore::new(LONGEST_QUEUE);
        let queue = self.post.queues.get(namespace.to_owned(), queue);
        let Ok(place) = queue.try_acquire_owned() else {
            self.metrics.events_dropped.inc();
            return;
        };
        let (post, object) = (self.post.clone(), object.clone());
        tokio::spawn(async move {
            post.send(&event, &object).await;
            drop(place);
        });
    }
}

impl Post {
    /// Sends an event by a recorder of its own: a shared one would count a new message under an old
    /// one of the same reason and drop its text.
    async fn send(&self, event: &Event, object: &ObjectReference) {
        let share = Share {
            kind: "Event".into(),
            namespace: object.namespace.clone().unwrap_or_default(),
            is_change: true,
        };
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        let sent = tokio::time::timeout(DEADLINE, recorder.publish(event, object));
        let reason = &event.reason;
        match self.places.run(share, sent).await {
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

    fn drifted() -> Happening {
        Happening::DriftRepaired {
            what: "column `a` of `t` was missing".to_owned(),
        }
    }

    fn in_namespace(name: &str) -> ObjectReference {
        ObjectReference {
            namespace: Some(name.to_owned()),
            ..ObjectReference::default()
        }
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
    async fn a_happening_is_counted_and_becomes_an_event() {
        let api = FakeApi::default();
        let client = api.client(|request| (201, request.body.clone()));
        let metrics = Arc::new(Metrics::new());
        let telemetry = Telemetry::new(client, "test".to_owned(), metrics.clone());
        telemetry.emit(&in_namespace("shop"), &drifted());
        let event = event_in(&api, "shop").await.body;
        assert_eq!(event["reason"], "DriftRepaired");
        assert_eq!(
            event["note"],
            "put back what differed from the spec: column `a` of `t` was missing"
        );
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"aviary_happenings_total{reason="DriftRepaired"} 1"#),
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
        let metrics = Arc::new(Metrics::new());
        let telemetry = Telemetry::new(client, "test".to_owned(), metrics.clone());
        for _ in 0..=LONGEST_QUEUE {
            telemetry.emit(&in_namespace("broken"), &drifted());
        }
        telemetry.emit(&in_namespace("shop"), &drifted());
        event_in(&api, "shop").await;
        let text = metrics.encode().unwrap();
        assert!(text.contains("aviary_events_dropped_total 1"), "{text}");
    }
}

//! What happens and somebody may want to know: one type for each happening, told once, as a log
//! line, a metric and a Kubernetes event.
//!
//! Happenings are changes, not states: a condition that stays as it is tells nothing here.

use crate::metrics::{Metrics, ReasonLabel};
use aviary_crds::conditions::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that wait to be sent; more are dropped, as events are a courtesy and reconciles are not.
const LONGEST_QUEUE: usize = 1_000;
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
    events: mpsc::Sender<(Event, ObjectReference)>,
}

impl Telemetry {
    /// Starts sending events as this component.
    pub(crate) fn start(client: Client, identity: String, metrics: Arc<Metrics>) -> Self {
        let (events, receiver) = mpsc::channel(LONGEST_QUEUE);
        let reporter = Reporter {
            controller: "aviary-operator".into(),
            instance: Some(identity),
        };
        tokio::spawn(send(client, reporter, receiver));
        Self { metrics, events }
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
        if self.events.try_send((event, object.clone())).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

/// Sends events one after the other. Each gets a recorder of its own: a shared one would count a
/// new message under an old one of the same reason and drop its text.
async fn send(
    client: Client,
    reporter: Reporter,
    mut events: mpsc::Receiver<(Event, ObjectReference)>,
) {
    while let Some((event, object)) = events.recv().await {
        let recorder = Recorder::new(client.clone(), reporter.clone());
        match tokio::time::timeout(DEADLINE, recorder.publish(&event, &object)).await {
            Ok(Ok(())) => {}
            // The namespace is going or gone, and takes its events with it.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                tracing::debug!(reason = event.reason, error = status.message, "no event");
            }
            Ok(Err(error)) => {
                tracing::warn!(reason = event.reason, %error, "could not send an event");
            }
            Err(_) => tracing::warn!(reason = event.reason, "could not send an event in time"),
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

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = shorten("ü".repeat(2_000));
        assert!(note.len() <= LONGEST_NOTE && note.ends_with("ü…"));
        assert_eq!(shorten("short".to_owned()), "short");
    }

    #[tokio::test]
    async fn a_happening_is_counted_and_becomes_an_event() {
        let (events, mut sent) = mpsc::channel(1);
        let metrics = Arc::new(Metrics::new());
        let telemetry = Telemetry {
            metrics: metrics.clone(),
            events,
        };
        let happening = Happening::DriftRepaired {
            what: "column `a` of `t` was missing".to_owned(),
        };
        telemetry.emit(&ObjectReference::default(), &happening);
        telemetry.emit(&ObjectReference::default(), &happening);
        let (event, _) = sent.recv().await.unwrap();
        assert_eq!(event.reason, "DriftRepaired");
        assert_eq!(
            event.note.unwrap(),
            "put back what differed from the spec: column `a` of `t` was missing"
        );
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"aviary_happenings_total{reason="DriftRepaired"} 2"#),
            "{text}"
        );
        assert!(text.contains("aviary_events_dropped_total 1"), "{text}");
    }
}

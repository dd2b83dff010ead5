//! What happens and somebody may want to know: one variant for each, told once, as a log line, a
//! metric and a Kubernetes event. These are changes, not states: a condition that stays as it is
//! tells nothing here.

use aviary_crds::conditions::Reason;
use aviary_crds::event_reasons::EventReason;
use aviary_runtime::events as runtime;
use std::fmt;

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
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

impl Event {
    /// The reason of the event and the label of the metric.
    fn reason(&self) -> &'static str {
        match self {
            Self::DriftRepaired { .. } => EventReason::DriftRepaired.as_str(),
            Self::Created { .. } => EventReason::Created.as_str(),
            Self::Updated { .. } => EventReason::Updated.as_str(),
            Self::Dropped { .. } => EventReason::Dropped.as_str(),
            Self::Released { .. } => EventReason::Released.as_str(),
            Self::Worsened { reason, .. } | Self::Recovered { reason, .. } => reason.as_str(),
            Self::Unreadable => Reason::Invalid.as_str(),
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

impl fmt::Display for Event {
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

impl From<&Event> for runtime::Event {
    fn from(event: &Event) -> Self {
        Self {
            reason: event.reason(),
            action: event.action(),
            is_warning: event.is_warning(),
            note: event.to_string(),
        }
    }
}

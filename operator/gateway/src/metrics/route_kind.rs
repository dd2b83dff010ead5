//! The kinds of requests that are told apart in metrics and logs.

/// What kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RouteKind {
    /// A pipe's rows.
    Endpoint,
    /// What pipes there are.
    Documentation,
    /// Rows as events.
    Events,
    /// Rows as a file.
    Append,
    /// Whether the gateway lives or is ready.
    Probe,
    /// A browser that asks whether it may ask.
    Preflight,
    /// An address or a method that there is not.
    Other,
}

impl RouteKind {
    pub(super) const COUNT: usize = Self::ALL.len();

    pub(super) const ALL: [Self; 7] = [
        Self::Endpoint,
        Self::Documentation,
        Self::Events,
        Self::Append,
        Self::Probe,
        Self::Preflight,
        Self::Other,
    ];

    /// Its name as a label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Documentation => "documentation",
            Self::Events => "events",
            Self::Append => "append",
            Self::Probe => "probe",
            Self::Preflight => "preflight",
            Self::Other => "other",
        }
    }
}

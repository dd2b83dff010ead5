//! The event that a request ends as.

use crate::error_code::ErrorCode;
use crate::metrics::{Resource, RouteKind, RowCounts};
use crate::request_id::RequestId;
use crate::rights::Principal;
use std::sync::Arc;
use std::time::Duration;

/// All that is known of a request once it has ended. It holds names that the operator has published
/// and numbers: no value of a token, no SQL, nothing of rows, and nothing else that a client makes up.
#[derive(Clone)]
pub(crate) struct RequestEvent {
    /// Says when it came, too.
    pub(crate) request_id: RequestId,
    pub(crate) route: RouteKind,
    /// Whose token it had, if it had one that is known.
    pub(crate) principal: Option<Arc<Principal>>,
    /// The pipe or data source it was about, if there is one and the token may use it.
    pub(crate) about: Option<Arc<Resource>>,
    /// The status of the answer; 499 where the client left before there was one.
    pub(crate) status: u16,
    /// Why it failed, also where an answer of status 200 was cut in the middle.
    pub(crate) error: Option<ErrorCode>,
    pub(crate) ending: Ending,
    /// Rows in the answer, where its format tells.
    pub(crate) answered_rows: Option<u64>,
    /// What became of the rows in its body, if it was to have any.
    pub(crate) rows: Option<RowCounts>,
    /// Bytes of its body, as they came.
    pub(crate) received_bytes: u64,
    /// Bytes of the answer's body, as far as they were sent.
    pub(crate) sent_bytes: u64,
    /// From its head to the end of its answer.
    pub(crate) duration: Duration,
    /// Of that, waiting for ClickHouse.
    pub(crate) clickhouse: Duration,
    /// Of that, waiting for the client to send its body or to take the answer.
    pub(crate) client: Duration,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its answer, or its refusal, went out to the end.
    Answered,
    /// Its answer was cut in the middle, since ClickHouse did not finish it.
    Cut,
    /// Its client was gone before the end, of its body or of the answer, or stopped reading; or the
    /// gateway ended.
    ClientGone,
    /// The gateway panicked.
    Panicked,
}

impl RequestEvent {
    /// What it counts for: what it was about, or else the workspace of its token.
    pub(crate) fn resource(&self) -> Option<&Resource> {
        let workspace = self.principal.as_ref().map(|principal| &principal.resource);
        self.about.as_ref().or(workspace).map(Arc::as_ref)
    }

    /// What the gateway took for itself.
    pub(crate) fn gateway(&self) -> Duration {
        self.duration.saturating_sub(self.clickhouse + self.client)
    }
}

impl Ending {
    /// Its name in logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Cut => "cut",
            Self::ClientGone => "client_gone",
            Self::Panicked => "panicked",
        }
    }
}

//! Notes what happens to a request, and makes its event at its end: when its answer is out, when
//! nobody wants it any more, or when its handler panics. Nothing else makes one.

use super::consumers::Consumers;
use super::request_event::{Ending, RequestEvent};
use super::row_counter::RowCounter;
use crate::error_code::ErrorCode;
use crate::format::Format;
use crate::metrics::{Resource, RouteKind, RowCounts};
use crate::request_body::BodyProgress;
use crate::request_id::RequestId;
use crate::rights::Principal;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nginx's number for a client that left before its answer.
const CLIENT_GONE: u16 = 499;
const INTERNAL_ERROR: u16 = 500;

/// A request under way. Dropping it ends the request.
pub(crate) struct Recorder {
    event: RequestEvent,
    started: Instant,
    /// Whom it waits for, and since when.
    waiting: Waiting,
    since: Instant,
    received: Option<Arc<BodyProgress>>,
    row_counter: Option<RowCounter>,
    /// Whether there is an answer.
    answered: bool,
    /// `None` once the event is made.
    consumers: Option<Arc<Consumers>>,
}

/// Whom a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The gateway itself.
    Gateway,
    ClickHouse,
    Client,
}

impl Recorder {
    /// Begins to record a request. `received` tells how far its body has come, if it has one.
    pub(crate) fn begin(
        consumers: &Arc<Consumers>,
        request_id: RequestId,
        received: Option<Arc<BodyProgress>>,
    ) -> Self {
        let route = RouteKind::Other;
        consumers.begin(route);
        let now = Instant::now();
        Self {
            event: RequestEvent {
                request_id,
                route,
                principal: None,
                about: None,
                status: CLIENT_GONE,
                error: None,
                ending: Ending::ClientGone,
                answered_rows: None,
                rows: None,
                received_bytes: 0,
                sent_bytes: 0,
                duration: Duration::ZERO,
                clickhouse: Duration::ZERO,
                client: Duration::ZERO,
            },
            started: now,
            waiting: Waiting::Gateway,
            since: now,
            received,
            row_counter: None,
            answered: false,
            consumers: Some(Arc::clone(consumers)),
        }
    }

    pub(crate) fn request_id(&self) -> &RequestId {
        &self.event.request_id
    }

    /// Its route is known.
    pub(crate) fn routed(&mut self, route: RouteKind) {
        if let Some(consumers) = &self.consumers {
            consumers.reroute(self.event.route, route);
        }
        self.event.route = route;
    }

    /// Its token is known.
    pub(crate) fn authenticated(&mut self, principal: &Arc<Principal>) {
        self.event.principal = Some(Arc::clone(principal));
    }

    /// What it is about is known, and its token may use it.
    pub(crate) fn about(&mut self, resource: &Arc<Resource>) {
        self.event.about = Some(Arc::clone(resource));
    }

    /// From now on it waits for somebody else.
    pub(crate) fn waits_for(&mut self, waiting: Waiting) {
        let now = Instant::now();
        self.note_waiting(now);
        self.waiting = waiting;
        self.since = now;
    }

    /// What became of the rows in its body.
    pub(crate) fn rows(&mut self, rows: RowCounts) {
        self.event.rows = Some(rows);
    }

    /// Its answer has rows in this format.
    pub(crate) fn answers_rows(&mut self, format: Format) {
        self.row_counter = RowCounter::of(format);
    }

    /// It has failed for this reason.
    pub(crate) fn failed(&mut self, error: ErrorCode) {
        self.event.error = Some(error);
    }

    /// There is an answer of this status.
    pub(crate) fn answered(&mut self, status: u16) {
        self.event.status = status;
        self.answered = true;
    }

    /// A piece of the answer goes out, the last one perhaps.
    pub(super) fn sent(&mut self, piece: &[u8], is_last: bool) {
        self.event.sent_bytes += piece.len() as u64;
        if let Some(counter) = &mut self.row_counter {
            counter.pass(piece, is_last);
        }
    }

    /// The request ends: its event is made, if it is not yet.
    pub(super) fn end(&mut self, ending: Ending) {
        let Some(consumers) = self.consumers.take() else {
            return;
        };
        let now = Instant::now();
        self.note_waiting(now);
        let event = &mut self.event;
        event.ending = ending;
        event.duration = now - self.started;
        if let Some(received) = &self.received {
            event.received_bytes = received.bytes();
            // There is an answer, and nobody to take it.
            if received.broke_off() && ending == Ending::Answered {
                event.ending = Ending::ClientGone;
            }
        }
        if ending == Ending::Answered && event.error.is_none() {
            event.answered_rows = self.row_counter.as_ref().and_then(RowCounter::rows);
        }
        if ending == Ending::Panicked && !self.answered {
            event.status = INTERNAL_ERROR;
        }
        consumers.end(event);
    }

    fn note_waiting(&mut self, now: Instant) {
        let waited = now - self.since;
        match self.waiting {
            Waiting::Gateway => {}
            Waiting::ClickHouse => self.event.clickhouse += waited,
            Waiting::Client => self.event.client += waited,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end(if std::thread::panicking() {
            Ending::Panicked
        } else {
            Ending::ClientGone
        });
    }
}

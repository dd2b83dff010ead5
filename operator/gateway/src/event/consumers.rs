//! Who is told of every request that ends.

use super::access_log::AccessLog;
use super::request_event::{Ending, RequestEvent};
use crate::error_code::ErrorCode;
use crate::metrics::{CutBy, Metrics, RouteKind};
use std::sync::Arc;

/// Those who are told. Each worker has its own, so that no two count references in one place.
pub(crate) struct Consumers {
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
}

impl Consumers {
    pub(crate) fn new(metrics: Arc<Metrics>, access_log: Option<Arc<AccessLog>>) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            access_log,
        })
    }

    /// A request begins.
    pub(super) fn begin(&self, route: RouteKind) {
        self.metrics.request_started(route);
    }

    /// The route of a request is known.
    pub(super) fn reroute(&self, before: RouteKind, route: RouteKind) {
        self.metrics.request_routed(before, route);
    }

    /// A request has ended.
    pub(super) fn end(&self, event: &RequestEvent) {
        self.metrics.request_ended(
            event.route,
            event.resource(),
            event.status,
            event.duration,
            event.rows,
        );
        if event.ending == Ending::Cut {
            self.metrics.answer_cut(match event.error {
                Some(ErrorCode::QueryTimeout | ErrorCode::QueryTooLarge) => CutBy::Limit,
                _ => CutBy::Failure,
            });
        }
        if let Some(access_log) = &self.access_log {
            access_log.write(event);
        }
    }
}

//! The gateway's metrics; every name stands here. No label holds a token, a
//! parameter or anything else a client can make up.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::time::Instant;

/// What kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RouteKind {
    Endpoint,
    Documentation,
    Events,
    Append,
    Other,
}

impl RouteKind {
    const ALL: [Self; 5] = [
        Self::Endpoint,
        Self::Documentation,
        Self::Events,
        Self::Append,
        Self::Other,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Documentation => "documentation",
            Self::Events => "events",
            Self::Append => "append",
            Self::Other => "other",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RowLabels {
    namespace: String,
    workspace: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    replica: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone)]
struct Latencies;

impl MetricConstructor<Histogram> for Latencies {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        ])
    }
}

/// All metrics of one gateway.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    routes: [RouteMetrics; RouteKind::ALL.len()],
    rows: Family<RowLabels, Counter>,
    upstream_errors: Family<ErrorLabels, Counter>,
    cut_answers: Counter,
    replicas_up: Family<ReplicaLabels, Gauge>,
    served: Family<KindLabels, Gauge>,
}

/// What every request of a route counts in, looked up once.
struct RouteMetrics {
    succeeded: Counter,
    duration: Histogram,
    in_flight: Gauge,
}

/// Workspaces are told apart by namespace and name.
#[derive(Clone, Copy)]
pub(crate) struct Tenant<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) workspace: &'a str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that count from zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("aviary_gateway");
        let requests: Family<RequestLabels, Counter> = Family::default();
        let durations = Family::new_with_constructor(Latencies);
        let in_flight: Family<RouteLabels, Gauge> = Family::default();
        let routes = RouteKind::ALL.map(|route| {
            let route = route.label();
            RouteMetrics {
                succeeded: requests.get_or_create_owned(&RequestLabels { route, status: 200 }),
                duration: durations.get_or_create_owned(&RouteLabels { route }),
                in_flight: in_flight.get_or_create_owned(&RouteLabels { route }),
            }
        });
        let rows = Family::default();
        let upstream_errors = Family::default();
        let cut_answers = Counter::default();
        let replicas_up = Family::default();
        let served = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time to the end of the answer",
            Unit::Seconds,
            durations,
        );
        registry.register("requests_in_flight", "Requests being answered", in_flight);
        registry.register(
            "rows",
            "Rows taken, by whether they are in the table or in quarantine",
            rows.clone(),
        );
        registry.register(
            "upstream_errors",
            "Requests to ClickHouse without a complete answer",
            upstream_errors.clone(),
        );
        registry.register(
            "answers_cut",
            "Answers cut because ClickHouse failed in the middle",
            cut_answers.clone(),
        );
        registry.register(
            "replica_up",
            "Whether a replica answers",
            replicas_up.clone(),
        );
        registry.register("served", "Objects served, by kind", served.clone());
        Self {
            registry,
            requests,
            routes,
            rows,
            upstream_errors,
            cut_answers,
            replicas_up,
            served,
        }
    }

    /// The metrics as Prometheus reads them.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "encode metrics");
        }
        text
    }

    fn route(&self, route: RouteKind) -> &RouteMetrics {
        &self.routes[route as usize]
    }

    pub(crate) fn upstream_error(&self, reason: &'static str) {
        self.upstream_errors
            .get_or_create(&ErrorLabels { reason })
            .inc();
    }

    pub(crate) fn answer_cut(&self) {
        self.cut_answers.inc();
    }

    pub(crate) fn replica_up(&self, replica: &str, up: bool) {
        let labels = ReplicaLabels {
            replica: replica.to_owned(),
        };
        self.replicas_up.get_or_create(&labels).set(up.into());
    }

    pub(crate) fn served(&self, kind: &'static str, count: usize) {
        self.served
            .get_or_create(&KindLabels { kind })
            .set(count as i64);
    }

    pub(crate) fn rows(&self, tenant: Tenant<'_>, stored: u64, quarantined: u64) {
        for (outcome, count) in [("stored", stored), ("quarantined", quarantined)] {
            let labels = RowLabels {
                namespace: tenant.namespace.to_owned(),
                workspace: tenant.workspace.to_owned(),
                outcome,
            };
            self.rows.get_or_create(&labels).inc_by(count);
        }
    }
}

/// Counts one request from its head to the end of its answer.
pub(crate) struct Measured {
    metrics: Arc<Metrics>,
    route: RouteKind,
    status: u16,
    started: Instant,
}

impl Measured {
    pub(crate) fn start(metrics: Arc<Metrics>, route: RouteKind) -> Self {
        metrics.route(route).in_flight.inc();
        // Nginx's number for "the client left before an answer", unless one is set.
        Self {
            metrics,
            route,
            status: 499,
            started: Instant::now(),
        }
    }

    pub(crate) fn status(&mut self, status: u16) {
        self.status = status;
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let Self {
            metrics,
            route,
            status,
            started,
        } = self;
        let of_route = metrics.route(*route);
        of_route.in_flight.dec();
        of_route.duration.observe(started.elapsed().as_secs_f64());
        if *status == 200 {
            of_route.succeeded.inc();
        } else {
            let (route, status) = (route.label(), *status);
            let labels = RequestLabels { route, status };
            metrics.requests.get_or_create(&labels).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_when_it_ends() {
        let metrics = Arc::new(Metrics::new());
        let mut measured = Measured::start(Arc::clone(&metrics), RouteKind::Endpoint);
        measured.status(200);
        assert!(
            metrics
                .encode()
                .contains("aviary_gateway_requests_in_flight{route=\"endpoint\"} 1")
        );
        drop(measured);
        let text = metrics.encode();
        assert!(
            text.contains("aviary_gateway_requests_total{route=\"endpoint\",status=\"200\"} 1"),
            "{text}"
        );
        assert!(text.contains("aviary_gateway_requests_in_flight{route=\"endpoint\"} 0"));
    }
}

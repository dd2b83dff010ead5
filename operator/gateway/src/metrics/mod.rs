//! The gateway's metrics; every name stands here. No label holds a token, a
//! parameter or anything else a client can make up.

mod replicas;
mod requests;

pub(crate) use replicas::ReplicaState;
pub(crate) use requests::Measured;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use replicas::Replicas;
use requests::Requests;
use std::sync::Arc;

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
struct CutLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UseLabels {
    r#use: &'static str,
}

/// All metrics of one gateway.
pub struct Metrics {
    registry: Registry,
    requests: Requests,
    rows: Family<RowLabels, Counter>,
    upstream_errors: Family<ErrorLabels, Counter>,
    cut_answers: Family<CutLabels, Counter>,
    replica_failures: Counter,
    replicas: Replicas,
    served: Family<KindLabels, Gauge>,
    memory: Family<UseLabels, Gauge>,
    connections: Gauge,
    refused: Family<ErrorLabels, Counter>,
}

/// What cuts an answer in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutBy {
    /// A limit of the query's own workspace.
    Limit,
    /// ClickHouse failed or was lost.
    Failure,
}

impl CutBy {
    fn labels(self) -> CutLabels {
        let cause = match self {
            Self::Limit => "limit",
            Self::Failure => "failure",
        };
        CutLabels { cause }
    }
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
        let requests = Requests::default();
        let rows = Family::default();
        let upstream_errors = Family::default();
        let cut_answers = Family::<CutLabels, Counter>::default();
        // There from the start, so that the first one shows as an increase.
        for by in [CutBy::Limit, CutBy::Failure] {
            drop(cut_answers.get_or_create(&by.labels()));
        }
        let replica_failures = Counter::default();
        let replicas = Replicas::default();
        let served = Family::default();
        let memory = Family::default();
        let connections = Gauge::default();
        let refused = Family::default();
        registry.register_collector(Box::new(requests.clone()));
        registry.register(
            "rows",
            "Rows read, by what became of them: stored, quarantined, failed, or unconfirmed by ClickHouse",
            rows.clone(),
        );
        registry.register(
            "upstream_errors",
            "Requests to ClickHouse without a complete answer",
            upstream_errors.clone(),
        );
        registry.register(
            "answers_cut",
            "Answers cut in the middle, by a limit of their workspace or a failure of ClickHouse",
            cut_answers.clone(),
        );
        registry.register_collector(Box::new(replicas.clone()));
        registry.register(
            "replica_failures",
            "Failures for which a replica is to blame, and not the statement",
            replica_failures.clone(),
        );
        registry.register("served", "Objects served, by kind", served.clone());
        registry.register(
            "memory_held_bytes",
            "Memory counted for what requests hold, by what for",
            memory.clone(),
        );
        registry.register(
            "connections",
            "Connections of clients that are open",
            connections.clone(),
        );
        registry.register(
            "refused",
            "Connections and requests refused for what else the gateway does",
            refused.clone(),
        );
        Self {
            registry,
            requests,
            rows,
            upstream_errors,
            cut_answers,
            replica_failures,
            replicas,
            served,
            memory,
            connections,
            refused,
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

    /// Begins to count a request.
    pub(crate) fn request(&self, route: RouteKind) -> Measured {
        self.requests.start(route)
    }

    pub(crate) fn upstream_error(&self, reason: &'static str) {
        self.upstream_errors
            .get_or_create(&ErrorLabels { reason })
            .inc();
    }

    /// Counts the answers that something cuts in the middle.
    pub(crate) fn cut_answers(&self, by: CutBy) -> Counter {
        self.cut_answers.get_or_create(&by.labels()).clone()
    }

    /// Counts a failure for which a replica is to blame.
    pub(crate) fn replica_failure(&self) {
        self.replica_failures.inc();
    }

    /// Where to say how the replica at this address is.
    pub(crate) fn replica(&self, address: &str) -> Arc<ReplicaState> {
        self.replicas.at(address)
    }

    /// Shows the memory that is held for a use.
    pub(crate) fn memory(&self, r#use: &'static str) -> Gauge {
        self.memory.get_or_create(&UseLabels { r#use }).clone()
    }

    /// Shows how many connections are open.
    pub(crate) fn connections(&self) -> Gauge {
        self.connections.clone()
    }

    /// Counts what is refused because there is too much of it.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ErrorLabels { reason }).inc();
    }

    pub(crate) fn served(&self, kind: &'static str, count: usize) {
        self.served
            .get_or_create(&KindLabels { kind })
            .set(count as i64);
    }

    /// Counts rows of a workspace. Those stored and quarantined are there from the first on.
    pub(crate) fn rows(&self, tenant: Tenant<'_>, rows: RowCounts) {
        let RowCounts {
            stored,
            quarantined,
            failed,
            unconfirmed,
        } = rows;
        let always = [("stored", stored), ("quarantined", quarantined)];
        let seldom = [("failed", failed), ("unconfirmed", unconfirmed)];
        let seldom = seldom.into_iter().filter(|(_, count)| *count > 0);
        for (outcome, count) in always.into_iter().chain(seldom) {
            let labels = RowLabels {
                namespace: tenant.namespace.to_owned(),
                workspace: tenant.workspace.to_owned(),
                outcome,
            };
            self.rows.get_or_create(&labels).inc_by(count);
        }
    }
}

/// What became of rows that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowCounts {
    /// In the table.
    pub(crate) stored: u64,
    /// In quarantine.
    pub(crate) quarantined: u64,
    /// Neither, for sure.
    pub(crate) failed: u64,
    /// Sent, and ClickHouse did not say what became of them.
    pub(crate) unconfirmed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_request_is_counted_when_it_ends() {
        let metrics = Metrics::new();
        let mut measured = metrics.request(RouteKind::Endpoint);
        measured.status(200);
        let text = metrics.encode();
        assert!(text.contains("aviary_gateway_requests_in_flight{route=\"endpoint\"} 1"));
        drop(measured);
        metrics.request(RouteKind::Events).status(400);
        let text = metrics.encode();
        for line in [
            "aviary_gateway_requests_in_flight{route=\"endpoint\"} 0",
            "aviary_gateway_requests_total{route=\"endpoint\",status=\"200\"} 1",
            "aviary_gateway_requests_total{route=\"events\",status=\"200\"} 0",
            "aviary_gateway_requests_total{route=\"events\",status=\"400\"} 1",
            "aviary_gateway_request_duration_seconds_count{route=\"endpoint\"} 1",
            "aviary_gateway_request_duration_seconds_bucket{le=\"+Inf\",route=\"endpoint\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_replica_is_shown_for_as_long_as_it_is_used() {
        let metrics = Metrics::new();
        let shown = || -> Vec<String> {
            let text = metrics.encode();
            let lines = text.lines().filter(|line| line.contains("replica_up{"));
            lines.map(str::to_owned).collect()
        };
        let (one, same) = (metrics.replica("a:8123"), metrics.replica("a:8123"));
        one.set_up(false);
        let away = "aviary_gateway_replica_up{replica=\"a:8123\"} 0";
        assert_eq!(shown(), [away]);
        drop(one);
        assert_eq!(shown(), [away]);
        drop(same);
        assert_eq!(shown(), Vec::<String>::new());
    }

    #[test]
    fn a_replica_is_shown_as_ejected_until_it_is_not() {
        let metrics = Metrics::new();
        let replica = metrics.replica("a:8123");
        let now = Instant::now();
        for (until, shown) in [
            (None, 0),
            (Some(now + Duration::from_mins(1)), 1),
            (Some(now), 0),
        ] {
            replica.set_ejected(until);
            let line = format!("aviary_gateway_replica_ejected{{replica=\"a:8123\"}} {shown}");
            assert!(metrics.encode().lines().any(|found| found == line));
        }
    }
}

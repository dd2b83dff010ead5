//! The gateway's metrics; every name stands here. No label holds a token, a
//! parameter or anything else a client can make up.

mod replicas;
mod requests;
mod resources;
mod route_kind;
mod series;

pub(crate) use replicas::ReplicaState;
pub(crate) use resources::{Resource, ResourceKind, ResourceName};
pub(crate) use route_kind::RouteKind;
pub(crate) use series::RowCounts;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use replicas::Replicas;
use requests::Requests;
use std::sync::Arc;
use std::time::Duration;

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
    upstream_errors: Family<ErrorLabels, Counter>,
    cut_answers: Family<CutLabels, Counter>,
    replica_failures: Counter,
    replicas: Replicas,
    served: Family<KindLabels, Gauge>,
    memory: Family<UseLabels, Gauge>,
    connections: Gauge,
    refused: Family<ErrorLabels, Counter>,
    access_log_dropped: Counter,
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
        let access_log_dropped = Counter::default();
        registry.register_collector(Box::new(requests.clone()));
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
        registry.register(
            "access_log_dropped",
            "Lines that the access log could not take in time",
            access_log_dropped.clone(),
        );
        Self {
            registry,
            requests,
            upstream_errors,
            cut_answers,
            replica_failures,
            replicas,
            served,
            memory,
            connections,
            refused,
            access_log_dropped,
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

    /// The pipe, data source or workspace of this name, to count requests for.
    pub(crate) fn resource(&self, name: ResourceName) -> Arc<Resource> {
        self.requests.resource(name)
    }

    /// Counts a request that begins; [`Self::request_ended`] counts it again.
    pub(crate) fn request_started(&self, route: RouteKind) {
        self.requests.started(route);
    }

    /// The route of a request that has begun is known.
    pub(crate) fn request_routed(&self, before: RouteKind, route: RouteKind) {
        self.requests.routed(before, route);
    }

    /// Counts a request that has ended, for what it was about, if that is known.
    pub(crate) fn request_ended(
        &self,
        route: RouteKind,
        resource: Option<&Resource>,
        status: u16,
        duration: Duration,
        rows: Option<RowCounts>,
    ) {
        self.requests.ended(route, resource, status, duration, rows);
    }

    /// Counts lines that the access log does not take.
    pub(crate) fn access_log_dropped(&self) -> Counter {
        self.access_log_dropped.clone()
    }

    pub(crate) fn upstream_error(&self, reason: &'static str) {
        self.upstream_errors
            .get_or_create(&ErrorLabels { reason })
            .inc();
    }

    /// Counts an answer that something cuts in the middle.
    pub(crate) fn answer_cut(&self, by: CutBy) {
        self.cut_answers.get_or_create(&by.labels()).inc();
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn answer(metrics: &Metrics, route: RouteKind, resource: Option<&Resource>, status: u16) {
        metrics.request_started(route);
        metrics.request_ended(route, resource, status, Duration::from_millis(3), None);
    }

    #[test]
    fn a_request_is_counted_when_it_ends() {
        let metrics = Metrics::new();
        metrics.request_started(RouteKind::Endpoint);
        let text = metrics.encode();
        assert!(text.contains("aviary_gateway_requests_in_flight{route=\"endpoint\"} 1"));
        metrics.request_ended(RouteKind::Endpoint, None, 200, Duration::ZERO, None);
        answer(&metrics, RouteKind::Events, None, 400);
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

    fn name(kind: ResourceKind, name: &str) -> ResourceName {
        ResourceName {
            namespace: "demo".to_owned(),
            workspace: "shop".to_owned(),
            kind,
            name: name.to_owned(),
        }
    }

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.encode().lines().any(|found| found == line)
    }

    #[test]
    fn what_a_request_is_about_is_a_label() {
        let metrics = Metrics::new();
        let pipe = metrics.resource(name(ResourceKind::Pipe, "top"));
        let sales = metrics.resource(name(ResourceKind::DataSource, "sales"));
        let shop = metrics.resource(name(ResourceKind::Workspace, ""));
        answer(&metrics, RouteKind::Endpoint, Some(&pipe), 200);
        answer(&metrics, RouteKind::Endpoint, Some(&pipe), 408);
        answer(&metrics, RouteKind::Endpoint, Some(&shop), 429);
        for (route, stored) in [(RouteKind::Events, 2), (RouteKind::Append, 3)] {
            let rows = RowCounts {
                stored,
                ..RowCounts::default()
            };
            metrics.request_started(route);
            metrics.request_ended(route, Some(&sales), 200, Duration::ZERO, Some(rows));
        }
        for line in [
            "aviary_gateway_requests_total{route=\"endpoint\",status=\"200\",namespace=\"demo\",workspace=\"shop\",pipe=\"top\"} 1",
            "aviary_gateway_requests_total{route=\"endpoint\",status=\"408\",namespace=\"demo\",workspace=\"shop\",pipe=\"top\"} 1",
            "aviary_gateway_requests_total{route=\"endpoint\",status=\"429\",namespace=\"demo\",workspace=\"shop\"} 1",
            "aviary_gateway_requests_total{route=\"append\",status=\"200\",namespace=\"demo\",workspace=\"shop\",datasource=\"sales\"} 1",
            "aviary_gateway_request_duration_seconds_count{route=\"endpoint\",namespace=\"demo\",workspace=\"shop\",pipe=\"top\"} 2",
            "aviary_gateway_rows_total{namespace=\"demo\",workspace=\"shop\",datasource=\"sales\",outcome=\"stored\"} 5",
            "aviary_gateway_rows_total{namespace=\"demo\",workspace=\"shop\",datasource=\"sales\",outcome=\"quarantined\"} 0",
            "aviary_gateway_requests_total{route=\"endpoint\",status=\"200\"} 0",
        ] {
            assert!(has(&metrics, line), "{line} in\n{}", metrics.encode());
        }
    }

    #[test]
    fn a_pipe_is_shown_for_as_long_as_it_is_served() {
        let metrics = Metrics::new();
        let top = || metrics.resource(name(ResourceKind::Pipe, "top"));
        let (first, same) = (top(), top());
        answer(&metrics, RouteKind::Endpoint, Some(&first), 200);
        drop(first);
        answer(&metrics, RouteKind::Endpoint, Some(&same), 200);
        assert!(metrics.encode().contains("pipe=\"top\"} 2"));
        drop(same);
        assert!(!metrics.encode().contains("top"));
        let again = top();
        answer(&metrics, RouteKind::Endpoint, Some(&again), 200);
        assert!(metrics.encode().contains("pipe=\"top\"} 1"));
    }

    #[test]
    fn label_sets_have_a_bound_beyond_which_requests_are_counted_together() {
        let metrics = Metrics::new();
        let pipe = |workspace: &str, number: usize| {
            metrics.resource(ResourceName {
                workspace: workspace.to_owned(),
                ..name(ResourceKind::Pipe, &format!("p{number}"))
            })
        };
        let answer = |pipe: &Resource| answer(&metrics, RouteKind::Endpoint, Some(pipe), 200);
        let shown = |workspace: &str| {
            let workspace = format!("workspace=\"{workspace}\",pipe=");
            let text = metrics.encode();
            let lines = text.lines().filter(|line| {
                line.starts_with("aviary_gateway_requests_total{") && line.contains(&workspace)
            });
            lines.count()
        };
        let half = resources::MOST_LABEL_SETS / 2;
        let mut pipes: Vec<_> = (0..half + 3).map(|number| pipe("large", number)).collect();
        pipes.iter().for_each(|pipe| answer(pipe));
        assert_eq!(shown("large"), half);
        let other = "aviary_gateway_requests_total{route=\"endpoint\",status=\"200\",workspace=\"other\"} 3";
        assert!(has(&metrics, other));
        // A neighbour finds room.
        let neighbour = pipe("small", 0);
        answer(&neighbour);
        assert_eq!(shown("small"), 1);
        // One that goes leaves room for another.
        drop(neighbour);
        drop(pipes.swap_remove(0));
        answer(&pipe("large", 0));
        let late = pipe("large", half + 3);
        answer(&late);
        assert_eq!(shown("large"), half);
        assert!(
            metrics
                .encode()
                .contains(&format!("pipe=\"p{}\"", half + 3))
        );
        assert!(has(&metrics, other));
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

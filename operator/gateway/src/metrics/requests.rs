//! What every request counts in. Each worker has its own numbers, so that requests on
//! different cores do not fetch memory from each other; they are added up when somebody asks.

use super::RouteKind;
use crate::workers::PerWorker;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the histogram's buckets, in seconds. What takes longer has one, too.
const BOUNDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

/// The requests of all workers.
#[derive(Clone)]
pub(super) struct Requests {
    workers: Arc<PerWorker<Arc<OfWorker>>>,
    others: Family<RequestLabels, Counter>,
}

/// The requests of one worker.
struct OfWorker {
    routes: [OfRoute; RouteKind::ALL.len()],
    /// Those with another status than 200, which are rare: of all workers.
    others: Family<RequestLabels, Counter>,
}

#[derive(Default)]
struct OfRoute {
    in_flight: AtomicI64,
    succeeded: AtomicU64,
    /// How many took how long.
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// Counts one request from its head to the end of its answer.
pub(crate) struct Measured {
    worker: Arc<OfWorker>,
    route: RouteKind,
    status: u16,
    started: Instant,
}

impl Default for Requests {
    fn default() -> Self {
        let others = Family::default();
        let worker = || {
            Arc::new(OfWorker {
                routes: Default::default(),
                others: others.clone(),
            })
        };
        Self {
            workers: Arc::new(PerWorker::new(worker)),
            others,
        }
    }
}

impl Requests {
    pub(super) fn start(&self, route: RouteKind) -> Measured {
        let worker = Arc::clone(self.workers.own());
        let in_flight = &worker.routes[route as usize].in_flight;
        in_flight.fetch_add(1, Ordering::Relaxed);
        Measured {
            worker,
            route,
            // Nginx's number for "the client left before an answer", unless one is set.
            status: 499,
            started: Instant::now(),
        }
    }

    fn sum<T: std::iter::Sum>(&self, route: RouteKind, of: impl Fn(&OfRoute) -> T) -> T {
        let workers = self.workers.iter();
        workers
            .map(|worker| of(&worker.routes[route as usize]))
            .sum()
    }
}

impl Measured {
    pub(crate) fn status(&mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let route = &self.worker.routes[self.route as usize];
        route.in_flight.fetch_sub(1, Ordering::Relaxed);
        route.observe(self.started.elapsed());
        if self.status == 200 {
            route.succeeded.fetch_add(1, Ordering::Relaxed);
        } else {
            let (route, status) = (self.route.label(), self.status);
            let labels = RequestLabels { route, status };
            self.worker.others.get_or_create(&labels).inc();
        }
    }
}

impl OfRoute {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_answered(&mut encoder)?;
        self.encode_in_flight(&mut encoder)?;
        self.encode_durations(&mut encoder)
    }
}

impl Requests {
    fn encode_answered(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut answered = encoder.encode_descriptor(
            "requests",
            "Requests answered.",
            None,
            MetricType::Counter,
        )?;
        for route in RouteKind::ALL {
            let count = self.sum(route, |of| of.succeeded.load(Ordering::Relaxed));
            let route = route.label();
            let labels = RequestLabels { route, status: 200 };
            let none: Option<&Exemplar<NoLabelSet, f64>> = None;
            answered
                .encode_family(&labels)?
                .encode_counter(&count, none)?;
        }
        self.others.encode(answered)
    }

    fn encode_in_flight(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests being answered.";
        let mut in_flight =
            encoder.encode_descriptor("requests_in_flight", help, None, MetricType::Gauge)?;
        for route in RouteKind::ALL {
            let count = self.sum(route, |of| of.in_flight.load(Ordering::Relaxed));
            let route = route.label();
            in_flight
                .encode_family(&RouteLabels { route })?
                .encode_gauge(&count)?;
        }
        Ok(())
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("request_duration", "Time to the end of the answer.");
        let unit = Some(&Unit::Seconds);
        let mut durations = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for route in RouteKind::ALL {
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds
                .enumerate()
                .map(|(bucket, bound)| {
                    let count = |of: &OfRoute| of.durations[bucket].load(Ordering::Relaxed);
                    (bound, self.sum(route, count))
                })
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let nanoseconds = self.sum(route, |of| of.nanoseconds.load(Ordering::Relaxed));
            let seconds = Duration::from_nanos(nanoseconds).as_secs_f64();
            let route = route.label();
            durations
                .encode_family(&RouteLabels { route })?
                .encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Requests").finish_non_exhaustive()
    }
}

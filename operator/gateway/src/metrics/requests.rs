//! What every request counts in, by route, status, and what it is about.

use super::resources::{Resource, ResourceKind, ResourceName, Resources};
use super::route_kind::RouteKind;
use super::series::{ROW_OUTCOMES, RowCounts, Series};
use crate::workers::PerWorker;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The labels of those whose label sets are too many. No workspace is without a namespace.
const OTHER: (&str, &str) = ("workspace", "other");

/// The requests of all workers.
#[derive(Clone)]
pub(super) struct Requests(Arc<Shared>);

struct Shared {
    in_flight: PerWorker<[AtomicI64; RouteKind::COUNT]>,
    /// Those that are about nothing that is served.
    unattributed: [Series; RouteKind::COUNT],
    resources: Resources,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Default for Requests {
    fn default() -> Self {
        Self(Arc::new(Shared {
            in_flight: PerWorker::new(Default::default),
            unattributed: std::array::from_fn(|_| Series::new()),
            resources: Resources::default(),
        }))
    }
}

impl Requests {
    pub(super) fn resource(&self, name: ResourceName) -> Arc<Resource> {
        self.0.resources.named(name)
    }

    pub(super) fn started(&self, route: RouteKind) {
        self.in_flight(route).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn routed(&self, before: RouteKind, route: RouteKind) {
        self.in_flight(before).fetch_sub(1, Ordering::Relaxed);
        self.in_flight(route).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(
        &self,
        route: RouteKind,
        resource: Option<&Resource>,
        status: u16,
        duration: Duration,
        rows: Option<RowCounts>,
    ) {
        self.in_flight(route).fetch_sub(1, Ordering::Relaxed);
        let series = match resource {
            Some(resource) => resource.series(route),
            None => &self.0.unattributed[route as usize],
        };
        series.count(status, duration, rows);
    }

    fn in_flight(&self, route: RouteKind) -> &AtomicI64 {
        &self.0.in_flight.own()[route as usize]
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let resources = self.0.resources.served();
        let mut series = Vec::new();
        for route in RouteKind::ALL {
            let label = ("route", route.label());
            series.push((vec![label], &self.0.unattributed[route as usize]));
            for resource in &resources {
                if let Some(own) = resource.own_series(route) {
                    let mut labels = vec![label];
                    labels.extend(resource.name.labels());
                    series.push((labels, own));
                }
            }
            if let Some(others) = self.0.resources.others(route) {
                series.push((vec![label, OTHER], &**others));
            }
        }
        encode_answered(&mut encoder, &series)?;
        self.encode_in_flight(&mut encoder)?;
        encode_durations(&mut encoder, &series)?;
        self.encode_rows(&mut encoder, &resources)
    }
}

impl Requests {
    fn encode_in_flight(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests being answered.";
        let mut in_flight =
            encoder.encode_descriptor("requests_in_flight", help, None, MetricType::Gauge)?;
        for route in RouteKind::ALL {
            let workers = self.0.in_flight.iter();
            let count: i64 = workers
                .map(|worker| worker[route as usize].load(Ordering::Relaxed))
                .sum();
            let labels = [("route", route.label())];
            in_flight.encode_family(&labels)?.encode_gauge(&count)?;
        }
        Ok(())
    }

    /// Rows by data source, whatever way they came. Those stored and quarantined are there from the
    /// first on.
    fn encode_rows(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        resources: &[Arc<Resource>],
    ) -> fmt::Result {
        let help = "Rows read, by what became of them: stored, quarantined, failed, or unconfirmed by ClickHouse.";
        let mut encoder = encoder.encode_descriptor("rows", help, None, MetricType::Counter)?;
        let ways = [RouteKind::Events, RouteKind::Append];
        let data_sources = resources.iter();
        let data_sources =
            data_sources.filter(|resource| resource.name.kind == ResourceKind::DataSource);
        for data_source in data_sources {
            let series = ways.iter().filter_map(|way| data_source.own_series(*way));
            encode_rows(&mut encoder, &data_source.name.labels(), series)?;
        }
        let others = ways.iter().filter_map(|way| self.0.resources.others(*way));
        encode_rows(&mut encoder, &[OTHER], others.map(|series| &**series))
    }
}

fn encode_answered(
    encoder: &mut DescriptorEncoder<'_>,
    series: &[(Labels<'_>, &Series)],
) -> fmt::Result {
    let help = "Requests answered.";
    let mut answered = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
    for (labels, series) in series {
        for (status, count) in series.answered() {
            let status = status.to_string();
            let mut labels = labels.clone();
            labels.insert(1, ("status", &status));
            encode_count(&mut answered, &labels, count)?;
        }
    }
    Ok(())
}

fn encode_durations(
    encoder: &mut DescriptorEncoder<'_>,
    series: &[(Labels<'_>, &Series)],
) -> fmt::Result {
    let (name, help) = ("request_duration", "Time to the end of the answer.");
    let unit = Some(&Unit::Seconds);
    let mut encoder = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
    for (labels, series) in series {
        let durations = series.durations();
        encoder
            .encode_family(labels)?
            .encode_histogram::<NoLabelSet>(
                durations.seconds,
                durations.count,
                &durations.buckets,
                None,
            )?;
    }
    Ok(())
}

fn encode_rows<'s>(
    encoder: &mut MetricEncoder<'_>,
    labels: &[(&'static str, &str)],
    series: impl Iterator<Item = &'s Series>,
) -> fmt::Result {
    let all = series.map(Series::rows);
    let Some(counts) = all.reduce(|a, b| std::array::from_fn(|outcome| a[outcome] + b[outcome]))
    else {
        return Ok(());
    };
    for (outcome, (label, count)) in ROW_OUTCOMES.into_iter().zip(counts).enumerate() {
        if outcome < 2 || count > 0 {
            let mut labels = labels.to_vec();
            labels.push(("outcome", label));
            encode_count(encoder, &labels, count)?;
        }
    }
    Ok(())
}

fn encode_count(encoder: &mut MetricEncoder<'_>, labels: &Labels<'_>, count: u64) -> fmt::Result {
    let none: Option<&Exemplar<NoLabelSet, f64>> = None;
    encoder.encode_family(labels)?.encode_counter(&count, none)
}

impl fmt::Debug for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Requests").finish_non_exhaustive()
    }
}

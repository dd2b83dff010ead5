//! How a gauge that is read when Prometheus asks is written.

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::fmt;

/// Writes the gauges of a family.
pub(crate) fn gauge<Labels>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    family: &Family<Labels, Gauge>,
) -> fmt::Result
where
    Labels: EncodeLabelSet + Clone + std::hash::Hash + Eq,
{
    family.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

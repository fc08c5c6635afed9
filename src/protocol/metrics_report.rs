//! Metrics that agents report.

use super::now_ms;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;

/// Report of an agent's metrics, sent over its connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsReport {
    /// Id that the agent gives itself.
    pub agent_id: String,
    /// Time of the report, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Length of the interval that it covers, in milliseconds.
    pub interval_ms: u64,
    /// Values that only increase.
    #[serde(default)]
    pub counters: Vec<CounterMetric>,
    /// Values that increase and decrease.
    #[serde(default)]
    pub gauges: Vec<GaugeMetric>,
    /// Distributions.
    #[serde(default)]
    pub histograms: Vec<HistogramMetric>,
}

impl MetricsReport {
    /// Creates an empty report with the current time.
    pub fn new(agent_id: impl Into<String>, interval_ms: u64) -> Self {
        Self {
            agent_id: agent_id.into(),
            timestamp_ms: now_ms(),
            interval_ms,
            counters: Vec::new(),
            gauges: Vec::new(),
            histograms: Vec::new(),
        }
    }

    /// Returns whether the report contains no metrics.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.gauges.is_empty() && self.histograms.is_empty()
    }
}

/// A value that only increases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterMetric {
    /// Name of the metric.
    pub name: String,
    /// Description of the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Labels of the series.
    #[serde(default)]
    pub labels: HashMap<String, String>,
    /// Current count.
    pub value: u64,
}

impl CounterMetric {
    /// Creates a counter without description and labels.
    pub fn new(name: impl Into<String>, value: u64) -> Self {
        Self {
            name: name.into(),
            help: None,
            labels: HashMap::new(),
            value,
        }
    }
}

/// A value that increases and decreases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GaugeMetric {
    /// Name of the metric.
    pub name: String,
    /// Description of the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Labels of the series.
    #[serde(default)]
    pub labels: HashMap<String, String>,
    /// Current value. A series whose value is not finite is dropped by the receiver.
    #[serde(deserialize_with = "read_float")]
    pub value: f64,
}

impl GaugeMetric {
    /// Creates a gauge without description and labels.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            help: None,
            labels: HashMap::new(),
            value,
        }
    }
}

/// A distribution of observed values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramMetric {
    /// Name of the metric.
    pub name: String,
    /// Description of the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Labels of the series.
    #[serde(default)]
    pub labels: HashMap<String, String>,
    /// Sum of all observed values.
    #[serde(deserialize_with = "read_float")]
    pub sum: f64,
    /// Number of observed values.
    pub count: u64,
    /// Cumulative counts by upper bound.
    pub buckets: Vec<HistogramBucket>,
}

/// Bucket of a [`HistogramMetric`]: the number of observed values that are at most `le`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramBucket {
    /// Upper bound. Infinity is serialized as `"+Inf"`.
    #[serde(serialize_with = "write_bound", deserialize_with = "read_bound")]
    pub le: f64,
    /// Number of values up to the bound.
    pub count: u64,
}

impl HistogramBucket {
    /// Creates an empty bucket.
    pub fn new(le: f64) -> Self {
        Self { le, count: 0 }
    }

    /// Creates an empty bucket without an upper bound.
    pub fn infinity() -> Self {
        Self::new(f64::INFINITY)
    }
}

/// Conventional names of metrics that many agents report.
pub mod standard {
    /// Counter of requests that the agent has handled.
    pub const REQUESTS_TOTAL: &str = "agent_requests_total";
    /// Counter of requests that the agent has blocked.
    pub const REQUESTS_BLOCKED_TOTAL: &str = "agent_requests_blocked_total";
    /// Histogram of the agent's processing time of a request, in seconds.
    pub const REQUESTS_DURATION_SECONDS: &str = "agent_requests_duration_seconds";
    /// Counter of errors in the agent.
    pub const ERRORS_TOTAL: &str = "agent_errors_total";
    /// Gauge of requests that the agent works on.
    pub const IN_FLIGHT_REQUESTS: &str = "agent_in_flight_requests";
    /// Gauge of requests that wait in the agent.
    pub const QUEUE_DEPTH: &str = "agent_queue_depth";
}

/// Reads a number, and null as NaN: encodings without NaN write null for it. The collector later
/// drops only the series with this value, not the whole report.
fn read_float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(|value| value.unwrap_or(f64::NAN))
}

fn write_bound<S: Serializer>(le: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *le {
        f64::INFINITY => serializer.serialize_str("+Inf"),
        f64::NEG_INFINITY => serializer.serialize_str("-Inf"),
        le => serializer.serialize_f64(le),
    }
}

fn read_bound<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bound {
        Number(f64),
        Text(String),
        Null(()),
    }
    match Bound::deserialize(deserializer)? {
        Bound::Number(le) => Ok(le),
        Bound::Null(()) => Ok(f64::NAN),
        Bound::Text(text) if text == "+Inf" || text == "Inf" => Ok(f64::INFINITY),
        Bound::Text(text) => text
            .parse()
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"a number or +Inf")),
    }
}

use super::now_ms;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;

/// Metrics that an agent reports over its connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsReport {
    /// Who reports.
    pub agent_id: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The time it covers, in milliseconds.
    pub interval_ms: u64,
    /// Values that only grow.
    #[serde(default)]
    pub counters: Vec<CounterMetric>,
    /// Values that go up and down.
    #[serde(default)]
    pub gauges: Vec<GaugeMetric>,
    /// Distributions.
    #[serde(default)]
    pub histograms: Vec<HistogramMetric>,
}

impl MetricsReport {
    /// An empty report, made now.
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

    /// Whether nothing is reported.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.gauges.is_empty() && self.histograms.is_empty()
    }
}

/// A value that only grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterMetric {
    /// Name of the metric.
    pub name: String,
    /// What it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Labels of the series.
    #[serde(default)]
    pub labels: HashMap<String, String>,
    /// The count.
    pub value: u64,
}

impl CounterMetric {
    /// A counter without help or labels.
    pub fn new(name: impl Into<String>, value: u64) -> Self {
        Self {
            name: name.into(),
            help: None,
            labels: HashMap::new(),
            value,
        }
    }
}

/// A value that goes up and down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GaugeMetric {
    /// Name of the metric.
    pub name: String,
    /// What it measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Labels of the series.
    #[serde(default)]
    pub labels: HashMap<String, String>,
    /// The value.
    #[serde(deserialize_with = "read_float")]
    pub value: f64,
}

impl GaugeMetric {
    /// A gauge without help or labels.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            help: None,
            labels: HashMap::new(),
            value,
        }
    }
}

/// A distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramMetric {
    /// Name of the metric.
    pub name: String,
    /// What it measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Labels of the series.
    #[serde(default)]
    pub labels: HashMap<String, String>,
    /// Sum of all observed values.
    #[serde(deserialize_with = "read_float")]
    pub sum: f64,
    /// How many values were observed.
    pub count: u64,
    /// Cumulative counts by upper bound.
    pub buckets: Vec<HistogramBucket>,
}

/// How many observed values were at most `le`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramBucket {
    /// Upper bound; infinity is written as `"+Inf"`.
    #[serde(serialize_with = "write_bound", deserialize_with = "read_bound")]
    pub le: f64,
    /// The count.
    pub count: u64,
}

impl HistogramBucket {
    /// An empty bucket.
    pub fn new(le: f64) -> Self {
        Self { le, count: 0 }
    }

    /// An empty bucket without an upper bound.
    pub fn infinity() -> Self {
        Self::new(f64::INFINITY)
    }
}

/// Names of metrics that many agents have.
pub mod standard {
    /// Requests that the agent has looked at.
    pub const REQUESTS_TOTAL: &str = "agent_requests_total";
    /// Requests that the agent has blocked.
    pub const REQUESTS_BLOCKED_TOTAL: &str = "agent_requests_blocked_total";
    /// How long the agent took over a request.
    pub const REQUESTS_DURATION_SECONDS: &str = "agent_requests_duration_seconds";
    /// What went wrong in the agent.
    pub const ERRORS_TOTAL: &str = "agent_errors_total";
    /// Requests that the agent works on.
    pub const IN_FLIGHT_REQUESTS: &str = "agent_in_flight_requests";
    /// Requests that wait in the agent.
    pub const QUEUE_DEPTH: &str = "agent_queue_depth";
}

/// Encodings that have no NaN write null for it. The one series that it stands in is thrown away later, the report
/// around it is not.
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

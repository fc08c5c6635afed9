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
    pub value: f64,
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
    }
    match Bound::deserialize(deserializer)? {
        Bound::Number(le) => Ok(le),
        Bound::Text(text) if text == "+Inf" || text == "Inf" => Ok(f64::INFINITY),
        Bound::Text(text) => text
            .parse()
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"a number or +Inf")),
    }
}

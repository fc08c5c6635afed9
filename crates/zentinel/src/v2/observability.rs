//! Metrics that agents report, and config updates.

use super::MetricsReport;
use std::collections::HashMap;

pub use tollgate::{
    config_push::{
        AgentConnection, ConfigPusher, ConfigPusherConfig, ConfigUpdateHandler, PushResult,
        PushStatus,
    },
    metrics::{MetricsCollector, MetricsCollectorConfig, MetricsSnapshot},
};

/// Aggregator of the proxy's own metrics and those that its agents report, for export on one page.
///
/// The page begins with `zentinel_info`, and a line `# Agent metrics` stands before the metrics of
/// agents. The proxy's own series are not limited in number, as they are its own.
#[derive(Debug)]
pub struct UnifiedMetricsAggregator(tollgate::metrics::UnifiedMetricsAggregator);

impl UnifiedMetricsAggregator {
    /// Creates an empty aggregator.
    pub fn new(service_name: impl Into<String>, instance_id: impl Into<String>) -> Self {
        Self::with_agent_config(service_name, instance_id, MetricsCollectorConfig::default())
    }

    /// Like [`UnifiedMetricsAggregator::new`], with other limits for reported metrics.
    pub fn with_agent_config(
        service_name: impl Into<String>,
        instance_id: impl Into<String>,
        agent_config: MetricsCollectorConfig,
    ) -> Self {
        let aggregator = tollgate::metrics::UnifiedMetricsAggregator::with_agent_config(
            service_name,
            instance_id,
            agent_config,
        );
        let aggregator = aggregator
            .with_info_metric("zentinel_info")
            .with_agents_comment("Agent metrics")
            .with_own_limits(usize::MAX, usize::MAX);
        Self(aggregator)
    }

    /// Returns the collector of the metrics that agents report.
    pub fn agent_collector(&self) -> &MetricsCollector {
        self.0.agent_collector()
    }

    /// Adds to one of the proxy's counters, and creates it if it does not exist.
    pub fn increment_counter(
        &self,
        name: &str,
        help: &str,
        labels: HashMap<String, String>,
        delta: u64,
    ) {
        self.0.increment_counter(name, help, labels, delta);
    }

    /// Sets one of the proxy's gauges, and creates it if it does not exist.
    pub fn set_gauge(&self, name: &str, help: &str, labels: HashMap<String, String>, value: f64) {
        self.0.set_gauge(name, help, labels, value);
    }

    /// Adds a value to one of the proxy's histograms, and creates it if it does not exist. The
    /// bucket boundaries are those of the first call.
    pub fn observe_histogram(
        &self,
        name: &str,
        help: &str,
        labels: HashMap<String, String>,
        bucket_boundaries: &[f64],
        value: f64,
    ) {
        self.0
            .observe_histogram(name, help, labels, bucket_boundaries, value);
    }

    /// Records a report of an agent.
    pub fn record_agent_metrics(&self, report: &MetricsReport) {
        self.0.record_agent_metrics(report);
    }

    /// Returns all metrics in the Prometheus text format.
    pub fn export_prometheus(&self) -> String {
        self.0.export_prometheus()
    }

    /// Returns the number of series of the proxy and its agents.
    pub fn series_count(&self) -> usize {
        self.0.series_count()
    }
}

impl Default for UnifiedMetricsAggregator {
    fn default() -> Self {
        Self::new("zentinel", "default")
    }
}

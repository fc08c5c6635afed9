//! Metrics that agents report.

use super::AgentPool;
use crate::metrics::MetricsCollector;
use std::sync::Arc;

impl AgentPool {
    /// Returns the metrics that agents report, by the names that agents have in the pool.
    pub fn metrics_collector(&self) -> &MetricsCollector {
        &self.inner.reported
    }

    /// Like [`AgentPool::metrics_collector`], but returns a shared reference that can be stored.
    pub fn metrics_collector_arc(&self) -> Arc<MetricsCollector> {
        Arc::clone(&self.inner.reported)
    }

    /// Returns the metrics that agents report in the Prometheus text format.
    ///
    /// For the pool's own metrics, use [`AgentPool::protocol_metrics`].
    pub fn export_prometheus(&self) -> String {
        self.inner.reported.export_prometheus()
    }
}

//! Metrics of the pool, and metrics that agents report.

use super::AgentPool;
use crate::v2::{MetricsCollector, ProtocolMetrics};
use std::sync::Arc;

impl AgentPool {
    /// Returns the pool's metrics, to read or export them.
    ///
    /// ```
    /// # let pool = zentinel_agent_protocol::v2::AgentPool::new();
    /// // Access metrics from AgentPool
    /// let metrics = pool.protocol_metrics();
    ///
    /// // Get snapshot
    /// let snapshot = metrics.snapshot();
    ///
    /// // Export to Prometheus format
    /// let prometheus_text = metrics.to_prometheus("agent_protocol");
    /// # assert_eq!(snapshot.requests_total, 0);
    /// # assert!(prometheus_text.contains("\nagent_protocol_requests_total 0\n"));
    /// ```
    pub fn protocol_metrics(&self) -> &ProtocolMetrics {
        self.metrics.refresh();
        &self.metrics
    }

    /// Like [`AgentPool::protocol_metrics`], but returns a shared reference that can be stored.
    pub fn protocol_metrics_arc(&self) -> Arc<ProtocolMetrics> {
        self.metrics.refresh();
        Arc::clone(&self.metrics)
    }

    /// Returns the metrics that agents report, by the names that agents have in the pool.
    pub fn metrics_collector(&self) -> &MetricsCollector {
        self.pool.metrics_collector()
    }

    /// Like [`AgentPool::metrics_collector`], but returns a shared reference that can be stored.
    pub fn metrics_collector_arc(&self) -> Arc<MetricsCollector> {
        Arc::clone(self.pool.metrics_collector())
    }

    /// Returns the metrics that agents report in the Prometheus text format.
    ///
    /// For the pool's own metrics, use [`AgentPool::protocol_metrics`].
    pub fn export_prometheus(&self) -> String {
        self.metrics_collector().export_prometheus()
    }
}

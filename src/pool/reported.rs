//! What agents count themselves.

use super::AgentPool;
use crate::metrics::MetricsCollector;
use std::sync::Arc;

impl AgentPool {
    /// What agents report of themselves, under the names that the pool has for them.
    pub fn metrics_collector(&self) -> &MetricsCollector {
        &self.inner.reported
    }

    /// The same, to be kept.
    pub fn metrics_collector_arc(&self) -> Arc<MetricsCollector> {
        Arc::clone(&self.inner.reported)
    }

    /// What agents report of themselves, in the text format of Prometheus. What the pool counts is not among it.
    pub fn export_prometheus(&self) -> String {
        self.inner.reported.export_prometheus()
    }
}

//! Metrics that agents report.

use super::AgentPool;
use crate::metrics::MetricsCollector;
use std::sync::Arc;

impl AgentPool {
    /// Returns the metrics that agents report, by the names that agents have in the pool.
    ///
    /// For the pool's own metrics, use [`AgentPool::metrics`].
    pub fn metrics_collector(&self) -> &Arc<MetricsCollector> {
        &self.inner.reported
    }
}

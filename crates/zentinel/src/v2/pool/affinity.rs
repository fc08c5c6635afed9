//! Pinned correlation ids.

use super::AgentPool;

impl AgentPool {
    /// Unpins a correlation id from all agents.
    ///
    /// Call this when an HTTP request is over, unless [`AgentPool::send_request_complete`] was
    /// called for every agent that was asked about it.
    pub fn clear_correlation_affinity(&self, correlation_id: &str) {
        self.pool.unpin(correlation_id);
    }

    /// Unpins correlation ids for which no event came for
    /// [`correlation_affinity_ttl`](super::AgentPoolConfig::correlation_affinity_ttl), and returns
    /// their number. Maintenance does this as well.
    pub fn cleanup_expired_affinities(&self) -> usize {
        self.pool.unpin_expired()
    }

    /// Returns the number of correlation ids that are pinned.
    pub fn correlation_affinity_count(&self) -> usize {
        usize::try_from(self.metrics.snapshot().correlation_affinities).unwrap_or(usize::MAX)
    }

    /// Returns how many exchanges could not be pinned so far because
    /// [`max_correlation_affinities`](super::AgentPoolConfig::max_correlation_affinities)
    /// correlation ids were pinned.
    pub fn correlation_affinity_rejections(&self) -> u64 {
        self.metrics.snapshot().affinity_rejections_total
    }

    /// Returns how many correlation ids were unpinned so far because no event came for
    /// [`correlation_affinity_ttl`](super::AgentPoolConfig::correlation_affinity_ttl).
    pub fn correlation_affinity_evictions(&self) -> u64 {
        self.metrics.snapshot().affinity_evictions_total
    }
}

//! Which connection the events of an exchange take that is known by its correlation id alone.

use super::AgentPool;
use super::expiring::{ExpiringMap, Full};
use crate::connection::Connection;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Correlation ids with the connection that each agent's events take.
#[derive(Debug)]
pub(super) struct Affinities {
    pins: ExpiringMap<Pins>,
    rejections: AtomicU64,
    evictions: AtomicU64,
}

/// One per agent that is asked about the request.
type Pins = SmallVec<[Pin; 1]>;

#[derive(Debug, Clone)]
struct Pin {
    agent: Arc<str>,
    connection: Arc<Connection>,
}

impl Affinities {
    pub(super) fn new(max: usize, lifetime: Duration) -> Self {
        Self {
            pins: ExpiringMap::new(max, Some(lifetime)),
            rejections: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Has the events of an exchange take a connection from now on, if there is a place for that.
    pub(super) fn pin(&self, correlation_id: &str, connection: &Arc<Connection>) {
        let agent = &connection.agent().id;
        let pinned = self.pins.change(correlation_id, |pins| {
            let mut pins = others(pins, agent);
            pins.push(Pin {
                agent: Arc::clone(agent),
                connection: Arc::clone(connection),
            });
            Some(pins)
        });
        if pinned == Err(Full) {
            let rejections = self.rejections.fetch_add(1, Ordering::Relaxed) + 1;
            if rejections.is_power_of_two() {
                let max = self.pins.max();
                tracing::warn!(
                    max,
                    rejections,
                    "too many exchanges to remember their connections"
                );
            }
        }
    }

    /// The connection that an exchange's events to an agent take.
    pub(super) fn pinned(&self, correlation_id: &str, agent_id: &str) -> Option<Arc<Connection>> {
        if self.pins.len() == 0 {
            return None;
        }
        let connection = self.pins.get(correlation_id, |pins| {
            let pin = pins.iter().find(|pin| *pin.agent == *agent_id)?;
            Some(Arc::clone(&pin.connection))
        });
        connection.flatten()
    }

    /// Forgets the connection of an exchange to one agent.
    pub(super) fn unpin(&self, correlation_id: &str, agent_id: &str) {
        // Removing takes no place, so there is one.
        let _ = self.pins.change(correlation_id, |pins| {
            Some(others(pins, agent_id)).filter(|pins| !pins.is_empty())
        });
    }

    /// Whether exchanges are pinned to a connection.
    pub(super) fn hold(&self, connection: &Arc<Connection>) -> bool {
        let is_it = |pin: &Pin| Arc::ptr_eq(&pin.connection, connection);
        self.pins.any(|pins| pins.iter().any(is_it))
    }

    pub(super) fn len(&self) -> usize {
        self.pins.len()
    }

    pub(super) fn rejections(&self) -> u64 {
        self.rejections.load(Ordering::Relaxed)
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

/// What is pinned to other agents.
fn others(pins: Option<&Pins>, agent_id: &str) -> Pins {
    let pins = pins.into_iter().flatten();
    pins.filter(|pin| *pin.agent != *agent_id)
        .cloned()
        .collect()
}

impl AgentPool {
    /// Forgets which connections an exchange's events take. To be called when an HTTP request is over,
    /// unless [`AgentPool::send_request_complete`] told every agent so.
    pub fn clear_correlation_affinity(&self, correlation_id: &str) {
        self.inner.affinities.pins.remove(correlation_id);
    }

    /// Exchanges whose connections are remembered by correlation id.
    pub fn correlation_affinity_count(&self) -> usize {
        self.inner.affinities.len()
    }

    /// Exchanges so far whose connection could not be remembered because
    /// [`max_correlation_affinities`](super::AgentPoolConfig::max_correlation_affinities) were.
    pub fn correlation_affinity_rejections(&self) -> u64 {
        self.inner.affinities.rejections()
    }

    /// Exchanges so far that were forgotten because no event came for
    /// [`correlation_affinity_ttl`](super::AgentPoolConfig::correlation_affinity_ttl).
    pub fn correlation_affinity_evictions(&self) -> u64 {
        self.inner.affinities.evictions()
    }

    /// Forgets exchanges of which no event came for
    /// [`correlation_affinity_ttl`](super::AgentPoolConfig::correlation_affinity_ttl). Returns how many
    /// there were. Upkeep does this too.
    pub fn cleanup_expired_affinities(&self) -> usize {
        self.inner.affinities.remove_outdated()
    }
}

impl Affinities {
    pub(super) fn remove_outdated(&self) -> usize {
        let removed = self.pins.remove_outdated();
        self.evictions.fetch_add(removed as u64, Ordering::Relaxed);
        removed
    }
}

//! Pins correlation ids to connections.
//!
//! The events of an exchange that is known only by its correlation id have to go over one
//! connection to each agent. A pin records that connection.

use super::expiring::{ExpiringMap, Full};
use crate::connection::Connection;
use crate::log::{NO_PEER, log_line};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Pins of all correlation ids.
///
/// Each connection counts the pins that refer to it, so that a drain can wait until there are none.
/// Invariant: a pin is counted before it enters the map, and the count is released when it leaves
/// the map, exactly once.
#[derive(Debug)]
pub(in crate::pool) struct Affinities {
    pins: ExpiringMap<Pins>,
    rejections: AtomicU64,
    evictions: AtomicU64,
}

/// Pins of one correlation id, one for each agent that is asked about the request.
type Pins = SmallVec<[Pin; 1]>;

#[derive(Debug, Clone)]
struct Pin {
    agent: Arc<str>,
    connection: Arc<Connection>,
}

impl Affinities {
    pub(in crate::pool) fn new(max: usize, lifetime: Duration) -> Self {
        let release_all = |pins: &Pins| {
            for pin in pins {
                pin.connection.lifecycle.remove_pin();
            }
        };
        Self {
            pins: ExpiringMap::new(max, lifetime, release_all),
            rejections: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Pins a correlation id to a connection, in place of an earlier pin to the same agent. Does
    /// nothing but count the rejection if the map is full.
    pub(in crate::pool) fn pin(&self, correlation_id: &str, connection: &Arc<Connection>) {
        let agent = &connection.agent.id;
        connection.lifecycle.add_pin();
        let pinned = self.pins.change(
            correlation_id,
            |pins| {
                let mut pins = pins_to_others(pins, agent);
                pins.push(Pin {
                    agent: Arc::clone(agent),
                    connection: Arc::clone(connection),
                });
                Some(pins)
            },
            |replaced| release(replaced, agent),
        );
        if pinned == Err(Full) {
            connection.lifecycle.remove_pin();
            let rejections = self.rejections.fetch_add(1, Ordering::Relaxed) + 1;
            if rejections.is_power_of_two() {
                let max = self.pins.max();
                log_line!(
                    warn,
                    NO_PEER,
                    {}(max, rejections),
                    "too many pinned exchanges; further events may go to any connection"
                );
            }
        }
    }

    /// Returns the connection that a correlation id is pinned to for one agent.
    pub(in crate::pool) fn pinned(
        &self,
        correlation_id: &str,
        agent_id: &str,
    ) -> Option<Arc<Connection>> {
        if self.pins.len() == 0 {
            return None;
        }
        let connection = self.pins.get(correlation_id, |pins| {
            let pin = pins.iter().find(|pin| *pin.agent == *agent_id)?;
            Some(Arc::clone(&pin.connection))
        });
        connection.flatten()
    }

    /// Removes the pin of a correlation id to one agent.
    pub(in crate::pool) fn unpin(&self, correlation_id: &str, agent_id: &str) {
        // Adds no entry, so it cannot fail for lack of room.
        let _ = self.pins.change(
            correlation_id,
            |pins| Some(pins_to_others(pins, agent_id)).filter(|pins| !pins.is_empty()),
            |replaced| release(replaced, agent_id),
        );
    }

    /// Removes the pins of a correlation id to all agents.
    pub(in crate::pool) fn unpin_all(&self, correlation_id: &str) {
        self.pins.remove(correlation_id);
    }

    /// Removes expired pins. Returns the number of correlation ids.
    pub(in crate::pool) fn remove_expired(&self) -> usize {
        let removed = self.pins.remove_expired();
        self.evictions.fetch_add(removed as u64, Ordering::Relaxed);
        removed
    }

    pub(in crate::pool) fn len(&self) -> usize {
        self.pins.len()
    }

    pub(in crate::pool) fn rejections(&self) -> u64 {
        self.rejections.load(Ordering::Relaxed)
    }

    pub(in crate::pool) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

/// Copies the pins to all agents but one.
fn pins_to_others(pins: Option<&Pins>, agent_id: &str) -> Pins {
    let pins = pins.into_iter().flatten();
    pins.filter(|pin| *pin.agent != *agent_id)
        .cloned()
        .collect()
}

/// Releases the count of the pin to one agent. The pins to the others were copied into the new
/// value.
fn release(pins: &Pins, agent_id: &str) {
    pins.iter()
        .filter(|pin| *pin.agent == *agent_id)
        .for_each(|pin| pin.connection.lifecycle.remove_pin());
}

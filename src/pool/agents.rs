use super::repair::Repair;
use crate::connection::{AgentRecord, CircuitBreakerState, Connection, Correlation};
use crate::pool::AgentPoolStats;
use crate::transport::Endpoint;
use crossbeam_utils::CachePadded;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// All agents at one moment. A change makes a new one; whoever holds this one keeps it.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    by_id: HashMap<Arc<str>, Arc<AgentEntry>, RandomState>,
}

/// An agent with its connections at one moment.
#[derive(Debug)]
pub(super) struct AgentEntry {
    pub(super) record: Arc<AgentRecord>,
    pub(super) endpoint: Endpoint,
    connections: Box<[Arc<Connection>]>,
    /// The work on the connections to this endpoint.
    pub(super) repair: Arc<Repair>,
    /// Counts up with each call, for taking connections in turn.
    pub(super) turn: CachePadded<AtomicUsize>,
}

impl Agents {
    pub(super) fn get(&self, agent_id: &str) -> Option<&Arc<AgentEntry>> {
        self.by_id.get(agent_id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<AgentEntry>> {
        self.by_id.values()
    }

    /// Adds an agent. Returns the one whose name it takes.
    pub(super) fn insert(&mut self, entry: AgentEntry) -> Option<Arc<AgentEntry>> {
        self.by_id
            .insert(Arc::clone(&entry.record.id), Arc::new(entry))
    }

    pub(super) fn remove(&mut self, agent_id: &str) -> Option<Arc<AgentEntry>> {
        self.by_id.remove(agent_id)
    }

    /// Removes and returns all.
    pub(super) fn clear(&mut self) -> Vec<Arc<AgentEntry>> {
        self.by_id.drain().map(|(_, agent)| agent).collect()
    }
}

impl AgentEntry {
    pub(super) fn new(
        record: Arc<AgentRecord>,
        endpoint: Endpoint,
        connections: Vec<Arc<Connection>>,
        repair: Arc<Repair>,
    ) -> Self {
        Self {
            record,
            endpoint,
            connections: connections.into(),
            repair,
            turn: CachePadded::default(),
        }
    }

    /// The same agent with other connections.
    pub(super) fn with_connections(&self, connections: Vec<Arc<Connection>>) -> Self {
        let record = Arc::clone(&self.record);
        let repair = Arc::clone(&self.repair);
        Self::new(record, self.endpoint.clone(), connections, repair)
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.record.id
    }

    /// An exchange with this agent.
    pub(super) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        self.record.correlation(id)
    }

    pub(super) fn connections(&self) -> &[Arc<Connection>] {
        &self.connections
    }

    pub(super) fn open_connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections
            .iter()
            .filter(|connection| connection.is_open())
    }

    /// A connection to ask what the agent said of itself; an open one if there is one.
    pub(super) fn any_connection(&self) -> Option<&Arc<Connection>> {
        self.open_connections()
            .next()
            .or_else(|| self.connections.first())
    }

    /// Whether a call would be tried.
    pub(super) fn is_available(&self) -> bool {
        self.record.breaker.state() != CircuitBreakerState::Open
            && self
                .connections
                .iter()
                .any(|connection| connection.is_healthy())
    }

    pub(super) fn close(&self) {
        self.connections
            .iter()
            .for_each(|connection| connection.close());
    }

    pub(super) fn stats(&self) -> AgentPoolStats {
        let record = &self.record;
        let calls = record.calls.counts();
        // Whoever gives a call up has no error.
        let total_errors = calls.failed() - calls.given_up;
        let incidents = &record.incidents;
        AgentPoolStats {
            agent_id: record.id.to_string(),
            endpoint: self.endpoint.to_string(),
            active_connections: self.open_connections().count(),
            healthy_connections: self
                .connections
                .iter()
                .filter(|connection| connection.is_healthy())
                .count(),
            total_in_flight: self
                .connections
                .iter()
                .map(|connection| connection.in_flight() as u64)
                .sum(),
            total_requests: calls.made,
            total_errors,
            error_rate: if calls.made == 0 {
                0.0
            } else {
                total_errors as f64 / calls.made as f64
            },
            is_healthy: self.is_available(),
            idle_for: self
                .open_connections()
                .map(|connection| connection.idle_time())
                .min(),
            calls,
            failed_open: incidents.failed_open.load(Ordering::Relaxed),
            allowed_while_paused: incidents.allowed_while_paused.load(Ordering::Relaxed),
            exchanges_cancelled: incidents.exchanges_cancelled.load(Ordering::Relaxed),
            reconnects: incidents.reconnects.load(Ordering::Relaxed),
            circuit_breaker: record.breaker.state(),
            circuit_breaker_trips: record.breaker.trips(),
            faults: record.counters.faults(),
        }
    }
}

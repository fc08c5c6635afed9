use crate::connection::{AgentRecord, Connection, Correlation};
use crate::pool::AgentPoolStats;
use crate::transport::Endpoint;
use crossbeam_utils::CachePadded;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// All agents at one moment. A change makes a new one; whoever holds this one keeps it.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    by_id: HashMap<Arc<str>, Arc<AgentEntry>, RandomState>,
}

/// An agent with its connections.
#[derive(Debug)]
pub(super) struct AgentEntry {
    record: Arc<AgentRecord>,
    endpoint: Endpoint,
    connections: Box<[Arc<Connection>]>,
    /// Counts up with each call, for taking connections in turn.
    pub(super) turn: CachePadded<AtomicUsize>,
}

impl Agents {
    pub(super) fn get(&self, agent_id: &str) -> Option<&AgentEntry> {
        self.by_id.get(agent_id).map(|agent| &**agent)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &AgentEntry> {
        self.by_id.values().map(|agent| &**agent)
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
    ) -> Self {
        Self {
            record,
            endpoint,
            connections: connections.into(),
            turn: CachePadded::default(),
        }
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

    pub(super) fn is_available(&self) -> bool {
        self.open_connections().next().is_some()
    }

    pub(super) fn has_pending_calls(&self) -> bool {
        self.open_connections()
            .any(|connection| connection.in_flight() > 0)
    }

    pub(super) fn close(&self) {
        self.connections
            .iter()
            .for_each(|connection| connection.close());
    }

    pub(super) fn stats(&self) -> AgentPoolStats {
        let sum = |count: fn(&Connection) -> u64| -> u64 {
            self.connections
                .iter()
                .map(|connection| count(connection))
                .sum()
        };
        let (total_requests, total_errors) = (sum(Connection::requests), sum(Connection::errors));
        let active_connections = self.open_connections().count();
        AgentPoolStats {
            agent_id: self.record.id.to_string(),
            endpoint: self.endpoint.to_string(),
            active_connections,
            healthy_connections: self
                .open_connections()
                .filter(|connection| connection.is_healthy())
                .count(),
            total_in_flight: sum(|connection| connection.in_flight() as u64),
            total_requests,
            total_errors,
            error_rate: if total_requests == 0 {
                0.0
            } else {
                total_errors as f64 / total_requests as f64
            },
            is_healthy: active_connections > 0,
            faults: self.record.counters.faults(),
        }
    }
}

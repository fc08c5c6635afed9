use super::repair::Repair;
use super::reverse::Standing;
use super::rotation::Rotation;
use crate::connection::{AgentRecord, CircuitBreakerState, Connection, Correlation, Origin};
use crate::pool::AgentPoolStats;
use crate::transport::Endpoint;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// All agents at one moment. A change makes a new one; whoever holds this one keeps it.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    by_id: HashMap<Arc<str>, Arc<AgentEntry>, RandomState>,
}

/// An agent with its connections at one moment.
#[derive(Debug)]
pub(super) struct AgentEntry {
    pub(super) record: Arc<AgentRecord>,
    /// Where the pool connects to it; `None` where it only connects to the proxy.
    pub(super) endpoint: Option<Endpoint>,
    /// Forward and reverse connections.
    pub(super) rotation: Rotation,
    /// What lets it connect to the proxy, if it has done so.
    pub(super) standing: Option<Standing>,
    /// When its connections became what they are.
    pub(super) since: Instant,
    /// Whether its being forgotten is under way.
    pub(super) is_leaving: AtomicBool,
    /// The work on the connections to this endpoint.
    pub(super) repair: Arc<Repair>,
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
    /// An agent that the pool connects to.
    pub(super) fn at(
        record: Arc<AgentRecord>,
        endpoint: Endpoint,
        connections: Vec<Arc<Connection>>,
    ) -> Self {
        Self {
            endpoint: Some(endpoint),
            rotation: connections.into(),
            ..Self::unconnected(record)
        }
    }

    /// An agent that connects to the proxy.
    pub(super) fn unconnected(record: Arc<AgentRecord>) -> Self {
        Self {
            record,
            endpoint: None,
            rotation: Rotation::default(),
            standing: None,
            since: Instant::now(),
            is_leaving: AtomicBool::new(false),
            repair: Arc::default(),
        }
    }

    /// The same agent with other connections.
    pub(super) fn with_connections(&self, connections: Vec<Arc<Connection>>) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            rotation: connections.into(),
            standing: self.standing,
            repair: Arc::clone(&self.repair),
            ..Self::unconnected(Arc::clone(&self.record))
        }
    }

    /// Takes over the connections that an agent of the same name, which this one replaces, has made itself, if it
    /// has shown that the name is its own. Returns what is left of that one.
    pub(super) fn inherit(self, replaced: &Self) -> (Self, Self) {
        let standing = replaced.standing.filter(|standing| standing.is_proven());
        let stays = |connection: &Arc<Connection>| {
            standing.is_some() && connection.origin() == Origin::Reverse
        };
        let (kept, left) = replaced.connections().iter().cloned().partition(stays);
        let connections = [self.connections().to_vec(), kept].concat();
        let heir = Self {
            rotation: connections.into(),
            standing,
            ..self
        };
        (heir, replaced.with_connections(left))
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.record.id
    }

    /// An exchange with this agent.
    pub(super) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        self.record.correlation(id)
    }

    pub(super) fn connections(&self) -> &[Arc<Connection>] {
        self.rotation.connections()
    }

    pub(super) fn open_connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections()
            .iter()
            .filter(|connection| connection.is_open())
    }

    /// Connections that one of the two sides has made.
    pub(super) fn connections_of(&self, origin: Origin) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections()
            .iter()
            .filter(move |connection| connection.origin() == origin)
    }

    /// Whether the agent is known for nothing but that it may come back.
    pub(super) fn is_gone(&self) -> bool {
        self.endpoint.is_none() && self.connections().is_empty()
    }

    /// A connection to ask what the agent said of itself; an open one if there is one.
    pub(super) fn any_connection(&self) -> Option<&Arc<Connection>> {
        self.open_connections()
            .next()
            .or_else(|| self.connections().first())
    }

    /// Whether a call would be tried.
    pub(super) fn is_available(&self) -> bool {
        self.record.breaker.state() != CircuitBreakerState::Open
            && self
                .connections()
                .iter()
                .any(|connection| connection.is_healthy())
    }

    pub(super) fn close(&self) {
        self.connections()
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
            endpoint: match &self.endpoint {
                Some(endpoint) => endpoint.to_string(),
                None => "reverse".to_owned(),
            },
            active_connections: self.open_connections().count(),
            healthy_connections: self
                .connections()
                .iter()
                .filter(|connection| connection.is_healthy())
                .count(),
            total_in_flight: self
                .connections()
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
            config_updates_accepted: incidents.updates_accepted.load(Ordering::Relaxed),
            config_updates_refused: incidents.updates_refused.load(Ordering::Relaxed),
            log_messages: record.log.logged.load(Ordering::Relaxed),
            log_messages_left_out: record.log.left_out.load(Ordering::Relaxed),
            circuit_breaker: record.breaker.state(),
            circuit_breaker_trips: record.breaker.trips(),
            faults: record.counters.faults(),
        }
    }
}

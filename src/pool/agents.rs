//! Immutable snapshots of all agents.

use super::connection_set::ConnectionSet;
use super::reconnect::Reconnect;
use super::reverse::Registration;
use crate::clock;
use crate::connection::{AgentState, CircuitBreakerState, Connection, Correlation, Origin};
use crate::entropy::RandomState;
use crate::pool::AgentPoolStats;
use crate::transport::Endpoint;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Snapshot of all agents. A change creates a new snapshot; readers keep the one that they have.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    by_id: HashMap<Arc<str>, Arc<AgentEntry>, RandomState>,
}

/// Snapshot of an agent and its connections.
#[derive(Debug)]
pub(super) struct AgentEntry {
    pub(super) state: Arc<AgentState>,
    /// Endpoint that the pool connects to; `None` for an agent that only connects to the proxy.
    pub(super) endpoint: Option<Endpoint>,
    /// Forward and reverse connections.
    pub(super) connections: ConnectionSet,
    /// Registration of the agent, if it has connected to the proxy.
    pub(super) registration: Option<Registration>,
    /// Time of the last change of the connections.
    pub(super) since: Instant,
    /// Set while the grace period of an absent agent runs.
    pub(super) is_removal_scheduled: AtomicBool,
    /// State of reconnecting to this endpoint. All entries of the agent share it until the agent is
    /// replaced.
    pub(super) reconnect: Arc<Reconnect>,
}

impl Agents {
    pub(super) fn get(&self, agent_id: &str) -> Option<&Arc<AgentEntry>> {
        self.by_id.get(agent_id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<AgentEntry>> {
        self.by_id.values()
    }

    /// Adds an agent. Returns the one that it replaces.
    pub(super) fn insert(&mut self, entry: AgentEntry) -> Option<Arc<AgentEntry>> {
        self.by_id
            .insert(Arc::clone(&entry.state.id), Arc::new(entry))
    }

    pub(super) fn remove(&mut self, agent_id: &str) -> Option<Arc<AgentEntry>> {
        self.by_id.remove(agent_id)
    }

    /// Removes and returns all agents.
    pub(super) fn clear(&mut self) -> Vec<Arc<AgentEntry>> {
        self.by_id.drain().map(|(_, agent)| agent).collect()
    }
}

impl AgentEntry {
    /// Creates an entry for an agent that the pool connects to.
    pub(super) fn at(
        state: Arc<AgentState>,
        endpoint: Endpoint,
        connections: Vec<Arc<Connection>>,
    ) -> Self {
        Self {
            endpoint: Some(endpoint),
            connections: connections.into(),
            ..Self::unconnected(state)
        }
    }

    /// Creates an entry without endpoint and connections, for an agent that connects to the proxy.
    pub(super) fn unconnected(state: Arc<AgentState>) -> Self {
        Self {
            state,
            endpoint: None,
            connections: ConnectionSet::default(),
            registration: None,
            since: clock::now(),
            is_removal_scheduled: AtomicBool::new(false),
            reconnect: Arc::default(),
        }
    }

    /// Copies the entry with other connections.
    pub(super) fn with_connections(&self, connections: Vec<Arc<Connection>>) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            connections: connections.into(),
            registration: self.registration,
            reconnect: Arc::clone(&self.reconnect),
            ..Self::unconnected(Arc::clone(&self.state))
        }
    }

    /// Takes over the reverse connections of the agent that this one replaces, if that agent proved
    /// that it owns the name.
    ///
    /// Returns the successor, and the replaced agent with the connections that remain to be
    /// retired.
    pub(super) fn take_over_from(self, replaced: &Self) -> (Self, Self) {
        let registration = replaced
            .registration
            .filter(|registration| registration.is_proven());
        let is_kept = |connection: &Arc<Connection>| {
            registration.is_some() && connection.origin() == Origin::Reverse
        };
        let (kept, retired) = replaced.connections().iter().cloned().partition(is_kept);
        let connections = [self.connections().to_vec(), kept].concat();
        let successor = Self {
            connections: connections.into(),
            registration,
            ..self
        };
        (successor, replaced.with_connections(retired))
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.state.id
    }

    /// Returns the correlation id with its key for this agent.
    pub(super) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        self.state.correlation(id)
    }

    pub(super) fn connections(&self) -> &[Arc<Connection>] {
        self.connections.connections()
    }

    pub(super) fn open_connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections()
            .iter()
            .filter(|connection| connection.is_open())
    }

    /// Returns the forward or the reverse connections.
    pub(super) fn connections_of(&self, origin: Origin) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections()
            .iter()
            .filter(move |connection| connection.origin() == origin)
    }

    /// Returns whether this is an empty placeholder, kept for the grace period.
    pub(super) fn is_absent(&self) -> bool {
        self.endpoint.is_none() && self.connections().is_empty()
    }

    /// Returns a connection from which to read what the agent announced, preferably an open one.
    pub(super) fn any_connection(&self) -> Option<&Arc<Connection>> {
        self.open_connections()
            .next()
            .or_else(|| self.connections().first())
    }

    /// Returns whether a call would be attempted: the circuit breaker is not open, and at least one
    /// connection takes new exchanges ([`Connection::is_healthy`]).
    pub(super) fn is_available(&self) -> bool {
        self.state.breaker.state() != CircuitBreakerState::Open
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
        let state = &self.state;
        let calls = state.calls.counts();
        // Calls dropped by their callers are not errors.
        let total_errors = calls.failed() - calls.given_up;
        let counters = &state.counters;
        AgentPoolStats {
            agent_id: state.id.to_string(),
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
            failed_open: counters.failed_open.load(Ordering::Relaxed),
            allowed_while_paused: counters.allowed_while_paused.load(Ordering::Relaxed),
            exchanges_cancelled: counters.exchanges_cancelled.load(Ordering::Relaxed),
            reconnects: counters.reconnects.load(Ordering::Relaxed),
            config_updates_accepted: counters.updates_accepted.load(Ordering::Relaxed),
            config_updates_refused: counters.updates_rejected.load(Ordering::Relaxed),
            log_messages: state.log.logged.load(Ordering::Relaxed),
            log_messages_left_out: state.log.dropped.load(Ordering::Relaxed),
            circuit_breaker: state.breaker.state(),
            circuit_breaker_trips: state.breaker.trips(),
            faults: state.faults.counts(),
        }
    }
}

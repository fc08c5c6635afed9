//! Agents of a pool: what is fixed when one is added, and a snapshot of what changes.
//!
//! Readers take an agent's immutable [`Snapshot`] without waiting for a lock. Every change replaces
//! it, under the pool's lock: see [`Inner::lock`](super::Inner::lock).

use super::Inner;
use super::agent_config::ResolvedConfig;
use super::agent_state::AgentState;
use super::connection_set::ConnectionSet;
use super::reconnect::Reconnect;
use super::reverse::Registration;
use super::stats::{AgentPoolStats, SharedMemoryStats};
use crate::clock;
use crate::connection::{CircuitBreakerState, Connection, Correlation, LinkKind, Origin};
use crate::debug_fields::debug_fields;
use crate::error::CallError;
use crate::transport::Endpoint;
use arc_swap::ArcSwap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

/// An agent as it was added to a pool, or as it registered itself.
pub(super) struct Member {
    /// The pool. It refers back to the agents that it has; when the last handle of the pool is
    /// dropped, it has none.
    pub(super) pool: Arc<Inner>,
    /// Survives when the agent is replaced, so that its counters and its circuit breaker continue
    /// and waiting calls are not lost.
    pub(super) state: Arc<AgentState>,
    pub(super) config: Arc<ResolvedConfig>,
    /// Endpoint that the pool connects to; `None` for an agent that only connects to the proxy.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) source: Source,
    pub(super) reconnect: Arc<Reconnect>,
    snapshot: ArcSwap<Snapshot>,
}

/// The way in which an agent came into the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The proxy added it. It stays until the proxy removes it.
    Added,
    /// It registered itself. It is removed some time after its last connection has ended.
    Registered,
}

/// An agent's connections at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) membership: Membership,
    /// Forward and reverse connections.
    pub(super) connections: ConnectionSet,
    /// Registration of the agent, if it has connected to the proxy.
    pub(super) registration: Option<Registration>,
    /// Time of the last change of the connections.
    pub(super) since: Instant,
    /// Set while the grace period of an absent agent runs.
    pub(super) is_removal_scheduled: AtomicBool,
}

/// Membership of an agent in the pool. Once it has changed, it stays.
#[derive(Debug, Clone)]
pub(super) enum Membership {
    Current,
    Replaced(Arc<Member>),
    Removed,
    /// The last handle of the pool was dropped.
    PoolDropped,
}

impl Member {
    pub(super) fn new(
        pool: &Arc<Inner>,
        state: Arc<AgentState>,
        config: Arc<ResolvedConfig>,
        endpoint: Option<Endpoint>,
        source: Source,
    ) -> Self {
        Self {
            pool: Arc::clone(pool),
            state,
            config,
            endpoint,
            source,
            reconnect: Arc::default(),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
        }
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.state.shared.id
    }

    /// Returns the present snapshot. It is held only for a short time, and not while waiting.
    pub(super) fn snapshot(&self) -> impl Deref<Target = Arc<Snapshot>> + use<> {
        self.snapshot.load()
    }

    /// Returns the present snapshot, to keep.
    pub(super) fn snapshot_full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Replaces the snapshot. The lock makes sure that no change is lost.
    pub(super) fn set_snapshot(&self, _lock: &MutexGuard<'_, ()>, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Takes the agent out of the pool. Returns the snapshot with the connections that it had.
    pub(super) fn end(&self, lock: &MutexGuard<'_, ()>, membership: Membership) -> Arc<Snapshot> {
        let last = self.snapshot_full();
        self.set_snapshot(
            lock,
            Snapshot {
                membership,
                ..Snapshot::default()
            },
        );
        last
    }

    /// Returns the correlation id with its key for this agent.
    pub(super) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        self.state.shared.correlation(id)
    }

    /// Returns whether the circuit breaker is not open and at least one connection is healthy
    /// ([`Connection::is_healthy`]).
    pub(super) fn is_available(&self) -> bool {
        self.state.shared.breaker.state() != CircuitBreakerState::Open
            && self
                .snapshot()
                .connections()
                .iter()
                .any(|connection| connection.is_healthy())
    }

    /// Returns whether this is an empty placeholder of an agent that has disconnected, kept for the
    /// grace period.
    pub(super) fn is_absent(&self, snapshot: &Snapshot) -> bool {
        self.source == Source::Registered && snapshot.connections().is_empty()
    }

    /// Returns the error for a call to an agent that the pool no longer has; `None` if it has it.
    pub(super) fn gone(&self) -> Option<CallError> {
        let snapshot = self.snapshot();
        if snapshot.is_current() {
            return None;
        }
        let agent_id = Arc::clone(self.id());
        Some(match snapshot.membership {
            Membership::Replaced(_) => CallError::Replaced { agent_id },
            Membership::PoolDropped => CallError::PoolDropped { agent_id },
            Membership::Current | Membership::Removed => CallError::Removed { agent_id },
        })
    }

    pub(super) fn unavailable(&self) -> CallError {
        CallError::Unavailable {
            agent_id: Arc::clone(self.id()),
        }
    }

    fn shared_memory(&self, snapshot: &Snapshot) -> SharedMemoryStats {
        let shared = &self.state.shared;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = SharedMemoryStats {
            connections: 0,
            refusal: None,
            failed: count(&shared.failed_upgrades),
            doorbells: count(&shared.rings.doorbells),
            sleeps: count(&shared.rings.sleeps),
            vain_spins: count(&shared.rings.vain_spins),
        };
        for connection in snapshot.open_connections() {
            match &connection.link_kind {
                LinkKind::Transport(refusal) => stats.refusal = Some(*refusal),
                LinkKind::SharedMemory(_) => stats.connections += 1,
            }
        }
        stats
    }

    pub(super) fn stats(&self) -> AgentPoolStats {
        let (state, snapshot) = (&self.state, self.snapshot());
        let calls = state.shared.calls.counts();
        // Calls dropped by their callers are not errors.
        let total_errors = calls.failed() - calls.given_up;
        let counters = &state.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AgentPoolStats {
            agent_id: state.shared.id.to_string(),
            endpoint: match &self.endpoint {
                Some(endpoint) => endpoint.to_string(),
                None => "reverse".to_owned(),
            },
            active_connections: snapshot.open_connections().count(),
            healthy_connections: snapshot
                .connections()
                .iter()
                .filter(|connection| connection.is_healthy())
                .count(),
            shared_memory: self.shared_memory(&snapshot),
            total_in_flight: snapshot
                .connections()
                .iter()
                .map(|connection| connection.calls.slots.pending() as u64)
                .sum(),
            total_requests: calls.made,
            total_errors,
            error_rate: if calls.made == 0 {
                0.0
            } else {
                total_errors as f64 / calls.made as f64
            },
            is_healthy: self.is_available(),
            idle_for: snapshot
                .open_connections()
                .map(|connection| connection.timeline.idle_time())
                .min(),
            calls,
            failed_open: count(&counters.failed_open),
            allowed_while_paused: count(&counters.allowed_while_paused),
            exchanges_cancelled: count(&counters.exchanges_cancelled),
            reconnects: count(&counters.reconnects),
            config_updates_accepted: count(&state.config_requests.accepted),
            config_updates_refused: count(&state.config_requests.rejected),
            log_messages: count(&state.log.logged),
            log_messages_left_out: count(&state.log.dropped),
            circuit_breaker: state.shared.breaker.state(),
            circuit_breaker_trips: state.shared.breaker.trips(),
            faults: state.shared.faults.counts(),
        }
    }
}

impl Snapshot {
    /// Copies the snapshot with other connections.
    pub(super) fn with_connections(&self, connections: Vec<Arc<Connection>>) -> Self {
        Self {
            membership: self.membership.clone(),
            connections: connections.into(),
            registration: self.registration,
            ..Self::default()
        }
    }

    /// Takes over the reverse connections of the agent that this one replaces, if that agent proved
    /// that it owns the name.
    ///
    /// Returns the successor's snapshot, and the connections that remain to be retired.
    pub(super) fn take_over_from(self, replaced: &Self) -> (Self, Vec<Arc<Connection>>) {
        let registration = replaced
            .registration
            .filter(|registration| registration.is_proven());
        let is_kept = |connection: &Arc<Connection>| {
            registration.is_some() && connection.origin == Origin::Reverse
        };
        let (kept, retired): (Vec<_>, _) =
            replaced.connections().iter().cloned().partition(is_kept);
        let connections = [self.connections(), &kept].concat();
        let successor = Self {
            registration,
            ..self.with_connections(connections)
        };
        (successor, retired)
    }

    pub(super) fn is_current(&self) -> bool {
        matches!(self.membership, Membership::Current)
    }

    pub(super) fn connections(&self) -> &[Arc<Connection>] {
        self.connections.connections()
    }

    pub(super) fn open_connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections()
            .iter()
            .filter(|connection| connection.lifecycle.is_open())
    }

    /// Returns the forward or the reverse connections.
    pub(super) fn connections_of(&self, origin: Origin) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections()
            .iter()
            .filter(move |connection| connection.origin == origin)
    }

    /// Returns a connection from which to read what the agent announced, preferably an open one.
    pub(super) fn any_connection(&self) -> Option<&Arc<Connection>> {
        self.open_connections()
            .next()
            .or_else(|| self.connections().first())
    }

    pub(super) fn close(&self) {
        self.connections()
            .iter()
            .for_each(|connection| connection.close());
    }
}

impl Default for Snapshot {
    /// Returns the snapshot of an agent without connections.
    fn default() -> Self {
        Self {
            membership: Membership::Current,
            connections: ConnectionSet::default(),
            registration: None,
            since: clock::now(),
            is_removal_scheduled: AtomicBool::new(false),
        }
    }
}

debug_fields!(Member, |self| id: self.id(), endpoint: self.endpoint, source: self.source);

//! Registrations: which peer owns an agent's id, how its connections join the pool, and when it is
//! forgotten.

use super::super::Inner;
use super::super::agents::{AgentEntry, Agents};
use super::peer::PeerKey;
use crate::clock;
use crate::connection::{AgentState, Connection};
use crate::error::RegistrationError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

/// The registration of an agent that connects to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(super) owner: IdOwner,
    /// Time that the agent is kept after its last connection has ended.
    pub(super) grace: Duration,
}

/// The owner of an agent's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdOwner {
    /// Every peer that proves that the id is its own: it has a token or certificate for this id, or
    /// runs as root or as the proxy's own user.
    Credential,
    /// The peer that registered the id first.
    Peer(PeerKey),
}

impl Registration {
    /// Returns whether the agent has proved that the id is its own.
    pub(crate) fn is_proven(self) -> bool {
        self.owner == IdOwner::Credential
    }
}

impl Inner {
    /// Checks that an owner may register an id now.
    pub(super) fn check_owner(
        &self,
        agent_id: &str,
        owner: IdOwner,
    ) -> Result<(), RegistrationError> {
        if self.is_closing() {
            return Err(RegistrationError::Stopping);
        }
        check_owner(self.agents.load().get(agent_id), owner)
    }

    /// Adds a connection to the pool. `connect` creates it from the agent's state.
    ///
    /// Fails if another owner has registered the id since it was checked.
    pub(super) fn join_reverse<T>(
        &self,
        agent_id: &str,
        registration: Registration,
        max_agents: usize,
        connect: impl FnOnce(&Arc<AgentState>) -> (Arc<Connection>, T),
    ) -> Result<(Arc<Connection>, T), RegistrationError> {
        self.change(|agents| {
            let current = agents.get(agent_id).cloned();
            check_owner(current.as_ref(), registration.owner)?;
            let is_reconnect = current.is_some();
            let current = current.unwrap_or_else(|| {
                self.evict_longest_disconnected(agents, max_agents);
                Arc::new(AgentEntry::unconnected(self.new_state(agent_id.to_owned())))
            });
            let (connection, rest) = connect(&current.state);
            if self.settings.get(agent_id).is_some() {
                connection.begin_configuring();
            }
            let connections = current.open_connections().chain([&connection]);
            let mut entry = current.with_connections(connections.cloned().collect());
            entry.registration = Some(registration);
            agents.insert(entry);
            record_connected(&current.state, is_reconnect);
            Ok((connection, rest))
        })
    }

    /// Makes space for one more agent: if the limit is reached, removes the one that has been
    /// disconnected longest.
    fn evict_longest_disconnected(&self, agents: &mut Agents, max_agents: usize) {
        let reverse = agents.iter().filter(|agent| agent.endpoint.is_none());
        if reverse.count() < max_agents {
            return;
        }
        let gone = agents.iter().filter(|agent| agent.is_absent());
        if let Some(oldest) = gone.min_by_key(|agent| agent.since).cloned() {
            self.forget_disconnected_agent(&oldest);
            agents.remove(oldest.id());
        }
    }

    /// Drops the state of a disconnected agent, but keeps its counters and the settings that it
    /// will get when it returns.
    fn forget_disconnected_agent(&self, agent: &AgentEntry) {
        self.retired_counters.keep(&agent.state);
        self.reported.forget_agent(agent.id());
        self.pusher.unregister_agent(agent.id());
    }
}

/// Checks that an id is free or belongs to this owner. An id with an endpoint belongs to the
/// proxy's configuration, so only [`IdOwner::Credential`] may register it.
fn check_owner(current: Option<&Arc<AgentEntry>>, owner: IdOwner) -> Result<(), RegistrationError> {
    let Some(current) = current else {
        return Ok(());
    };
    let current_owner = match current.registration {
        Some(registration) if current.endpoint.is_none() => registration.owner,
        _ => IdOwner::Credential,
    };
    if owner == current_owner {
        Ok(())
    } else {
        Err(RegistrationError::IdTaken)
    }
}

/// Updates the state of an agent that has a new connection.
fn record_connected(state: &AgentState, is_reconnect: bool) {
    if is_reconnect {
        state.counters.reconnects.fetch_add(1, Ordering::Relaxed);
    }
    state.breaker.allow_trial();
    state.queues.wake();
}

/// The time after which an agent without connections is forgotten. If the future of
/// [`run`](Self::run) is dropped, a new period may begin.
#[derive(Debug)]
pub(crate) struct GracePeriod(Arc<AgentEntry>);

impl GracePeriod {
    /// Begins the grace period. Returns `None` if one is running.
    pub(crate) fn begin(agent: &Arc<AgentEntry>) -> Option<Self> {
        let begins = !agent.is_removal_scheduled.swap(true, Ordering::AcqRel);
        begins.then(|| Self(Arc::clone(agent)))
    }

    /// Waits for the end of the period, and removes the agent if it has not reconnected.
    pub(crate) async fn run(self, pool: Arc<Inner>) {
        let agent = &self.0;
        let grace = agent
            .registration
            .map_or(Duration::ZERO, |registration| registration.grace);
        sleep(grace.saturating_sub(clock::elapsed(agent.since))).await;
        pool.change(|agents| {
            // An agent that has reconnected has another entry, even if it has disconnected again.
            let is_same = |current: &Arc<AgentEntry>| Arc::ptr_eq(current, agent);
            if agents.get(agent.id()).is_some_and(is_same) {
                pool.forget_disconnected_agent(agent);
                agents.remove(agent.id());
                tracing::info!(
                    agent = &**agent.id(),
                    "removed a disconnected agent at the end of its grace period"
                );
            }
        });
    }
}

impl Drop for GracePeriod {
    fn drop(&mut self) {
        self.0.is_removal_scheduled.store(false, Ordering::Release);
    }
}

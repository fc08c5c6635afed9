//! Registrations: which peer owns an agent's id, how its connections join the pool, and when it is
//! forgotten.

use super::super::agent_state::AgentState;
use super::super::member::{Member, Membership, Snapshot, Source};
use super::super::{Agents, Inner};
use super::owner::{IdOwner, Registration};
use crate::clock;
use crate::connection::Connection;
use crate::error::RegistrationError;
use crate::log::log_line;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use tokio::time::sleep;

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

    /// Adds a connection to the pool. `connect` creates it for the agent.
    ///
    /// Fails if another owner has registered the id since it was checked.
    pub(super) fn join_reverse<T>(
        self: &Arc<Self>,
        agent_id: &str,
        registration: Registration,
        max_agents: usize,
        connect: impl FnOnce(&Arc<Member>) -> (Arc<Connection>, T),
    ) -> Result<(Arc<Member>, Arc<Connection>, T), RegistrationError> {
        let lock = self.lock();
        let current = self.agents.load().get(agent_id).cloned();
        check_owner(current.as_ref(), registration.owner)?;
        let is_reconnect = current.is_some();
        let agent = current.unwrap_or_else(|| self.add_registered(&lock, agent_id, max_agents));
        let (connection, rest) = connect(&agent);
        if self.settings.get(agent_id).is_some() {
            connection.lifecycle.begin_configuring();
        }
        let snapshot = agent.snapshot_full();
        let connections = snapshot.open_connections().chain([&connection]);
        let mut joined = snapshot.with_connections(connections.cloned().collect());
        joined.registration = Some(registration);
        agent.set_snapshot(&lock, joined);
        record_connected(&agent.state, is_reconnect);
        Ok((agent, connection, rest))
    }

    /// Adds an agent that has registered itself. Makes room for it if the limit is reached.
    fn add_registered(
        self: &Arc<Self>,
        lock: &MutexGuard<'_, ()>,
        agent_id: &str,
        max_agents: usize,
    ) -> Arc<Member> {
        self.evict_longest_disconnected(lock, max_agents);
        let config = Arc::clone(&self.defaults);
        let state = self.new_state(agent_id, &config);
        let agent = Arc::new(Member::new(self, state, config, None, Source::Registered));
        let mut agents = Agents::clone(&self.agents.load());
        agents.insert(Arc::clone(agent.id()), Arc::clone(&agent));
        self.agents.store(Arc::new(agents));
        agent
    }

    /// Makes space for one more agent: if the limit is reached, removes the one that has been
    /// disconnected longest.
    fn evict_longest_disconnected(&self, lock: &MutexGuard<'_, ()>, max_agents: usize) {
        let agents = self.agents.load();
        let registered = agents
            .values()
            .filter(|agent| agent.source == Source::Registered);
        if registered.count() < max_agents {
            return;
        }
        let gone = agents.values().filter_map(|agent| {
            let snapshot = agent.snapshot_full();
            agent
                .is_absent(&snapshot)
                .then_some((snapshot.since, agent))
        });
        if let Some((_, oldest)) = gone.min_by_key(|(since, _)| *since) {
            self.remove_disconnected(lock, oldest);
        }
    }

    /// Removes a disconnected agent, but keeps its counters and the settings that it will get when
    /// it returns.
    fn remove_disconnected(&self, lock: &MutexGuard<'_, ()>, agent: &Arc<Member>) {
        self.retired_counters.keep(&agent.state);
        self.reported.forget_agent(agent.id());
        self.pusher.unregister_agent(agent.id());
        self.take_out(lock, agent, Membership::Removed);
    }
}

/// Checks that an id is free or belongs to this owner. An id that the proxy added belongs to its
/// configuration, so only [`IdOwner::Credential`] may register it.
fn check_owner(current: Option<&Arc<Member>>, owner: IdOwner) -> Result<(), RegistrationError> {
    let Some(current) = current else {
        return Ok(());
    };
    let current_owner = match current.snapshot().registration {
        Some(registration) if current.source == Source::Registered => registration.owner,
        _ => IdOwner::Credential,
    };
    let is_owner = (owner == current_owner).then_some(());
    is_owner.ok_or(RegistrationError::IdTaken)
}

/// Updates the state of an agent that has a new connection.
fn record_connected(state: &AgentState, is_reconnect: bool) {
    if is_reconnect {
        state.counters.reconnects.fetch_add(1, Ordering::Relaxed);
    }
    state.shared.breaker.allow_trial();
    state.shared.queues.wake();
}

/// The time after which an agent without connections is forgotten. If the future of
/// [`run`](Self::run) is dropped, a new period may begin.
#[derive(Debug)]
pub(crate) struct GracePeriod {
    agent: Arc<Member>,
    snapshot: Arc<Snapshot>,
}

impl GracePeriod {
    /// Begins the grace period. Returns `None` if one is running.
    pub(crate) fn begin(agent: &Arc<Member>, snapshot: &Arc<Snapshot>) -> Option<Self> {
        let begins = !snapshot.is_removal_scheduled.swap(true, Ordering::AcqRel);
        begins.then(|| Self {
            agent: Arc::clone(agent),
            snapshot: Arc::clone(snapshot),
        })
    }

    /// Waits for the end of the period, and removes the agent if it has not reconnected.
    pub(crate) async fn run(self) {
        let (agent, snapshot) = (&self.agent, &self.snapshot);
        let grace = snapshot
            .registration
            .map_or(Duration::ZERO, |registration| registration.grace);
        sleep(grace.saturating_sub(clock::elapsed(snapshot.since))).await;
        let lock = agent.pool.lock();
        // An agent that has reconnected has another snapshot, even if it has disconnected again.
        if Arc::ptr_eq(&agent.snapshot_full(), snapshot) {
            agent.pool.remove_disconnected(&lock, agent);
            let agent = &**agent.id();
            log_line!(
                info,
                agent,
                { agent },
                "removed a disconnected agent at the end of its grace period"
            );
        }
    }
}

impl Drop for GracePeriod {
    fn drop(&mut self) {
        self.snapshot
            .is_removal_scheduled
            .store(false, Ordering::Release);
    }
}

//! The state of a pool, for simulations.

use super::AgentPool;
use super::agent_state::AgentState;
use crate::connection::simulated::ConnectionView;
use crate::metrics::CallCounts;
use std::sync::atomic::Ordering;

/// State of an agent.
#[derive(Debug, Clone)]
pub struct AgentView {
    /// Name of the agent.
    pub id: String,
    /// Number of calls waiting for a slot of any connection.
    pub waiting_for_slot: usize,
    /// Number of calls waiting for the end of a pause.
    pub waiting_for_resume: usize,
    /// `true` while the one call is pending that decides whether the circuit breaker closes.
    pub is_on_trial: bool,
    /// Calls so far, by their end.
    pub calls: CallCounts,
    /// Config update requests that were accepted or rejected.
    pub config_updates: u64,
    /// Connections in the snapshot.
    pub connections: Vec<ConnectionView>,
}

/// Returns the state of all agents, ordered by name.
pub fn agents(pool: &AgentPool) -> Vec<AgentView> {
    let agents = pool.inner.agents.load();
    let mut views: Vec<_> = agents
        .values()
        .map(|agent| AgentView {
            id: agent.id().to_string(),
            waiting_for_slot: agent.state.shared.queues.free_slot.waiting(),
            waiting_for_resume: agent.state.shared.queues.resumed.waiting(),
            is_on_trial: agent.state.shared.breaker.is_on_trial(),
            calls: agent.state.shared.calls.counts(),
            config_updates: config_updates(&agent.state),
            connections: agent
                .snapshot()
                .connections()
                .iter()
                .map(|one| one.view())
                .collect(),
        })
        .collect();
    views.sort_by(|one, other| one.id.cmp(&other.id));
    views
}

fn config_updates(agent: &AgentState) -> u64 {
    let requests = &agent.config_requests;
    requests.accepted.load(Ordering::Relaxed) + requests.rejected.load(Ordering::Relaxed)
}

/// Returns the number of pinned correlation ids.
pub fn pins(pool: &AgentPool) -> usize {
    pool.inner.affinities.len()
}

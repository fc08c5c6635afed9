use super::super::Inner;
use super::super::agents::{AgentEntry, Agents};
use super::peer::PeerKey;
use crate::connection::{AgentRecord, Connection};
use crate::error::RegistrationError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

/// What lets an agent connect to the proxy under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(super) holder: Holder,
    /// How long the agent is known after its last connection has ended.
    pub(super) grace: Duration,
}

/// To whom an id belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// To whoever has a token or certificate for this very id, or is the proxy's own user.
    Credential,
    /// To whoever has registered it first.
    Peer(PeerKey),
}

impl Standing {
    /// Whether the agent has shown that the id is its own.
    pub(crate) fn is_proven(self) -> bool {
        self.holder == Holder::Credential
    }
}

impl Inner {
    /// Whether somebody with this standing may register an id now.
    pub(super) fn check_holder(
        &self,
        agent_id: &str,
        holder: Holder,
    ) -> Result<(), RegistrationError> {
        if self.is_closing() {
            return Err(RegistrationError::Stopping);
        }
        check_holder(self.agents.load().get(agent_id), holder)
    }

    /// Puts a connection that `connect` makes of the agent's record into the rotation.
    ///
    /// Fails if somebody else has registered the id since it was checked.
    pub(super) fn join_reverse<T>(
        &self,
        agent_id: &str,
        standing: Standing,
        max_known: usize,
        connect: impl FnOnce(&Arc<AgentRecord>) -> (Arc<Connection>, T),
    ) -> Result<(Arc<Connection>, T), RegistrationError> {
        self.change(|agents| {
            let current = agents.get(agent_id).cloned();
            check_holder(current.as_ref(), standing.holder)?;
            let is_known = current.is_some();
            let current = current.unwrap_or_else(|| {
                self.forget_longest_gone(agents, max_known);
                Arc::new(AgentEntry::unconnected(self.record(agent_id.to_owned())))
            });
            let (connection, rest) = connect(&current.record);
            if self.settings.get(agent_id).is_some() {
                connection.hold_back();
            }
            let connections = current.open_connections().chain([&connection]);
            let mut entry = current.with_connections(connections.cloned().collect());
            entry.standing = Some(standing);
            agents.insert(entry);
            came_up(&current.record, is_known);
            Ok((connection, rest))
        })
    }

    /// Makes room for one more agent where as many are remembered as may be.
    fn forget_longest_gone(&self, agents: &mut Agents, max_known: usize) {
        let reverse = agents.iter().filter(|agent| agent.endpoint.is_none());
        if reverse.count() < max_known {
            return;
        }
        let gone = agents.iter().filter(|agent| agent.is_gone());
        if let Some(oldest) = gone.min_by_key(|agent| agent.since).cloned() {
            self.depart(&oldest);
            agents.remove(oldest.id());
        }
    }

    /// Keeps of an agent that leaves by itself only what was counted, and the settings it is to have when it comes back.
    fn depart(&self, agent: &AgentEntry) {
        self.departed.keep(&agent.record);
        self.reported.forget_agent(agent.id());
        self.pusher.unregister_agent(agent.id());
    }
}

/// An id with an endpoint belongs to whoever runs the proxy.
fn check_holder(
    current: Option<&Arc<AgentEntry>>,
    holder: Holder,
) -> Result<(), RegistrationError> {
    let Some(current) = current else {
        return Ok(());
    };
    let owner = match current.standing {
        Some(standing) if current.endpoint.is_none() => standing.holder,
        _ => Holder::Credential,
    };
    if owner == holder {
        Ok(())
    } else {
        Err(RegistrationError::IdTaken)
    }
}

fn came_up(record: &AgentRecord, is_known: bool) {
    if is_known {
        record.incidents.reconnects.fetch_add(1, Ordering::Relaxed);
    }
    record.breaker.allow_trial();
    record.lines.wake();
}

/// The time until an agent without connections is forgotten. Where it is not waited for, the next one may.
#[derive(Debug)]
pub(crate) struct Farewell(Arc<AgentEntry>);

impl Farewell {
    /// Begins the time unless it has begun.
    pub(crate) fn begin(agent: &Arc<AgentEntry>) -> Option<Self> {
        let begins = !agent.is_leaving.swap(true, Ordering::AcqRel);
        begins.then(|| Self(Arc::clone(agent)))
    }

    /// Waits, and forgets the agent if it has not come back.
    pub(crate) async fn bid(self, pool: Arc<Inner>) {
        let agent = &self.0;
        let grace = agent
            .standing
            .map_or(Duration::ZERO, |standing| standing.grace);
        sleep(grace.saturating_sub(agent.since.elapsed())).await;
        pool.change(|agents| {
            // One that has come back, even if it has gone again, has another entry.
            let is_same = |current: &Arc<AgentEntry>| Arc::ptr_eq(current, agent);
            if agents.get(agent.id()).is_some_and(is_same) {
                pool.depart(agent);
                agents.remove(agent.id());
                tracing::info!(agent = &**agent.id(), "an agent that left is forgotten");
            }
        });
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.is_leaving.store(false, Ordering::Release);
    }
}

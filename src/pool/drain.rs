//! Ends connections without losing the calls and exchanges on them.

use super::member::{Member, Membership};
use super::{AgentPool, Agents, Inner};
use crate::connection::Connection;
use crate::count_guard::CountGuard;
use crate::protocol::CancelReason;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::runtime::Handle;
use tokio::time::timeout;

impl AgentPool {
    /// Shuts the pool down: waits for the work in progress, then closes all connections and removes
    /// all agents.
    ///
    /// The pool closes at once: new exchanges and added agents are rejected with
    /// [`Unavailable`](crate::CallError::Unavailable). Pending calls and existing
    /// [`Exchange`](super::Exchange)s get up to
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout) to finish; what is left then is
    /// cancelled. Exchanges that are known only by their correlation id are waited for only while
    /// they have a pending call.
    ///
    /// Afterwards the pool is empty and may be used again: add agents as to a new pool.
    ///
    /// Dropping the future before it completes reopens the pool with the agents that it has. While
    /// several shutdowns are in progress, the pool stays closed until the last one has ended.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        let _in_progress = CountGuard::of(&inner.shutdowns);
        let agents = inner.agents.load_full();
        for agent in agents.values() {
            // Calls that wait for a slot find the pool closed.
            agent.state.shared.queues.wake();
        }
        // What is in use after this time is cancelled.
        let _ = timeout(inner.config.drain_timeout, wait_idle(&agents)).await;
        for agent in inner.agents.load_full().values() {
            cancel(agent.snapshot_full().open_connections()).await;
        }
        // Nothing is awaited from here on: a shutdown that is dropped has closed all agents or
        // none.
        inner.close_all();
    }
}

impl Inner {
    /// Returns whether a shutdown is in progress, so that no new exchanges and agents are taken.
    pub(super) fn is_closing(&self) -> bool {
        self.shutdowns.load(Ordering::Relaxed) > 0
    }

    /// Removes all agents and closes their connections.
    fn close_all(&self) {
        for agent in self.agents.load().values() {
            self.retired_counters.keep(&agent.state);
        }
        for (agent, last) in self.take_out_all(Membership::Removed) {
            last.close();
            self.forget(agent.id());
        }
    }
}

impl Member {
    /// Retires connections that have left the snapshot, and closes them in the background once they
    /// are unused or the drain timeout has passed.
    pub(super) fn retire(&self, connections: Vec<Arc<Connection>>) {
        for connection in &connections {
            connection.lifecycle.retire();
        }
        // Calls that wait for a slot find the successor's connections, or that the agent was
        // removed.
        self.state.shared.queues.wake();
        let retired = RetiredConnections(connections);
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let drain_timeout = self.config.drain_timeout;
        runtime.spawn(async move {
            let unused = async {
                // Retired connections take nothing new, so each one is waited for only once.
                for connection in &retired.0 {
                    connection.lifecycle.wait_unused().await;
                }
            };
            // What is in use after this time is cancelled.
            let _ = timeout(drain_timeout, unused).await;
            let open = retired.0.iter().filter(|one| one.lifecycle.is_open());
            cancel(open).await;
        });
    }
}

/// Connections that are being drained. They are closed when this is dropped: at the end of the
/// drain, or earlier if the runtime of the drain ends. Nothing else would close them then.
struct RetiredConnections(Vec<Arc<Connection>>);

impl Drop for RetiredConnections {
    fn drop(&mut self) {
        self.0.iter().for_each(|connection| connection.close());
    }
}

/// Waits until no connection of any agent is in use.
async fn wait_idle(agents: &Agents) {
    let connections = || {
        let snapshots = agents.values().map(|agent| agent.snapshot_full());
        let connections = snapshots.flat_map(|snapshot| snapshot.connections().to_vec());
        connections.filter(|connection| connection.lifecycle.is_open())
    };
    // Pinned exchanges may make calls on one connection while another is waited for.
    while connections().any(|connection| connection.lifecycle.is_used()) {
        for connection in connections() {
            connection.lifecycle.wait_idle().await;
        }
    }
}

async fn cancel(connections: impl Iterator<Item = &Arc<Connection>>) {
    for connection in connections.filter(|connection| connection.calls.slots.pending() > 0) {
        // Fails only if the connection ends first, and then its calls have failed already.
        let _ = connection.cancel_all(CancelReason::ProxyShutdown).await;
    }
}

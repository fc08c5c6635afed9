//! Ending connections without losing what is on them.

use super::agents::AgentEntry;
use super::{AgentPool, Inner};
use crate::connection::Connection;
use crate::error::AgentProtocolError;
use crate::protocol::CancelReason;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::runtime::Handle;
use tokio::time::{Duration, sleep, timeout};

/// How often it is looked whether connections are still used.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

impl AgentPool {
    /// Takes no new exchanges, waits up to [`drain_timeout`](super::AgentPoolConfig::drain_timeout) for pending
    /// calls and for every [`Exchange`](super::Exchange) to be dropped, cancels what is left, and forgets all
    /// agents.
    ///
    /// Exchanges that are known by their correlation id alone are waited for only while they have a pending
    /// call.
    ///
    /// # Errors
    ///
    /// None at present; the published signature is kept.
    pub async fn shutdown(&self) -> Result<(), AgentProtocolError> {
        let inner = &self.inner;
        inner.closing.store(true, Ordering::SeqCst);
        let agents = inner.agents.load_full();
        for agent in agents.iter() {
            agent.record.lines.wake();
        }
        let is_used = || {
            let mut connections = agents.iter().flat_map(|agent| agent.open_connections());
            connections.any(|connection| connection.is_used())
        };
        inner.wait_while(is_used).await;
        for agent in inner.agents.load().iter() {
            inner.departed.keep(&agent.record);
        }
        for agent in inner.change(super::Agents::clear) {
            cancel(agent.open_connections()).await;
            agent.close();
            inner.forget(agent.id());
        }
        inner.closing.store(false, Ordering::SeqCst);
        Ok(())
    }
}

impl Inner {
    /// Whether no new exchanges are taken.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Ends the connections of an agent that is no longer in the snapshot, in the background.
    pub(super) fn retire(self: &Arc<Self>, agent: Arc<AgentEntry>) {
        for connection in agent.connections() {
            connection.retire();
        }
        // Whoever waits in line finds the agent's new connections, or that it is gone.
        agent.record.lines.wake();
        let Ok(runtime) = Handle::try_current() else {
            return agent.close();
        };
        let inner = Arc::clone(self);
        runtime.spawn(async move {
            let is_used = |connection: &Arc<Connection>| {
                connection.is_used() || inner.affinities.hold(connection)
            };
            inner
                .wait_while(|| agent.open_connections().any(is_used))
                .await;
            cancel(agent.open_connections()).await;
            agent.close();
        });
    }

    /// Waits until a condition is over, but not for longer than is set for draining.
    async fn wait_while(&self, holds: impl Fn() -> bool) {
        let over = async {
            while holds() {
                sleep(CHECK_INTERVAL).await;
            }
        };
        // What is left by then is cancelled by the caller.
        let _ = timeout(self.config.drain_timeout, over).await;
    }
}

async fn cancel(connections: impl Iterator<Item = &Arc<Connection>>) {
    for connection in connections.filter(|connection| connection.in_flight() > 0) {
        // A connection that ends first has nothing left to cancel.
        let _ = connection.cancel_all(CancelReason::ProxyShutdown).await;
    }
}

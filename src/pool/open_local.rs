//! Choosing near the caller, and opening the connections of each runtime: see
//! [`Placement::PerRuntime`].

use super::Inner;
use super::agents::AgentEntry;
use super::config::Placement;
use super::maintenance::{same_agent, until_dropped};
use super::reconnect::{MAX_DELAY, ReconnectGuard};
use crate::backoff::delay;
use crate::connection::{Connection, Correlation, NotOpened, RuntimeId};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::time::sleep;

impl Inner {
    /// Returns the current runtime if each runtime has its own connections.
    pub(super) fn caller_runtime(&self) -> Option<RuntimeId> {
        match self.config.placement {
            Placement::Shared => None,
            Placement::PerRuntime => RuntimeId::current(),
        }
    }

    /// Chooses the connection for the next event of an exchange that begins on the current runtime.
    pub(super) fn choose<'a>(
        self: &Arc<Self>,
        agent: &'a Arc<AgentEntry>,
        correlation: Correlation<'_>,
    ) -> Result<&'a Arc<Connection>, NotOpened> {
        match self.config.placement {
            Placement::Shared => agent.choose(self.config.load_balance_strategy, correlation),
            Placement::PerRuntime => self.choose_near_caller(agent, correlation),
        }
    }

    fn choose_near_caller<'a>(
        self: &Arc<Self>,
        agent: &'a Arc<AgentEntry>,
        correlation: Correlation<'_>,
    ) -> Result<&'a Arc<Connection>, NotOpened> {
        let strategy = self.config.load_balance_strategy;
        let Ok(handle) = Handle::try_current() else {
            return agent.choose(strategy, correlation);
        };
        let runtime = RuntimeId::of(&handle);
        if agent.connections.forward_at(runtime) < self.config.connections_per_agent.max(1) {
            self.start_open_local(agent, runtime, &handle);
        }
        // The runtime of the maintenance task may have shut down. If this runtime has connections,
        // no call fails and would notice that.
        self.start_maintenance();
        agent.choose_near(runtime, strategy, correlation)
    }

    /// Chooses the connection for an exchange whose first event may wait for the end of a pause.
    pub(super) fn choose_paused<'a>(
        &self,
        agent: &'a AgentEntry,
    ) -> Result<&'a Arc<Connection>, NotOpened> {
        agent.choose_paused(self.caller_runtime(), self.config.load_balance_strategy)
    }

    /// Starts opening the connections of a runtime, unless that is in progress or the agent is
    /// unavailable.
    #[cold]
    fn start_open_local(
        self: &Arc<Self>,
        agent: &Arc<AgentEntry>,
        runtime: RuntimeId,
        handle: &Handle,
    ) {
        if agent.endpoint.is_none() || self.is_closing() || !agent.is_available() {
            return;
        }
        let Some(guard) = agent.reconnect.begin(Some(runtime)) else {
            return;
        };
        let opening = open_local(Arc::clone(self), Arc::clone(agent), runtime, guard);
        let mut closed = self.closed.clone();
        handle.spawn(async move {
            tokio::select! {
                biased;
                () = opening => {}
                () = until_dropped(&mut closed) => {}
            }
        });
    }
}

/// Opens the connections of the runtime that this runs on. Ends if the agent becomes unavailable,
/// which is left to maintenance.
async fn open_local(
    pool: Arc<Inner>,
    agent: Arc<AgentEntry>,
    runtime: RuntimeId,
    guard: ReconnectGuard,
) {
    let Some(endpoint) = &agent.endpoint else {
        return;
    };
    let interval = pool.config.reconnect_interval;
    let mut failures = 0_u32;
    while pool.needs_local_connections(&agent, runtime) {
        match pool.connect(&agent.state, endpoint).await {
            Ok(connection) => {
                if !pool.join(&agent, &connection) {
                    return connection.close();
                }
                failures = 0;
                agent.state.queues.wake();
                pool.request_settings(agent.id());
            }
            Err(error) => {
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!(agent = &**agent.id(), failures, %error, "cannot open a connection for this runtime");
                }
                sleep(delay(interval, MAX_DELAY, failures)).await;
            }
        }
    }
    // Calls do not start this again before the interval has passed, even if the agent closes every
    // connection at once.
    sleep(interval).await;
    // Maintenance skips a runtime whose connections are being opened here, so it has to check
    // again.
    drop(guard);
    agent.state.request_maintenance();
}

impl Inner {
    /// Returns whether an agent is available and lacks connections of a runtime.
    fn needs_local_connections(&self, agent: &AgentEntry, runtime: RuntimeId) -> bool {
        let agents = self.agents.load();
        same_agent(agents.get(agent.id()), agent).is_some_and(|current| {
            current.is_available() && self.lacks_connections(current, Some(runtime))
        })
    }
}

//! Connections that each runtime has of its own: see [`Placement::PerRuntime`].

use super::Inner;
use super::agents::AgentEntry;
use super::config::Placement;
use super::repair::{MAX_DELAY, UnderWay};
use super::upkeep::{still_there, until_dropped};
use crate::backoff::delay;
use crate::connection::{Connection, Correlation, Home, Refusal};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::time::sleep;

impl Inner {
    /// Where connections are to be that are made here; `None` where that is the same.
    pub(super) fn home(&self) -> Option<Home> {
        match self.config.placement {
            Placement::Shared => None,
            Placement::PerRuntime => Home::current(),
        }
    }

    /// The connection that the next event of an exchange takes, which begins where this is called.
    pub(super) fn choose<'a>(
        self: &Arc<Self>,
        agent: &'a Arc<AgentEntry>,
        correlation: Correlation<'_>,
    ) -> Result<&'a Arc<Connection>, Refusal> {
        match self.config.placement {
            Placement::Shared => agent.choose(self.config.load_balance_strategy, correlation),
            Placement::PerRuntime => self.choose_near_caller(agent, correlation),
        }
    }

    fn choose_near_caller<'a>(
        self: &Arc<Self>,
        agent: &'a Arc<AgentEntry>,
        correlation: Correlation<'_>,
    ) -> Result<&'a Arc<Connection>, Refusal> {
        let strategy = self.config.load_balance_strategy;
        let Ok(runtime) = Handle::try_current() else {
            return agent.choose(strategy, correlation);
        };
        let home = Home::of(&runtime);
        if agent.rotation.forward_at(home) < self.config.connections_per_agent.max(1) {
            self.provide(agent, home, &runtime);
        }
        // The runtime that it ran on may be gone while this one has connections, so that no call fails.
        self.start_upkeep();
        agent.choose_near(home, strategy, correlation)
    }

    /// The connection for an exchange whose first event may wait for the end of a pause.
    pub(super) fn choose_paused<'a>(
        &self,
        agent: &'a AgentEntry,
    ) -> Result<&'a Arc<Connection>, Refusal> {
        agent.choose_paused(self.home(), self.config.load_balance_strategy)
    }

    /// Has a runtime get its connections, unless it is getting them or the agent is not to be had.
    #[cold]
    fn provide(self: &Arc<Self>, agent: &Arc<AgentEntry>, home: Home, runtime: &Handle) {
        if agent.endpoint.is_none() || self.is_closing() || !agent.is_available() {
            return;
        }
        let Some(under_way) = agent.repair.begin(Some(home)) else {
            return;
        };
        let providing = provide(Arc::clone(self), Arc::clone(agent), home, under_way);
        let mut pool_lives = self.lives.clone();
        runtime.spawn(async move {
            tokio::select! {
                () = providing => {}
                () = until_dropped(&mut pool_lives) => {}
            }
        });
    }
}

/// Makes the connections of the runtime that this runs on. Bringing back an agent that is gone is left to upkeep.
async fn provide(pool: Arc<Inner>, agent: Arc<AgentEntry>, home: Home, under_way: UnderWay) {
    let Some(endpoint) = &agent.endpoint else {
        return;
    };
    let interval = pool.config.reconnect_interval;
    let mut failures = 0_u32;
    while pool.is_short_of(&agent, home) {
        match pool.connect(&agent.record, endpoint).await {
            Ok(connection) => {
                if !pool.join(&agent, &connection) {
                    return connection.close();
                }
                failures = 0;
                agent.record.lines.wake();
                pool.demand_settings(agent.id());
            }
            Err(error) => {
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!(agent = &**agent.id(), failures, %error, "a runtime gets no connection of its own");
                }
                sleep(delay(interval, MAX_DELAY, failures)).await;
            }
        }
    }
    // An agent that ends connections at once is not connected to with every call.
    sleep(interval).await;
    // Upkeep may have left connections of this runtime to this.
    drop(under_way);
    agent.record.request_upkeep();
}

impl Inner {
    /// Whether an agent that can be had lacks connections of a runtime.
    fn is_short_of(&self, agent: &AgentEntry, home: Home) -> bool {
        let agents = self.agents.load();
        still_there(agents.get(agent.id()), agent).is_some_and(|current| {
            current.is_available() && self.lacks_connections(current, Some(home))
        })
    }
}

//! Choosing near the caller, and opening the connections of each runtime: see
//! [`Placement::PerRuntime`].

use super::config::Placement;
use super::maintenance::until_dropped;
use super::member::{Member, Snapshot};
use super::reconnect::{MAX_DELAY, ReconnectGuard};
use crate::backoff::delay;
use crate::connection::{CallEnd, Connection, Correlation, RuntimeId};
use crate::log::log_line;
use crate::transport::Endpoint;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::time::sleep;

impl Member {
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
        snapshot: &'a Snapshot,
        correlation: Correlation<'_>,
    ) -> Result<&'a Arc<Connection>, CallEnd> {
        match self.config.placement {
            Placement::Shared => snapshot.choose(self.config.load_balance_strategy, correlation),
            Placement::PerRuntime => self.choose_near_caller(snapshot, correlation),
        }
    }

    fn choose_near_caller<'a>(
        self: &Arc<Self>,
        snapshot: &'a Snapshot,
        correlation: Correlation<'_>,
    ) -> Result<&'a Arc<Connection>, CallEnd> {
        let strategy = self.config.load_balance_strategy;
        let Ok(handle) = Handle::try_current() else {
            return snapshot.choose(strategy, correlation);
        };
        let runtime = RuntimeId::of(&handle);
        if snapshot.connections.forward_at(runtime) < self.config.connections_per_agent {
            self.start_open_local(runtime, &handle);
        }
        // The runtime of the maintenance task may have shut down. If this runtime has connections,
        // no call fails and would notice that.
        self.pool.start_maintenance();
        snapshot.choose_near(runtime, strategy, correlation)
    }

    /// Chooses the connection for an exchange whose first event may wait for the end of a pause.
    pub(super) fn choose_paused<'a>(
        &self,
        snapshot: &'a Snapshot,
    ) -> Result<&'a Arc<Connection>, CallEnd> {
        snapshot.choose_paused(self.caller_runtime(), self.config.load_balance_strategy)
    }

    /// Starts opening the connections of a runtime, unless that is in progress or the agent is
    /// unavailable.
    #[cold]
    fn start_open_local(self: &Arc<Self>, runtime: RuntimeId, handle: &Handle) {
        let Some(endpoint) = self.endpoint.clone() else {
            return;
        };
        if self.pool.is_closing() || !self.is_available() {
            return;
        }
        let Some(guard) = self.reconnect.begin(Some(runtime)) else {
            return;
        };
        let opening = Arc::clone(self).open_local(endpoint, runtime, guard);
        let mut closed = self.pool.closed.clone();
        handle.spawn(async move {
            tokio::select! {
                biased;
                () = opening => {}
                () = until_dropped(&mut closed) => {}
            }
        });
    }

    /// Opens the connections of the runtime that this runs on. Ends if the agent becomes
    /// unavailable, which is left to maintenance.
    async fn open_local(
        self: Arc<Self>,
        endpoint: Endpoint,
        runtime: RuntimeId,
        guard: ReconnectGuard,
    ) {
        let interval = self.config.reconnect_interval;
        let mut failures = 0_u32;
        let mut opened = 0;
        // An agent may close each connection at once.
        while opened < self.config.connections_per_agent && self.needs_local_connections(runtime) {
            match self.connect(&endpoint).await {
                Ok(connection) => {
                    if !self.join(&connection) {
                        return connection.close();
                    }
                    opened += 1;
                    failures = 0;
                    self.state.shared.queues.wake();
                    self.request_settings();
                }
                Err(error) => {
                    failures += 1;
                    if failures.is_power_of_two() {
                        let agent = &**self.id();
                        log_line!(warn, agent, { agent, error } (failures), "cannot open a connection for this runtime");
                    }
                    sleep(delay(interval, MAX_DELAY, failures)).await;
                }
            }
        }
        // Calls do not start this again before the interval has passed.
        sleep(interval).await;
        // Maintenance skips a runtime whose connections are being opened here, so it has to check
        // again.
        drop(guard);
        self.state.shared.request_maintenance();
    }

    /// Returns whether the agent is available and lacks connections of a runtime.
    fn needs_local_connections(&self, runtime: RuntimeId) -> bool {
        self.is_available() && self.lacks_connections(&self.snapshot(), Some(runtime))
    }
}

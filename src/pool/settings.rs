//! Settings of agents: kept by the pool, and sent on every connection before it takes exchanges.
//!
//! Each value that is set gets a number of its own. A connection stores the number of the settings
//! that its agent has or is being sent; 0 means that this is unknown or that it has none. Comparing
//! the two numbers shows on which connections the settings have to be sent. `DeliveryGuard`
//! describes how the number changes.

use super::AgentPool;
use super::agent::Agent;
use super::member::Member;
use crate::config_push::ConfigUpdateHandler;
use crate::connection::{Connection, TimeLimit};
use crate::entropy;
use crate::error::{CallError, ConnectError};
use crate::lock::lock;
use crate::log::log_line;
use crate::protocol::{DrainReason, DrainRequest, EventType, ShutdownReason, ShutdownRequest};
use crate::wire::control::ControlMessage;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// Maximum time that a notice to an agent waits for room in the send queue.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(1);

impl Agent {
    /// Sets the agent's settings and sends them.
    ///
    /// They are sent now on every open connection, and from now on first of all on every new
    /// connection. A connection on which the agent rejects them or does not answer is not used.
    ///
    /// The agent gets `config` and `config_version` in the event
    /// [`Configure`](crate::events::Configure). It may get the same settings several times, because
    /// each of its connections could lead to another process. They are forgotten when the proxy
    /// removes the agent, and kept when the agent is replaced or disconnects.
    ///
    /// Over gRPC an agent without tollgate's extension accepts them by the pong to a ping, and
    /// rejects them by ending its stream. One that fails at that moment counts as rejecting them.
    ///
    /// Returns the number of connections on which the agent accepted them.
    ///
    /// # Errors
    ///
    /// [`SettingsRefused`](CallError::SettingsRefused): the previous settings are
    /// restored, and new connections begin with those. Otherwise as for [`Agent::send`]: new
    /// connections begin with the new settings, and maintenance sends them again on the others.
    pub async fn configure(
        &self,
        config: Value,
        version: Option<String>,
    ) -> Result<usize, CallError> {
        let agent = &self.0;
        if let Some(error) = agent.gone() {
            return Err(error);
        }
        let store = &agent.pool.settings;
        let replacement = store.replace(agent.id(), config, version);
        let settings = Arc::clone(&replacement.settings);
        let mut accepted = 0;
        for connection in agent.snapshot_full().open_connections() {
            if !store.is_current(agent.id(), &settings) {
                break;
            }
            let limit = TimeLimit::configured(agent.config.timeout(EventType::Configure));
            match agent.send_settings(connection, &settings, limit).await {
                Ok(()) => accepted += 1,
                Err(error @ CallError::SettingsRefused { .. }) => {
                    store.restore(agent.id(), replacement);
                    agent.request_settings();
                    return Err(error);
                }
                Err(error) if connection.lifecycle.is_open() => return Err(error),
                // The connection that replaces this one begins with the new settings.
                Err(_) => {}
            }
        }
        Ok(accepted)
    }

    /// Returns the agent's settings, as [`Configure`](crate::events::Configure) carries them.
    pub fn settings(&self) -> Option<Map<String, Value>> {
        let settings = self.0.pool.settings.get(self.id())?;
        Some(settings.object.clone())
    }

    /// Asks the agent to take no new work for a while. Returns `false` if the agent does not speak
    /// tollgate's extension and cannot be asked.
    ///
    /// # Errors
    ///
    /// [`Removed`](CallError::Removed), [`Replaced`](CallError::Replaced) and
    /// [`PoolDropped`](CallError::PoolDropped) if the handle is outdated;
    /// [`Unavailable`](CallError::Unavailable) if no connection is open;
    /// [`ConnectionClosed`](CallError::ConnectionClosed);
    /// [`Timeout`](CallError::Timeout) if the agent does not read.
    pub async fn request_drain(
        &self,
        duration: Duration,
        reason: DrainReason,
    ) -> Result<bool, CallError> {
        let request = DrainRequest::new(as_millis(duration), reason);
        self.notify(&request).await
    }

    /// Asks the agent to shut down within a grace period. Returns `false` if the agent does not
    /// speak tollgate's extension and cannot be asked.
    ///
    /// # Errors
    ///
    /// As for [`Agent::request_drain`].
    pub async fn request_shutdown(
        &self,
        grace_period: Duration,
        reason: ShutdownReason,
    ) -> Result<bool, CallError> {
        let request = ShutdownRequest::new(reason, as_millis(grace_period));
        self.notify(&request).await
    }

    async fn notify(&self, content: &impl ControlMessage) -> Result<bool, CallError> {
        let connection = self.open_connection()?;
        let sent = timeout(NOTICE_TIMEOUT, connection.send_extension(content));
        sent.await.unwrap_or_else(|_| {
            Err(CallError::Timeout {
                agent_id: Arc::clone(self.0.id()),
                after: NOTICE_TIMEOUT,
            })
        })
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl AgentPool {
    /// Sets the handler for agents' config update requests.
    ///
    /// Agents with tollgate's extension are sent the handler's decision. If an agent requests its
    /// settings again, the handler accepts, and [`Agent::configure`] has set some,
    /// maintenance sends them again.
    ///
    /// The pool owns the handler. A callback that owned a handle of the pool would keep the pool
    /// open forever.
    pub fn set_config_update_handler(&self, handler: ConfigUpdateHandler) {
        self.inner.updates.store(Arc::new(handler));
    }

    /// Returns the handler for agents' config update requests.
    pub fn config_update_handler(&self) -> Arc<ConfigUpdateHandler> {
        self.inner.updates.load_full()
    }
}

/// Settings of all agents.
#[derive(Debug)]
pub(super) struct SettingsStore {
    proxy_id: String,
    by_agent: Mutex<HashMap<String, Arc<Settings>>>,
    /// Source of the numbers of settings, and of correlation ids for the events that carry them.
    count: AtomicU64,
}

/// Settings of one agent.
#[derive(Debug)]
pub(super) struct Settings {
    /// Identifies these settings; never 0. Changes when the agent requests them again, so that no
    /// connection has them any more.
    number: AtomicU64,
    object: Map<String, Value>,
}

/// Settings that took the place of others.
#[derive(Debug)]
pub(super) struct Replacement {
    settings: Arc<Settings>,
    before: Option<Arc<Settings>>,
}

impl SettingsStore {
    /// Creates an empty store of a pool with this name, or with one that is unique to it.
    pub(super) fn new(proxy_id: Option<String>) -> Self {
        let unique = || {
            let (process, distinct) = (entropy::process_id(), entropy::unique());
            format!("tollgate-{process}-{distinct:016x}")
        };
        Self {
            proxy_id: proxy_id.unwrap_or_else(unique),
            by_agent: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// Returns the name by which the pool identifies itself to agents.
    pub(super) fn proxy_id(&self) -> &str {
        &self.proxy_id
    }

    /// Returns a new correlation id for an event that carries settings.
    pub(super) fn correlation_id(&self) -> String {
        format!("{}-configure-{}", self.proxy_id, self.next())
    }

    pub(super) fn forget(&self, agent_id: &str) {
        lock(&self.by_agent).remove(agent_id);
    }

    pub(super) fn get(&self, agent_id: &str) -> Option<Arc<Settings>> {
        lock(&self.by_agent).get(agent_id).cloned()
    }

    fn is_current(&self, agent_id: &str, settings: &Arc<Settings>) -> bool {
        let by_agent = lock(&self.by_agent);
        by_agent
            .get(agent_id)
            .is_some_and(|current| Arc::ptr_eq(current, settings))
    }

    /// Stores new settings, and returns them with the previous ones.
    pub(super) fn replace(
        &self,
        agent_id: &str,
        config: Value,
        version: Option<String>,
    ) -> Replacement {
        let mut object = Map::from_iter([("config".to_owned(), config)]);
        if let Some(version) = version {
            object.insert("config_version".to_owned(), version.into());
        }
        let settings = Arc::new(Settings {
            number: self.next().into(),
            object,
        });
        let before = lock(&self.by_agent).insert(agent_id.to_owned(), Arc::clone(&settings));
        Replacement { settings, before }
    }

    /// Restores the settings before a replacement, unless others were set meanwhile.
    pub(super) fn restore(&self, agent_id: &str, replacement: Replacement) {
        let mut by_agent = lock(&self.by_agent);
        let current = by_agent.get(agent_id);
        if !current.is_some_and(|current| Arc::ptr_eq(current, &replacement.settings)) {
            return;
        }
        match replacement.before {
            Some(before) => by_agent.insert(agent_id.to_owned(), before),
            None => by_agent.remove(agent_id),
        };
    }

    /// Makes an agent's settings count as missing on every connection, also on those that are
    /// getting them now.
    fn expire(&self, agent_id: &str) {
        if let Some(settings) = self.get(agent_id) {
            settings.number.store(self.next(), Ordering::Relaxed);
        }
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Member {
    /// Prepares a new connection for exchanges: sends the agent its settings, and registers it for
    /// pushes. Closes the connection if the agent does not accept the settings.
    pub(super) async fn prepare_connection(
        &self,
        connection: &Arc<Connection>,
    ) -> Result<(), ConnectError> {
        if let Some(settings) = self.pool.settings.get(self.id()) {
            // An open circuit breaker would reject the event, so the agent could never be
            // configured.
            self.state.shared.breaker.allow_trial();
            let limit = self.first_settings_limit(connection);
            let sent = self.send_settings(connection, &settings, limit).await;
            if let Err(error) = sent {
                connection.close();
                return Err(match error {
                    CallError::SettingsRefused { reason, .. } => {
                        ConnectError::SettingsRefused(reason)
                    }
                    error => ConnectError::SettingsNotGiven(error.to_string()),
                });
            }
        }
        connection.end_configuring();
        let capabilities = &connection.capabilities;
        // Other agents would take a pushed update for their settings.
        let takes_pushes = capabilities.features.config_push && connection.dialect.has_streams();
        self.pool
            .pusher
            .register_agent(&**self.id(), &*capabilities.name, takes_pushes);
        Ok(())
    }

    /// Returns whether maintenance was requested to send the settings and there are connections
    /// that need them. Clears the request.
    pub(super) fn take_settings_request(&self) -> bool {
        let state = &self.state;
        let is_reload = state
            .config_requests
            .is_reload_requested
            .swap(false, Ordering::AcqRel);
        if is_reload {
            self.pool.settings.expire(self.id());
        }
        let is_wanted = state
            .settings_resend_requested
            .swap(false, Ordering::AcqRel);
        (is_reload || is_wanted) && self.lacks_settings()
    }

    /// Returns whether the agent has other settings than it should on any open connection.
    pub(super) fn lacks_settings(&self) -> bool {
        self.pool.settings.get(self.id()).is_some_and(|settings| {
            self.snapshot()
                .open_connections()
                .any(|connection| !settings.are_current_on(connection))
        })
    }

    /// Sends the settings on the connections where the agent has others.
    pub(super) async fn reconfigure(self: Arc<Self>) {
        let Some(settings) = self.pool.settings.get(self.id()) else {
            return;
        };
        let snapshot = self.snapshot_full();
        let needs_them = |connection: &&Arc<Connection>| !settings.are_current_on(connection);
        for connection in snapshot.open_connections().filter(needs_them) {
            let limit = TimeLimit::configured(self.config.timeout(EventType::Configure));
            if let Err(error) = self.send_settings(connection, &settings, limit).await {
                let agent = &**self.id();
                return log_line!(warn, agent, { agent, error }, "could not update the agent's settings");
            }
        }
        self.note_reload();
    }

    /// Ends pending reloads if every connection has the settings that it should have.
    pub(super) fn note_reload(&self) {
        let is_requested = self
            .state
            .config_requests
            .is_reload_requested
            .load(Ordering::Acquire);
        let has_settings = self.pool.settings.get(self.id()).is_some();
        if !is_requested && has_settings && !self.lacks_settings() {
            self.pool.updates.load().reload_done(self.id());
        }
    }

    /// Requests maintenance if the settings changed while a connection was opened.
    pub(super) fn request_settings(&self) {
        if self.lacks_settings() {
            self.state
                .settings_resend_requested
                .store(true, Ordering::Release);
            self.state.shared.request_maintenance();
        }
    }
}

impl Settings {
    /// Returns the settings themselves, without their version.
    pub(super) fn config(&self) -> Option<&Value> {
        self.object.get("config")
    }

    /// Returns the number of the settings; never 0.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Returns the settings as the event carries them.
    pub(super) fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    fn are_current_on(&self, connection: &Connection) -> bool {
        connection.settings.load(Ordering::Relaxed) == self.number()
    }
}

#[cfg(test)]
#[path = "../../tests/unit/pool/settings.rs"]
mod tests;

//! What agents are configured with, from the first moment of every connection on.

use super::agents::AgentEntry;
use super::ask::{Inquiry, Outcome};
use super::{AgentPool, Inner};
use crate::config_push::ConfigUpdateHandler;
use crate::connection::{Binding, Connection, TimeLimit};
use crate::error::{AgentProtocolError, ConnectError};
use crate::protocol::events::Configure;
use crate::protocol::{
    AgentResponse, Decision, DrainReason, DrainRequest, EventType, ShutdownReason, ShutdownRequest,
};
use crate::wire::control::ExtensionMessage;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// Time for room to send a notice to an agent.
const NOTICE_PATIENCE: Duration = Duration::from_secs(1);

impl AgentPool {
    /// Sets what an agent is configured with: now, on every open connection, and from now on with every new connection,
    /// before it takes anything else. A connection on which the agent refuses or does not answer is not used.
    ///
    /// The agent gets `config` and `config_version` in the event [`Configure`]; it may get the same several times, as
    /// each of its connections could lead to another process. Settings may be set before the agent is added, and are
    /// forgotten when it is removed.
    ///
    /// Returns how many connections the agent took them on.
    ///
    /// # Errors
    ///
    /// [`SettingsRefused`](AgentProtocolError::SettingsRefused): what was set before goes on being what new connections
    /// begin with. Otherwise as for [`AgentPool::send`]: new connections begin with the new settings, and upkeep goes on
    /// telling the old ones.
    pub async fn configure_agent(
        &self,
        agent_id: &str,
        config: Value,
        version: Option<String>,
    ) -> Result<usize, AgentProtocolError> {
        let inner = &self.inner;
        let (settings, before) = inner.settings.replace(agent_id, config, version);
        let mut taken = 0;
        for connection in self.connections(agent_id).unwrap_or_default() {
            if !inner.settings.is_current(agent_id, &settings) {
                break;
            }
            let limit = TimeLimit::configured(inner.config.timeout(EventType::Configure));
            match inner.tell_settings(&connection, &settings, limit).await {
                Ok(()) => taken += 1,
                Err(error @ AgentProtocolError::SettingsRefused { .. }) => {
                    inner.settings.restore(agent_id, &settings, before);
                    inner.demand_settings(agent_id);
                    return Err(error);
                }
                Err(error) if connection.is_open() => return Err(error),
                // The connection that takes its place begins with the new settings.
                Err(_) => {}
            }
        }
        Ok(taken)
    }

    /// What an agent is configured with, as [`Configure`] carries it.
    pub fn agent_settings(&self, agent_id: &str) -> Option<Map<String, Value>> {
        let settings = self.inner.settings.get(agent_id)?;
        Some(settings.object.clone())
    }

    /// Sets what is done with agents' requests for changes of configuration.
    ///
    /// Agents with tollgate's extension are told what the handler decides. Where an agent wants its settings again, the
    /// handler agrees, and [`AgentPool::configure_agent`] has set some, upkeep sends them again.
    ///
    /// The pool keeps the handler, so a callback that owned the pool would keep it alive for ever.
    pub fn set_config_update_handler(&self, handler: ConfigUpdateHandler) {
        self.inner.updates.store(Arc::new(handler));
    }

    /// What is done with agents' requests for changes of configuration.
    pub fn config_update_handler(&self) -> Arc<ConfigUpdateHandler> {
        self.inner.updates.load_full()
    }

    /// Asks an agent to take no new work for a while. Returns whether it could be told: only agents with tollgate's
    /// extension can.
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent); [`Unavailable`](AgentProtocolError::Unavailable) if no
    /// connection is open; [`ConnectionClosed`](AgentProtocolError::ConnectionClosed);
    /// [`Timeout`](AgentProtocolError::Timeout) if the agent does not read.
    pub async fn send_drain(
        &self,
        agent_id: &str,
        duration_ms: u64,
        reason: DrainReason,
    ) -> Result<bool, AgentProtocolError> {
        let request = DrainRequest::new(duration_ms, reason);
        self.notify_agent(agent_id, &request).await
    }

    /// Asks an agent to shut down within `grace_period_ms`. Returns whether it could be told, errors as for
    /// [`AgentPool::send_drain`].
    pub async fn send_shutdown(
        &self,
        agent_id: &str,
        reason: ShutdownReason,
        grace_period_ms: u64,
    ) -> Result<bool, AgentProtocolError> {
        let request = ShutdownRequest::new(reason, grace_period_ms);
        self.notify_agent(agent_id, &request).await
    }

    async fn notify_agent(
        &self,
        agent_id: &str,
        content: &impl ExtensionMessage,
    ) -> Result<bool, AgentProtocolError> {
        let connections = self.connections(agent_id)?;
        let connection = connections
            .first()
            .ok_or_else(|| self.unavailable(agent_id))?;
        let told = timeout(NOTICE_PATIENCE, connection.tell(content));
        told.await.unwrap_or_else(|_| {
            Err(AgentProtocolError::Timeout {
                agent_id: agent_id.into(),
                after: NOTICE_PATIENCE,
            })
        })
    }
}

/// The settings of all agents.
#[derive(Debug)]
pub(super) struct SettingsBook {
    proxy_id: String,
    by_agent: Mutex<HashMap<String, Arc<Settings>>>,
    /// Counts settings, and events that carry them.
    count: AtomicU64,
}

/// What one agent is configured with.
#[derive(Debug)]
pub(super) struct Settings {
    /// Tells these settings from others; not 0.
    number: u64,
    object: Map<String, Value>,
}

impl Default for SettingsBook {
    fn default() -> Self {
        let distinct = RandomState::new().hash_one(());
        Self {
            proxy_id: format!("tollgate-{}-{distinct:016x}", std::process::id()),
            by_agent: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }
}

impl SettingsBook {
    /// How the pool calls itself towards agents; no other pool has the same name.
    pub(super) fn proxy_id(&self) -> &str {
        &self.proxy_id
    }

    /// A correlation id for settings.
    pub(super) fn correlation_id(&self) -> String {
        format!("{}-configure-{}", self.proxy_id, self.next())
    }

    pub(super) fn forget(&self, agent_id: &str) {
        self.by_agent().remove(agent_id);
    }

    pub(super) fn get(&self, agent_id: &str) -> Option<Arc<Settings>> {
        self.by_agent().get(agent_id).cloned()
    }

    fn is_current(&self, agent_id: &str, settings: &Arc<Settings>) -> bool {
        let by_agent = self.by_agent();
        by_agent
            .get(agent_id)
            .is_some_and(|current| Arc::ptr_eq(current, settings))
    }

    /// Sets settings and returns them with those before.
    fn replace(
        &self,
        agent_id: &str,
        config: Value,
        version: Option<String>,
    ) -> (Arc<Settings>, Option<Arc<Settings>>) {
        let mut object = Map::from_iter([("config".to_owned(), config)]);
        if let Some(version) = version {
            object.insert("config_version".to_owned(), version.into());
        }
        let settings = Arc::new(Settings {
            number: self.next(),
            object,
        });
        let before = self
            .by_agent()
            .insert(agent_id.to_owned(), Arc::clone(&settings));
        (settings, before)
    }

    /// Takes settings back, unless others have been set meanwhile.
    fn restore(&self, agent_id: &str, refused: &Arc<Settings>, before: Option<Arc<Settings>>) {
        let mut by_agent = self.by_agent();
        let current = by_agent.get(agent_id);
        if !current.is_some_and(|current| Arc::ptr_eq(current, refused)) {
            return;
        }
        match before {
            Some(before) => by_agent.insert(agent_id.to_owned(), before),
            None => by_agent.remove(agent_id),
        };
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn by_agent(&self) -> MutexGuard<'_, HashMap<String, Arc<Settings>>> {
        self.by_agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Makes a fresh connection fit for use: the agent has its settings, and updates may be pushed to it. Otherwise
    /// the connection is closed.
    pub(super) async fn welcome(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
    ) -> Result<(), ConnectError> {
        let record = connection.agent();
        if let Some(settings) = self.settings.get(&record.id) {
            // A breaker that is open would keep the agent from ever being configured.
            record.breaker.allow_trial();
            let limit = TimeLimit::firm(self.config.connect_timeout);
            let told = self.tell_settings(connection, &settings, limit).await;
            if let Err(error) = told {
                connection.close();
                return Err(match error {
                    AgentProtocolError::SettingsRefused { reason, .. } => {
                        ConnectError::SettingsRefused(reason)
                    }
                    error => ConnectError::SettingsNotGiven(error.to_string()),
                });
            }
        }
        connection.let_go();
        let capabilities = connection.capabilities();
        let takes_pushes = capabilities.features.config_push;
        self.pusher
            .register_agent(&*record.id, &*capabilities.name, takes_pushes);
        Ok(())
    }

    /// Whether somebody wants upkeep to see to an agent's settings.
    pub(super) fn wants_settings(&self, agent: &AgentEntry) -> bool {
        let record = &agent.record;
        let is_reload = record.reload_wanted.swap(false, Ordering::AcqRel);
        if is_reload {
            for connection in agent.connections() {
                connection.settings().store(0, Ordering::Relaxed);
            }
        }
        let is_wanted = record.settings_wanted.swap(false, Ordering::AcqRel);
        (is_reload || is_wanted) && self.lacks_settings(agent)
    }

    /// Whether an agent has other settings on a connection than it should.
    pub(super) fn lacks_settings(&self, agent: &AgentEntry) -> bool {
        self.settings.get(agent.id()).is_some_and(|settings| {
            agent
                .open_connections()
                .any(|connection| !settings.were_given_on(connection))
        })
    }

    /// Gives an agent its settings on the connections where it has others.
    pub(super) async fn reconfigure(self: Arc<Self>, agent: Arc<AgentEntry>) {
        let Some(settings) = self.settings.get(agent.id()) else {
            return;
        };
        let lacking = |connection: &&Arc<Connection>| !settings.were_given_on(connection);
        let mut has_told = false;
        for connection in agent.open_connections().filter(lacking) {
            has_told = true;
            let limit = TimeLimit::configured(self.config.timeout(EventType::Configure));
            if let Err(error) = self.tell_settings(connection, &settings, limit).await {
                return tracing::warn!(agent = &**agent.id(), %error, "an agent keeps other settings");
            }
        }
        if has_told {
            self.updates.load().reload_done(agent.id());
        }
    }

    /// Has upkeep see to an agent's settings where they changed while a connection came up.
    pub(super) fn demand_settings(&self, agent_id: &str) {
        let agents = self.agents.load();
        if let Some(agent) = agents
            .get(agent_id)
            .filter(|agent| self.lacks_settings(agent))
        {
            agent.record.settings_wanted.store(true, Ordering::Release);
            agent.record.request_upkeep();
        }
    }

    async fn tell_settings(
        &self,
        connection: &Arc<Connection>,
        settings: &Settings,
        limit: TimeLimit,
    ) -> Result<(), AgentProtocolError> {
        let id = self.settings.correlation_id();
        let inquiry = Inquiry {
            correlation_id: &id,
            kind: EventType::Configure,
            limit,
        };
        let event = Configure {
            correlation_id: &id,
            settings: settings.object.clone(),
        };
        let open = || self.open_on(connection, Binding::Bound, inquiry);
        let record = connection.agent();
        // First, so that nobody else gives them meanwhile.
        let mut giving = Giving::new(connection, settings);
        let outcome = self.ask_strictly(record, inquiry, &event, open).await;
        match verdict(outcome)? {
            Ok(()) => {
                giving.succeeded();
                Ok(())
            }
            Err(reason) => {
                giving.was_refused();
                Err(AgentProtocolError::SettingsRefused {
                    agent_id: Arc::clone(&record.id),
                    reason,
                })
            }
        }
    }
}

impl Settings {
    fn were_given_on(&self, connection: &Connection) -> bool {
        connection.settings().load(Ordering::Relaxed) == self.number
    }
}

/// Settings on their way. Unless it is known what the agent made of them, the connection counts as one without.
struct Giving<'a> {
    connection: &'a Connection,
    number: u64,
    before: u64,
    /// What the agent has if this is dropped.
    otherwise: u64,
}

impl<'a> Giving<'a> {
    fn new(connection: &'a Connection, settings: &Settings) -> Self {
        let number = settings.number;
        let before = connection.settings().swap(number, Ordering::Relaxed);
        Self {
            connection,
            number,
            before,
            otherwise: 0,
        }
    }

    /// The agent keeps what it had.
    fn was_refused(&mut self) {
        self.otherwise = self.before;
    }

    fn succeeded(self) {
        std::mem::forget(self);
    }
}

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        let (number, otherwise) = (self.number, self.otherwise);
        let current = self.connection.settings();
        // Others may have been given meanwhile.
        let _ = current.compare_exchange(number, otherwise, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Whether an agent takes settings, or why it does not. Only an `allow` takes them.
pub(super) fn verdict(outcome: Outcome) -> Result<Result<(), String>, AgentProtocolError> {
    let AgentResponse {
        decision, audit, ..
    } = outcome?;
    Ok(match decision {
        Decision::Allow => Ok(()),
        Decision::Block { body, .. } => {
            Err(body.unwrap_or_else(|| format!("no reason but {:?}", audit.reason_codes)))
        }
        other => Err(format!("an answer that makes no sense here: {other:?}")),
    })
}

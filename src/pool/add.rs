//! Adds, replaces and removes agents, and opens the first connections of an agent.

use super::agent::Agent;
use super::agent_config::{AgentConfig, ResolvedConfig};
use super::agent_state::{AgentEventSinks, AgentState};
use super::member::{Member, Membership, Snapshot, Source};
use super::settings::{Replacement, Settings};
use super::{AgentPool, Agents, Inner};
use crate::connection::{self, Connection, HandshakeOffer, run_writer};
use crate::error::{AddError, CallError, ConnectError, UnknownAgent};
use crate::log::log_line;
use crate::transport::{self, Endpoint};
use std::sync::Arc;
use tokio::time::timeout;

impl AgentPool {
    /// Adds an agent and connects to it.
    ///
    /// An agent that cannot be reached yet is added all the same, unless
    /// [`AgentConfig::require_connection`] says otherwise; the pool keeps trying to connect. An
    /// agent of this name that has registered itself is taken over with its connections, if it
    /// proved that it owns the name.
    ///
    /// Tasks on the current runtime serve the connections. If that runtime shuts down, its
    /// connections end, and they are replaced when the agent is called from another runtime.
    ///
    /// # Errors
    ///
    /// See [`AddError`]. The pool is unchanged then.
    pub async fn add(&self, config: AgentConfig) -> Result<Agent, AddError> {
        let taken = self.inner.agents.load().get(&*config.id).cloned();
        if let Some(agent) = taken {
            check_free(&agent)?;
        }
        let candidate = Candidate::connect(&self.inner, &config).await?;
        self.inner.insert(candidate, check_free)
    }

    /// Adds an agent in place of the one that has its name, if there is one, without losing a call.
    ///
    /// The counters of the replaced agent continue. New exchanges go to the new endpoint, and
    /// exchanges in progress finish on the old connections within the
    /// [`drain_timeout`](AgentConfig::drain_timeout) of the replaced agent. Connections that the
    /// agent itself opened ([`ReverseConnectionListener`](super::ReverseConnectionListener)) are
    /// kept if the agent proved that it owns the name; what is fixed when a connection is opened,
    /// such as its number of slots, stays as it was. Handles of the replaced agent fail with
    /// [`Replaced`](CallError::Replaced).
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::add`], except [`AddError::IdTaken`].
    pub async fn replace(&self, config: AgentConfig) -> Result<Agent, AddError> {
        let candidate = Candidate::connect(&self.inner, &config).await?;
        self.inner.insert(candidate, |_| Ok(()))
    }

    /// Removes an agent.
    ///
    /// Its exchanges finish in the background within the agent's
    /// [`drain_timeout`](AgentConfig::drain_timeout); those that are left then are cancelled.
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`] if no agent has this name.
    pub fn remove(&self, agent_id: &str) -> Result<(), UnknownAgent> {
        let unknown = || UnknownAgent::new(agent_id);
        let agent = self.inner.agents.load().get(agent_id).cloned();
        agent.ok_or_else(unknown)?.remove().map_err(|_| unknown())
    }
}

/// Checks that an agent's name may be given to another.
fn check_free(agent: &Arc<Member>) -> Result<(), AddError> {
    match agent.source {
        Source::Registered => Ok(()),
        Source::Added => Err(AddError::IdTaken {
            agent_id: Arc::clone(agent.id()),
        }),
    }
}

/// An agent that is not in the pool yet. If it is dropped before, its connections are closed.
struct Candidate {
    member: Arc<Member>,
    connections: Vec<Arc<Connection>>,
    /// The agent's new settings, and those that it had. If this is dropped, it keeps those.
    settings: Option<Replacement>,
}

impl Candidate {
    /// Opens connections until there are enough or one fails.
    async fn connect(pool: &Arc<Inner>, config: &AgentConfig) -> Result<Self, AddError> {
        let resolved = config.resolve(&pool.defaults)?;
        let endpoint = config.origin.endpoint()?;
        let state = pool.new_state(&config.id, &resolved);
        if pool.is_closing() {
            return Err(AddError::ShuttingDown {
                agent_id: Arc::clone(&state.shared.id),
            });
        }
        let member = Member::new(pool, state, resolved, endpoint, Source::Added);
        let mut candidate = Self {
            member: Arc::new(member),
            connections: Vec::new(),
            settings: None,
        };
        if let Some((settings, version)) = config.settings.clone() {
            let replaced = pool.settings.replace(&config.id, settings, version);
            candidate.settings = Some(replaced);
        }
        match candidate.open_connections().await {
            Err(error) if config.requires_connection => return Err(error),
            Err(error) => {
                let agent = &**candidate.member.id();
                log_line!(warn, agent, { agent, error }, "agent added, but it cannot be reached yet");
                candidate.member.reconnect.failed();
            }
            Ok(()) => {}
        }
        Ok(candidate)
    }

    async fn open_connections(&mut self) -> Result<(), AddError> {
        let Some(endpoint) = &self.member.endpoint else {
            return Ok(());
        };
        for _ in 0..self.member.config.connections_per_agent {
            match self.member.connect(endpoint).await {
                Ok(connection) => self.connections.push(connection),
                Err(source) => {
                    return Err(AddError::Connect {
                        agent_id: Arc::clone(self.member.id()),
                        endpoint: endpoint.to_string(),
                        source,
                    });
                }
            }
        }
        Ok(())
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.connections
            .iter()
            .for_each(|connection| connection.close());
        if let Some(replacement) = self.settings.take() {
            let settings = &self.member.pool.settings;
            settings.restore(self.member.id(), replacement);
        }
    }
}

impl Inner {
    /// Puts an agent into the pool, unless a shutdown is in progress or `may_replace` rejects the
    /// agent that has the name.
    fn insert(
        self: &Arc<Self>,
        mut candidate: Candidate,
        may_replace: impl FnOnce(&Arc<Member>) -> Result<(), AddError>,
    ) -> Result<Agent, AddError> {
        let member = Arc::clone(&candidate.member);
        let lock = self.lock();
        // Shutdowns empty the pool under the same lock, so none of them misses this agent.
        if self.is_closing() {
            return Err(AddError::ShuttingDown {
                agent_id: Arc::clone(member.id()),
            });
        }
        let mut agents = Agents::clone(&self.agents.load());
        let replaced = agents.get(member.id()).cloned();
        replaced.as_ref().map_or(Ok(()), may_replace)?;
        let own = Snapshot::default().with_connections(std::mem::take(&mut candidate.connections));
        candidate.settings = None;
        let (snapshot, retired) = match &replaced {
            Some(replaced) => own.take_over_from(&replaced.snapshot()),
            None => (own, Vec::new()),
        };
        member.set_snapshot(&lock, snapshot);
        member
            .state
            .shared
            .breaker
            .configure(member.config.breaker());
        member
            .state
            .log
            .set_limit(member.config.max_agent_logs_per_second);
        member.state.shared.breaker.allow_trial();
        agents.insert(Arc::clone(member.id()), Arc::clone(&member));
        self.agents.store(Arc::new(agents));
        if let Some(replaced) = &replaced {
            if !Arc::ptr_eq(&replaced.state, &member.state) {
                // Another call added the agent while this one was connecting to it.
                self.retired_counters.keep(&replaced.state);
            }
            replaced.end(&lock, Membership::Replaced(Arc::clone(&member)));
        }
        drop(lock);
        if let Some(replaced) = replaced {
            replaced.retire(retired);
        }
        member.request_settings();
        member.state.shared.request_maintenance();
        self.start_maintenance();
        Ok(Agent(member))
    }

    /// Forgets an agent's settings, its pending pushes and the metrics that it reported.
    pub(super) fn forget(&self, agent_id: &str) {
        self.reported.forget_agent(agent_id);
        self.pusher.unregister_agent(agent_id);
        self.settings.forget(agent_id);
    }

    /// Returns the state of a known agent, so that its counters and breaker continue, or a new one.
    pub(super) fn new_state(&self, agent_id: &str, config: &ResolvedConfig) -> Arc<AgentState> {
        if let Some(agent) = self.agents.load().get(agent_id) {
            return Arc::clone(&agent.state);
        }
        let sinks = AgentEventSinks {
            notices: self.notices.0.clone(),
            reported: Arc::clone(&self.reported),
            config_handler: Arc::clone(&self.updates),
            memory: self.memory.clone(),
        };
        let maintenance = Arc::clone(&self.maintenance.requested);
        Arc::new(AgentState::new(agent_id, config, sinks, maintenance))
    }
}

impl Member {
    /// Removes the agent from its pool. Fails if the pool no longer has it.
    pub(super) fn remove(self: &Arc<Self>) -> Result<(), CallError> {
        let pool = &self.pool;
        // Before the removal, so that a snapshot of the metrics finds the agent in one place or the
        // other.
        pool.retired_counters.keep(&self.state);
        let last = {
            let lock = pool.lock();
            if let Some(error) = self.gone() {
                return Err(error);
            }
            pool.take_out(&lock, self, Membership::Removed)
        };
        self.retire(last.connections().to_vec());
        pool.forget(self.id());
        Ok(())
    }

    /// Opens a connection, starts its tasks, and gives the agent its settings.
    pub(super) async fn connect(
        self: &Arc<Self>,
        endpoint: &Endpoint,
    ) -> Result<Arc<Connection>, ConnectError> {
        let (config, pool) = (&self.config, &self.pool);
        let settings = pool.settings.get(self.id());
        let connected = timeout(config.connect_timeout, async {
            let link = transport::connect(endpoint, &config.links()).await?;
            let offer = HandshakeOffer {
                proxy_id: pool.settings.proxy_id(),
                encodings: endpoint.encodings(&config.encodings),
                extensions: config.extensions(),
                shared_memory: config.shared_memory(),
                config: settings.as_deref().and_then(Settings::config),
            };
            let shared = Arc::clone(&self.state.shared);
            connection::open(shared, link, offer, &config.connection()).await
        });
        let (connection, inbound) = connected
            .await
            .unwrap_or(Err(ConnectError::TimedOut(config.connect_timeout)))?;
        if !matches!(endpoint, Endpoint::Local(_)) {
            tokio::spawn(run_writer(Arc::clone(&connection)));
        }
        tokio::spawn(Arc::clone(&self.state).receive(inbound));
        self.prepare_connection(&connection).await?;
        Ok(connection)
    }
}

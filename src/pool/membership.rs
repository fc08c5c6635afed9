//! Adds and removes agents, and opens the first connections of an agent.

use super::agents::AgentEntry;
use super::policy::FailureMode;
use super::{AgentPool, Inner, unknown};
use crate::connection::{
    self, AgentEventSinks, AgentState, Connection, HandshakeOffer, run_writer,
};
use crate::error::{AgentProtocolError, ConnectError};
use crate::transport::{self, Endpoint};
use crate::wire::Extension;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::timeout;

impl AgentPool {
    /// Adds an agent under a name and connects to it.
    ///
    /// An agent that cannot be reached yet is added all the same; the pool keeps trying to connect.
    ///
    /// An agent that already has the name is replaced. Its counters continue, new exchanges go to
    /// the new endpoint, and exchanges in progress finish on the old connections within
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout). Connections that the agent itself
    /// opened ([`ReverseConnectionListener`](super::ReverseConnectionListener)) are kept if the
    /// agent proved that it owns the name.
    ///
    /// An endpoint is the path of a Unix socket, `/path` or `unix:/path`, or `tcp://host:port`,
    /// which is neither encrypted nor authenticated. With the feature `grpc` it may also be a gRPC
    /// server: `http://host:port`, `grpc://host:port`, `host:port` or `grpc+unix:///path`, and with
    /// TLS `https://host:port` or `grpcs://host:port`.
    ///
    /// Tasks on the current runtime serve the connections. If that runtime shuts down, its
    /// connections end, and they are replaced when the agent is called from another runtime.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint), and
    /// [`Unavailable`](AgentProtocolError::Unavailable) while the pool is shutting down.
    pub async fn add_agent(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Result<(), AgentProtocolError> {
        let candidate = Candidate::new(&self.inner, agent_id.into(), endpoint.into())?;
        let (entry, connected) = candidate.connect(&self.inner).await;
        if let Err(error) = connected {
            tracing::warn!(%error, "agent added, but it cannot be reached yet");
            entry.reconnect.failed();
        }
        self.insert(entry)
    }

    /// Like [`AgentPool::add_agent`], but adds the agent only if every connection can be opened.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::add_agent`], and
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) if a connection cannot be opened
    /// within [`connect_timeout`](super::AgentPoolConfig::connect_timeout). Connections are opened
    /// one after another, and the first failure ends the attempt.
    pub async fn connect_agent(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Result<(), AgentProtocolError> {
        let candidate = Candidate::new(&self.inner, agent_id.into(), endpoint.into())?;
        let (entry, connected) = candidate.connect(&self.inner).await;
        if let Err(error) = connected {
            entry.close();
            return Err(error);
        }
        self.insert(entry)
    }

    /// Puts an agent into the snapshot, unless a shutdown is in progress; then its connections are
    /// closed.
    fn insert(&self, entry: AgentEntry) -> Result<(), AgentProtocolError> {
        let state = Arc::clone(&entry.state);
        let replaced = self.inner.change(|agents| {
            // Shutdowns empty the snapshot under the same lock, so none of them misses this agent.
            if self.inner.is_closing() {
                entry.close();
                return Err(self.unavailable(&state.id));
            }
            state.breaker.allow_trial();
            let Some(replaced) = agents.get(&state.id).cloned() else {
                agents.insert(entry);
                return Ok(None);
            };
            if !Arc::ptr_eq(&replaced.state, &state) {
                // Another call added the agent while this one was connecting to it.
                self.inner.retired_counters.keep(&replaced.state);
            }
            let (successor, retired) = entry.take_over_from(&replaced);
            agents.insert(successor);
            Ok(Some(retired))
        })?;
        if let Some(retired) = replaced {
            self.inner.retire(Arc::new(retired));
        }
        self.inner.request_settings(&state.id);
        state.request_maintenance();
        self.inner.start_maintenance();
        Ok(())
    }

    /// Removes an agent.
    ///
    /// Its exchanges finish in the background within
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout); those that are left then are
    /// cancelled.
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent) if no agent has this name.
    pub async fn remove_agent(&self, agent_id: &str) -> Result<(), AgentProtocolError> {
        if let Some(agent) = self.inner.agents.load().get(agent_id) {
            self.inner.retired_counters.keep(&agent.state);
        }
        match self.inner.change(|agents| agents.remove(agent_id)) {
            Some(agent) => {
                self.inner.retire(agent);
                self.inner.forget(agent_id);
                Ok(())
            }
            None => Err(unknown(agent_id)),
        }
    }
}

/// An agent that is not in the pool yet. If it is dropped before, its connections are closed.
struct Candidate {
    state: Arc<AgentState>,
    endpoint: Endpoint,
    connections: Vec<Arc<Connection>>,
}

impl Candidate {
    fn new(pool: &Inner, agent_id: String, endpoint: String) -> Result<Self, AgentProtocolError> {
        let endpoint = endpoint.parse()?;
        if pool.is_closing() {
            return Err(AgentProtocolError::Unavailable {
                agent_id: agent_id.into(),
            });
        }
        Ok(Self {
            endpoint,
            state: pool.new_state(agent_id),
            connections: Vec::new(),
        })
    }

    /// Opens connections until there are enough or one fails.
    async fn connect(mut self, pool: &Arc<Inner>) -> (AgentEntry, Result<(), AgentProtocolError>) {
        let connected = self.connect_all(pool).await;
        let entry = AgentEntry::at(
            Arc::clone(&self.state),
            self.endpoint.clone(),
            std::mem::take(&mut self.connections),
        );
        (entry, connected)
    }

    async fn connect_all(&mut self, pool: &Arc<Inner>) -> Result<(), AgentProtocolError> {
        for _ in 0..pool.config.connections_per_agent.max(1) {
            let connection = pool.connect(&self.state, &self.endpoint).await?;
            self.connections.push(connection);
        }
        Ok(())
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.connections
            .iter()
            .for_each(|connection| connection.close());
    }
}

impl Inner {
    /// Forgets an agent's settings, its pending pushes and the metrics that it reported.
    pub(super) fn forget(&self, agent_id: &str) {
        self.reported.forget_agent(agent_id);
        self.pusher.unregister_agent(agent_id);
        self.settings.forget(agent_id);
    }

    /// Returns the state of a known agent, so that its counters and breaker continue, or a new one.
    pub(super) fn new_state(&self, agent_id: String) -> Arc<AgentState> {
        if let Some(agent) = self.agents.load().get(&agent_id) {
            return Arc::clone(&agent.state);
        }
        let maintenance = Arc::clone(&self.maintenance.requested);
        let sinks = AgentEventSinks {
            notices: self.notices.0.clone(),
            reported: Arc::clone(&self.reported),
            updates: Arc::clone(&self.updates),
        };
        let state = AgentState::new(
            agent_id,
            self.config.breaker(),
            sinks,
            self.config.max_agent_logs_per_second,
            maintenance,
        );
        let fails_open = self.config.failure_mode == FailureMode::Open;
        state.fails_open.store(fails_open, Ordering::Relaxed);
        Arc::new(state)
    }

    /// Opens a connection, starts its tasks, and gives the agent its settings.
    pub(super) async fn connect(
        self: &Arc<Self>,
        state: &Arc<AgentState>,
        endpoint: &Endpoint,
    ) -> Result<Arc<Connection>, AgentProtocolError> {
        let config = &self.config;
        let connected = timeout(config.connect_timeout, async {
            let link = transport::connect(endpoint, &config.links()).await?;
            let offer = HandshakeOffer {
                proxy_id: self.settings.proxy_id(),
                encodings: endpoint.encodings(&config.encodings),
                extension: config.use_extension.then_some(Extension::V1),
            };
            let state = Arc::clone(state);
            connection::open(state, link, offer, &config.connection()).await
        });
        let failed = |cause| AgentProtocolError::ConnectionFailed {
            agent_id: Arc::clone(&state.id),
            endpoint: endpoint.to_string(),
            cause,
        };
        let (connection, inbound) = connected
            .await
            .unwrap_or(Err(ConnectError::TimedOut(config.connect_timeout)))
            .map_err(failed)?;
        tokio::spawn(run_writer(Arc::clone(&connection)));
        tokio::spawn(inbound.run());
        self.prepare_connection(&connection).await.map_err(failed)?;
        Ok(connection)
    }
}

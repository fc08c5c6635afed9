//! Agents that come and go, and the connections that they begin with.

use super::agents::AgentEntry;
use super::policy::FailureMode;
use super::{AgentPool, Inner, unknown};
use crate::connection::{self, AgentRecord, Audience, Connection, Offer, run_writer};
use crate::error::{AgentProtocolError, ConnectError};
use crate::transport::{self, Endpoint};
use crate::wire::Extension;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::timeout;

impl AgentPool {
    /// Adds an agent under a name and connects to it. An agent that is not there yet is added all the same,
    /// and connected to when it comes.
    ///
    /// An agent that has the name already is replaced: its counters go on, new exchanges go to the new
    /// endpoint, and those under way finish on the old connections within
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout).
    ///
    /// Connections that the agent itself has made ([`ReverseConnectionListener`](super::ReverseConnectionListener))
    /// stay if it has shown that the name is its own.
    ///
    /// An endpoint is the path of a Unix socket, `/path` or `unix:/path`, or `tcp://host:port`, which is neither
    /// encrypted nor authenticated. With the feature `grpc` it may also be a gRPC server: `http://host:port`,
    /// `grpc://host:port`, `host:port` or `grpc+unix:///path`, and with TLS `https://host:port` or
    /// `grpcs://host:port`. The connections are served by
    /// tasks on the runtime that this is called on; they end with it, and are replaced when the agent is called
    /// from another.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint).
    pub async fn add_agent(
        &self,
        agent_id: impl Into<String>,
        endpoint: impl Into<String>,
    ) -> Result<(), AgentProtocolError> {
        let candidate = Candidate::new(&self.inner, agent_id.into(), endpoint.into())?;
        let (entry, connected) = candidate.connect(&self.inner).await;
        if let Err(error) = connected {
            tracing::warn!(%error, "an agent is added that cannot be connected to yet");
            entry.repair.failed();
        }
        self.put(entry);
        Ok(())
    }

    /// Adds an agent as [`AgentPool::add_agent`] does, but only if every connection comes up.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint), or
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) with the first cause if not all
    /// connections come up, one after another, each within
    /// [`connect_timeout`](super::AgentPoolConfig::connect_timeout).
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
        self.put(entry);
        Ok(())
    }

    fn put(&self, entry: AgentEntry) {
        entry.record.breaker.allow_trial();
        let record = Arc::clone(&entry.record);
        let retired = self.inner.change(|agents| {
            let Some(replaced) = agents.get(&entry.record.id).cloned() else {
                agents.insert(entry);
                return None;
            };
            let (heir, retired) = entry.inherit(&replaced);
            agents.insert(heir);
            Some(retired)
        });
        if let Some(retired) = retired {
            self.inner.retire(Arc::new(retired));
        }
        self.inner.demand_settings(&record.id);
        record.request_upkeep();
        self.start_upkeep();
    }

    /// Forgets an agent. Its exchanges finish within [`drain_timeout`](super::AgentPoolConfig::drain_timeout),
    /// in the background, and are cancelled after that.
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent) if no agent has this name.
    pub async fn remove_agent(&self, agent_id: &str) -> Result<(), AgentProtocolError> {
        if let Some(agent) = self.inner.agents.load().get(agent_id) {
            self.inner.departed.keep(&agent.record);
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

/// An agent on its way into the pool. Connections that do not get there are closed.
struct Candidate {
    record: Arc<AgentRecord>,
    endpoint: Endpoint,
    connections: Vec<Arc<Connection>>,
}

impl Candidate {
    fn new(pool: &Inner, agent_id: String, endpoint: String) -> Result<Self, AgentProtocolError> {
        Ok(Self {
            endpoint: endpoint.parse()?,
            record: pool.record(agent_id),
            connections: Vec::new(),
        })
    }

    /// Makes as many connections as come up, up to the first that does not.
    async fn connect(mut self, pool: &Arc<Inner>) -> (AgentEntry, Result<(), AgentProtocolError>) {
        let connected = self.connect_all(pool).await;
        let entry = AgentEntry::at(
            Arc::clone(&self.record),
            self.endpoint.clone(),
            std::mem::take(&mut self.connections),
        );
        (entry, connected)
    }

    async fn connect_all(&mut self, pool: &Arc<Inner>) -> Result<(), AgentProtocolError> {
        for _ in 0..pool.config.connections_per_agent.max(1) {
            let connection = pool.connect(&self.record, &self.endpoint).await?;
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
    /// Forgets what an agent was to have and what it reported.
    pub(super) fn forget(&self, agent_id: &str) {
        self.reported.forget_agent(agent_id);
        self.pusher.unregister_agent(agent_id);
        self.settings.forget(agent_id);
    }

    /// What is known of an agent, so that it goes on where it left off.
    pub(super) fn record(&self, agent_id: String) -> Arc<AgentRecord> {
        if let Some(agent) = self.agents.load().get(&agent_id) {
            return Arc::clone(&agent.record);
        }
        let upkeep = Arc::clone(&self.upkeep.requested);
        let audience = Audience {
            notices: self.notices.0.clone(),
            reported: Arc::clone(&self.reported),
            updates: Arc::clone(&self.updates),
        };
        let record = AgentRecord::new(
            agent_id,
            self.config.breaker(),
            audience,
            self.config.max_agent_logs_per_second,
            upkeep,
        );
        let fails_open = self.config.failure_mode == FailureMode::Open;
        record.fails_open.store(fails_open, Ordering::Relaxed);
        Arc::new(record)
    }

    pub(super) async fn connect(
        self: &Arc<Self>,
        record: &Arc<AgentRecord>,
        endpoint: &Endpoint,
    ) -> Result<Arc<Connection>, AgentProtocolError> {
        let config = &self.config;
        let connected = timeout(config.connect_timeout, async {
            let link = transport::connect(endpoint, &config.links()).await?;
            let offer = Offer {
                proxy_id: self.settings.proxy_id(),
                encodings: endpoint.encodings(&config.encodings),
                extension: config.use_extension.then_some(Extension::V1),
            };
            let record = Arc::clone(record);
            connection::open(record, link, offer, &config.connection()).await
        });
        let failed = |cause| AgentProtocolError::ConnectionFailed {
            agent_id: Arc::clone(&record.id),
            endpoint: endpoint.to_string(),
            cause,
        };
        let (connection, inbound) = connected
            .await
            .unwrap_or(Err(ConnectError::TimedOut(config.connect_timeout)))
            .map_err(failed)?;
        tokio::spawn(run_writer(Arc::clone(&connection)));
        tokio::spawn(inbound.run());
        self.welcome(&connection).await.map_err(failed)?;
        Ok(connection)
    }
}

//! Tollgate with its defaults, as a busy proxy and a trivial agent use it.

use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::path::PathBuf;
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentServer,
    BodyChunk, Bytes, Decision, Encoding, Metadata, RequestBodyChunk, RequestHeaders,
    ReverseConnectionConfig, ReverseConnectionListener, SharedMemory,
};
use tollgate_load_driver::{CONNECTIONS, Caller, LinkCounts, Proxy, Subject, Traffic, traffic};

/// The name of the agent inside the pool.
const AGENT: &str = "agent";

/// Tollgate with one of its encodings.
pub(crate) struct Tollgate {
    encoding: Encoding,
    link: SharedMemory,
}

impl Tollgate {
    pub(crate) const fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            link: SharedMemory::Off,
        }
    }

    /// Returns the subject with shared memory between the two sides.
    pub(crate) const fn through_shared_memory(self, link: SharedMemory) -> Self {
        Self { link, ..self }
    }
}

impl Subject for Tollgate {
    type Proxy = ConnectedPool;
    type Address = PathBuf;

    async fn serve(&self, socket: PathBuf) -> anyhow::Result<()> {
        let server = AgentServer::builder(AllowAll)
            .listen(socket.display().to_string())
            .shared_memory(self.link)
            .bind()
            .await?;
        Ok(server.serve().await?)
    }

    async fn connect(&self, socket: &PathBuf, traffic: &Traffic) -> anyhow::Result<ConnectedPool> {
        let pool = AgentPool::with_config(
            AgentPoolConfig::default()
                .connections_per_agent(CONNECTIONS)
                .encodings(vec![self.encoding])
                .shared_memory(self.link),
        );
        let endpoint = format!("unix:{}", socket.display());
        let agent = pool
            .add(AgentConfig::new(AGENT, endpoint).require_connection())
            .await?;
        let rings = agent.stats().shared_memory;
        ensure!(
            self.link == SharedMemory::Off || rings.connections == CONNECTIONS,
            "no shared memory: {rings:?}"
        );
        ConnectedPool::new(pool, agent, traffic)
    }
}

/// Tollgate over gRPC.
pub(crate) struct Grpc;

impl Subject for Grpc {
    type Proxy = ConnectedPool;
    type Address = SocketAddr;

    async fn serve(&self, address: SocketAddr) -> anyhow::Result<()> {
        let server = AgentServer::builder(AllowAll).listen(format!("grpc://{address}"));
        Ok(server.bind().await?.serve().await?)
    }

    async fn connect(
        &self,
        address: &SocketAddr,
        traffic: &Traffic,
    ) -> anyhow::Result<ConnectedPool> {
        let pool =
            AgentPool::with_config(AgentPoolConfig::default().connections_per_agent(CONNECTIONS));
        let agent = pool
            .add(AgentConfig::new(AGENT, format!("grpc://{address}")).require_connection())
            .await?;
        ConnectedPool::new(pool, agent, traffic)
    }
}

/// Tollgate with MessagePack and an agent that connects to the proxy.
pub(crate) struct Reverse;

impl Subject for Reverse {
    type Proxy = ConnectedPool;
    type Address = PathBuf;

    async fn serve(&self, socket: PathBuf) -> anyhow::Result<()> {
        let dialer = AgentServer::builder(AllowAll)
            .agent_id(AGENT)
            .dial(socket.display().to_string())
            .dial_connections(CONNECTIONS);
        Ok(dialer.serve().await?)
    }

    async fn ready(&self, _socket: &PathBuf) -> anyhow::Result<()> {
        Ok(())
    }

    async fn connect(&self, socket: &PathBuf, traffic: &Traffic) -> anyhow::Result<ConnectedPool> {
        let pool = AgentPool::with_config(
            AgentPoolConfig::default().encodings(vec![Encoding::MessagePack]),
        );
        let config = ReverseConnectionConfig::default().max_connections_per_agent(CONNECTIONS);
        let listener = ReverseConnectionListener::bind_uds(socket, config).await?;
        for _ in 1..CONNECTIONS {
            listener.accept_one(&pool).await?;
        }
        let agent = listener.accept_one(&pool).await?;
        ConnectedPool::new(pool, agent, traffic)
    }
}

/// Tollgate with the agent in the process of the proxy. An agent's process of its own stays idle.
pub(crate) struct InProcess;

impl Subject for InProcess {
    type Proxy = ConnectedPool;
    type Address = PathBuf;

    async fn serve(&self, _socket: PathBuf) -> anyhow::Result<()> {
        std::future::pending().await
    }

    async fn ready(&self, _socket: &PathBuf) -> anyhow::Result<()> {
        Ok(())
    }

    async fn connect(&self, _socket: &PathBuf, traffic: &Traffic) -> anyhow::Result<ConnectedPool> {
        let pool =
            AgentPool::with_config(AgentPoolConfig::default().connections_per_agent(CONNECTIONS));
        let agent = AgentConfig::local(AGENT, AllowAll).require_connection();
        let agent = pool.add(agent).await?;
        Ok(ConnectedPool {
            encoding: "none",
            ..ConnectedPool::new(pool, agent, traffic)?
        })
    }
}

/// Creates the event for a whole body.
fn whole_body(id: &str, data: Bytes) -> RequestBodyChunk<'_> {
    RequestBodyChunk(BodyChunk {
        total_size: Some(data.len()),
        ..BodyChunk::new(id, data, 0, true)
    })
}

/// Uses the handler's defaults, which allow every event.
struct AllowAll;

impl AgentHandler for AllowAll {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("allow-all", "Allows everything", env!("CARGO_PKG_VERSION"))
    }
}

pub(crate) struct ConnectedPool {
    /// The callers' handles of the agent are usable only while this exists.
    _pool: AgentPool,
    agent: Agent,
    encoding: &'static str,
    body: Option<Bytes>,
}

impl ConnectedPool {
    fn new(pool: AgentPool, agent: Agent, traffic: &Traffic) -> anyhow::Result<Self> {
        let encoding = agent.encoding().context("no connection")?.as_str();
        Ok(Self {
            _pool: pool,
            agent,
            encoding,
            body: traffic.body.clone(),
        })
    }
}

impl Proxy for ConnectedPool {
    type Caller = PoolCaller;

    fn encoding(&self) -> &'static str {
        self.encoding
    }

    fn caller(&self, _number: usize) -> PoolCaller {
        PoolCaller {
            agent: self.agent.clone(),
            body: self.body.clone(),
        }
    }

    fn link_counts(&self) -> Option<LinkCounts> {
        let rings = self.agent.stats().shared_memory;
        (rings.connections > 0).then_some(LinkCounts {
            doorbells: rings.doorbells as f64,
            sleeps: rings.sleeps as f64,
            vain_spins: rings.vain_spins as f64,
        })
    }
}

pub(crate) struct PoolCaller {
    agent: Agent,
    body: Option<Bytes>,
}

impl Caller for PoolCaller {
    async fn call(&mut self, id: &str) -> anyhow::Result<()> {
        let mut exchange = self.agent.exchange(id)?;
        let answer = exchange.send(&head(id)).await?;
        ensure!(
            answer.decision == Decision::Allow,
            "the headers were not allowed"
        );
        if let Some(body) = &self.body {
            let answer = exchange.send(&whole_body(id, body.clone())).await?;
            ensure!(
                answer.decision == Decision::Allow,
                "the body was not allowed"
            );
        }
        Ok(())
    }
}

/// Creates the first event of a request.
pub(crate) fn head(id: &str) -> RequestHeaders<'_, &[(&'static str, &'static str)]> {
    RequestHeaders {
        metadata: Metadata {
            correlation_id: id,
            request_id: id,
            client_ip: traffic::CLIENT_IP,
            client_port: traffic::CLIENT_PORT,
            server_name: Some(traffic::SERVER_NAME),
            protocol: traffic::PROTOCOL,
            tls_version: Some(traffic::TLS_VERSION),
            tls_cipher: Some(traffic::TLS_CIPHER),
            route_id: Some(traffic::ROUTE_ID),
            upstream_id: None,
            timestamp: traffic::TIMESTAMP,
            traceparent: None,
            body_follows: None,
        },
        method: traffic::METHOD,
        uri: traffic::URI,
        headers: &traffic::HEADERS,
    }
}

//! Connecting to the agent that a command uses.

use crate::exit::AgentFailure;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;
use crate::values::{is_remote, parse_target, socket_path};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tollgate::{
    Agent, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, Encoding,
    ReverseConnectionConfig, ReverseConnectionListener, SharedMemory,
};

/// Id of the one agent in a command's pool.
pub(crate) const AGENT_ID: &str = "agent";

/// Stands for the endpoint of an agent in this process.
pub(crate) const LOCAL: &str = "local";

/// The kind of link to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LinkChoice {
    /// Shared memory if both sides can, else the socket
    Auto,
    /// The socket
    Socket,
    /// Shared memory; fails where it is refused
    SharedMemory,
}

/// The link that a connection uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LinkKind {
    #[default]
    Socket,
    SharedMemory,
    /// None: the agent is in this process.
    Local,
}

impl LinkKind {
    /// Returns the link of an agent's connections; shared memory if all of them use it.
    pub(crate) fn of(agent: &Agent, endpoint: &str) -> Self {
        if endpoint == LOCAL {
            return Self::Local;
        }
        let stats = agent.stats();
        match stats.shared_memory.connections {
            0 => Self::Socket,
            shared if shared < stats.active_connections => Self::Socket,
            _ => Self::SharedMemory,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::SharedMemory => "shared-memory",
            Self::Local => "local",
        }
    }
}

/// The agent to connect to, and its TLS options.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Endpoint of the agent: /path, unix:/path or tcp://host:port; with gRPC grpc://host:port or
    /// grpcs://host:port; as HAProxy reaches it haproxy://host:port or haproxy+unix:///path; as
    /// Envoy envoy://host:port, envoys://host:port or envoy+unix:///path
    #[arg(value_parser = parse_target)]
    pub(crate) endpoint: String,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub(crate) tls: ClientTls,
}

impl Target {
    /// An agent on a Unix socket, without TLS.
    pub(crate) fn local(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            #[cfg(feature = "tls")]
            tls: ClientTls::default(),
        }
    }
}

/// A connected agent, and the pool that it is the only agent of.
pub(crate) struct Connected {
    /// The agent is usable only while this exists.
    pub(crate) pool: AgentPool,
    pub(crate) agent: Agent,
}

/// Creates a pool with one agent and connects to it.
///
/// `timeout` limits connecting and, later, each call. With `encoding`, connecting fails unless the
/// agent uses that encoding; gRPC always uses protobuf and ignores it.
pub(crate) async fn connect(
    target: &Target,
    encoding: Option<Encoding>,
    connections: usize,
    timeout: Duration,
    link: LinkChoice,
) -> anyhow::Result<Connected> {
    let endpoint = &target.endpoint;
    let config = config(encoding, timeout, link).connections_per_agent(connections);
    #[cfg(feature = "grpc")]
    let config = config.tls(target.tls.config(endpoint)?);
    let pool = AgentPool::with_config(config);
    let agent = pool
        .add(AgentConfig::new(AGENT_ID, endpoint).require_connection())
        .await
        .map_err(|error| AgentFailure::of(endpoint, &error))?;
    check_encoding(&agent, endpoint, encoding)?;
    check_link(&agent, endpoint, link)?;
    Ok(Connected { pool, agent })
}

/// Creates a pool and listens at `endpoint` until the agent, which registers as [`AGENT_ID`], has
/// opened `connections` connections.
///
/// `timeout` limits the wait and, later, each call. With `encoding`, this fails unless the agent
/// uses that encoding.
pub(crate) async fn accept(
    endpoint: &str,
    encoding: Option<Encoding>,
    connections: usize,
    timeout: Duration,
    link: LinkChoice,
) -> Result<Connected, AgentFailure> {
    let pool = AgentPool::with_config(config(encoding, timeout, link));
    let listener_config = ReverseConnectionConfig::default()
        .allowed_agents([AGENT_ID.to_owned()].into())
        .max_connections_per_agent(connections);
    let listener = ReverseConnectionListener::bind_uds(socket_path(endpoint), listener_config)
        .await
        .map_err(|error| AgentFailure::of(endpoint, &error))?;
    let accepted = tokio::time::timeout(timeout, async {
        for _ in 1..connections {
            listener.accept_one(&pool).await?;
        }
        listener.accept_one(&pool).await
    });
    let agent = match accepted.await {
        Ok(accepted) => accepted.map_err(|error| AgentFailure::of(endpoint, &error))?,
        Err(_) => {
            let missing = "timed out waiting for the agent to connect";
            return Err(AgentFailure::new(endpoint, missing));
        }
    };
    check_encoding(&agent, endpoint, encoding)?;
    check_link(&agent, endpoint, link)?;
    Ok(Connected { pool, agent })
}

/// Creates a pool with one agent, which is in this process.
pub(crate) async fn add_local(
    handler: impl AgentHandler,
    connections: usize,
    timeout: Duration,
) -> Result<Connected, AgentFailure> {
    let config = config(None, timeout, LinkChoice::Socket).connections_per_agent(connections);
    let pool = AgentPool::with_config(config);
    let agent = pool.add(AgentConfig::local(AGENT_ID, handler).require_connection());
    let agent = agent
        .await
        .map_err(|error| AgentFailure::of(LOCAL, &error))?;
    Ok(Connected { pool, agent })
}

fn config(encoding: Option<Encoding>, timeout: Duration, link: LinkChoice) -> AgentPoolConfig {
    let config = AgentPoolConfig::default()
        .connect_timeout(timeout)
        .request_timeout(timeout)
        .shared_memory(match link {
            LinkChoice::Socket => SharedMemory::Off,
            LinkChoice::Auto | LinkChoice::SharedMemory => SharedMemory::Adaptive,
        });
    match encoding {
        Some(encoding) => config.encodings(vec![encoding]),
        None => config,
    }
}

/// Fails if shared memory is wanted and not used.
fn check_link(agent: &Agent, endpoint: &str, link: LinkChoice) -> Result<(), AgentFailure> {
    if link != LinkChoice::SharedMemory || LinkKind::of(agent, endpoint) == LinkKind::SharedMemory {
        return Ok(());
    }
    let refusal = agent.stats().shared_memory.refusal;
    let reason = refusal.map_or_else(
        || "the connection was closed".to_owned(),
        |it| it.to_string(),
    );
    let message = format_args!("no shared memory: {reason}");
    Err(AgentFailure::new(endpoint, message))
}

fn check_encoding(
    agent: &Agent,
    endpoint: &str,
    encoding: Option<Encoding>,
) -> Result<(), AgentFailure> {
    match (encoding, agent.encoding()) {
        // An agent that supports none of the offered encodings falls back to JSON.
        (Some(wanted), Some(chosen)) if wanted != chosen && !is_remote(endpoint) => {
            Err(AgentFailure::new(
                endpoint,
                format_args!("the agent chose the encoding {chosen} instead of {wanted}"),
            ))
        }
        _ => Ok(()),
    }
}

//! Connecting to the agent that a command uses.

use crate::exit::AgentFailure;
#[cfg(feature = "grpc")]
use crate::tls::ClientTls;
use crate::values::{is_remote, parse_endpoint, socket_path};
use std::time::Duration;
use tollgate::{
    Agent, AgentConfig, AgentPool, AgentPoolConfig, Encoding, ReverseConnectionConfig,
    ReverseConnectionListener,
};

/// Id of the one agent in a command's pool.
pub(crate) const AGENT_ID: &str = "agent";

/// The agent to connect to, and its TLS options.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Endpoint of the agent: /path, unix:/path or tcp://host:port; with gRPC grpc://host:port or
    /// grpcs://host:port; as HAProxy reaches it haproxy://host:port or haproxy+unix:///path
    #[arg(value_parser = parse_endpoint)]
    pub(crate) endpoint: String,
    #[cfg(feature = "grpc")]
    #[command(flatten)]
    pub(crate) tls: ClientTls,
}

impl Target {
    /// An agent on a Unix socket, without TLS.
    pub(crate) fn local(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            #[cfg(feature = "grpc")]
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
) -> anyhow::Result<Connected> {
    let endpoint = &target.endpoint;
    let config = config(encoding, timeout).connections_per_agent(connections);
    #[cfg(feature = "grpc")]
    let config = config.tls(target.tls.config(endpoint)?);
    let pool = AgentPool::with_config(config);
    let agent = pool
        .add(AgentConfig::new(AGENT_ID, endpoint).require_connection())
        .await
        .map_err(|error| AgentFailure::of(endpoint, &error))?;
    check_encoding(&agent, endpoint, encoding)?;
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
) -> Result<Connected, AgentFailure> {
    let pool = AgentPool::with_config(config(encoding, timeout));
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
    Ok(Connected { pool, agent })
}

fn config(encoding: Option<Encoding>, timeout: Duration) -> AgentPoolConfig {
    let config = AgentPoolConfig::default()
        .connect_timeout(timeout)
        .request_timeout(timeout);
    match encoding {
        Some(encoding) => config.encodings(vec![encoding]),
        None => config,
    }
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

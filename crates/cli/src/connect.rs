//! Reaching the agent that a command is about.

use crate::exit::AgentFailure;
#[cfg(feature = "grpc")]
use crate::tls::ClientTls;
use crate::values::{is_remote, parse_endpoint, socket_path};
use std::time::Duration;
use tollgate::{
    AgentPool, AgentPoolConfig, Encoding, ReverseConnectionConfig, ReverseConnectionListener,
};

/// The name that the only agent of a command's pool goes by.
pub(crate) const AGENT_ID: &str = "agent";

/// The agent that a command is about, and how to talk to it.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Where the agent listens: /path or unix:/path, or with gRPC grpc://host:port or grpcs://host:port
    #[arg(value_parser = parse_endpoint)]
    pub(crate) endpoint: String,
    #[cfg(feature = "grpc")]
    #[command(flatten)]
    pub(crate) tls: ClientTls,
}

impl Target {
    /// An agent on this machine.
    pub(crate) fn local(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            #[cfg(feature = "grpc")]
            tls: ClientTls::default(),
        }
    }
}

/// A pool with one agent in it, connected.
///
/// `timeout` bounds connecting and, later, each event. With `encoding` the agent has to speak just
/// that one; over gRPC there is one only.
pub(crate) async fn connect(
    target: &Target,
    encoding: Option<Encoding>,
    connections: usize,
    timeout: Duration,
) -> anyhow::Result<AgentPool> {
    let endpoint = &target.endpoint;
    let pool = AgentPool::with_config(AgentPoolConfig {
        connections_per_agent: connections,
        #[cfg(feature = "grpc")]
        tls: target.tls.config(endpoint)?,
        ..config(encoding, timeout)
    });
    pool.connect_agent(AGENT_ID, endpoint)
        .await
        .map_err(|error| AgentFailure::of(endpoint, &error))?;
    Ok(check_encoding(pool, endpoint, encoding)?)
}

/// A pool that listens at `endpoint` until one agent, which registers as [`AGENT_ID`], has connected so often.
///
/// `timeout` bounds waiting and, later, each event. With `encoding` the agent has to speak just that one.
pub(crate) async fn accept(
    endpoint: &str,
    encoding: Option<Encoding>,
    connections: usize,
    timeout: Duration,
) -> Result<AgentPool, AgentFailure> {
    let failed = |error| AgentFailure::of(endpoint, &error);
    let pool = AgentPool::with_config(config(encoding, timeout));
    let rules = ReverseConnectionConfig {
        allowed_agents: [AGENT_ID.to_owned()].into(),
        max_connections_per_agent: connections,
        ..ReverseConnectionConfig::default()
    };
    let listener = ReverseConnectionListener::bind_uds(socket_path(endpoint), rules)
        .await
        .map_err(failed)?;
    let accepted = tokio::time::timeout(timeout, async {
        for _ in 0..connections {
            listener.accept_one(&pool).await?;
        }
        Ok(())
    });
    match accepted.await {
        Ok(accepted) => accepted.map_err(failed)?,
        Err(_) => {
            let missing = "timed out before the agent had connected";
            return Err(AgentFailure::new(endpoint, missing));
        }
    }
    check_encoding(pool, endpoint, encoding)
}

fn config(encoding: Option<Encoding>, timeout: Duration) -> AgentPoolConfig {
    let mut config = AgentPoolConfig {
        connect_timeout: timeout,
        request_timeout: timeout,
        ..AgentPoolConfig::default()
    };
    if let Some(encoding) = encoding {
        config.encodings = vec![encoding];
    }
    config
}

fn check_encoding(
    pool: AgentPool,
    endpoint: &str,
    encoding: Option<Encoding>,
) -> Result<AgentPool, AgentFailure> {
    match (encoding, pool.agent_encoding(AGENT_ID)) {
        // An agent that knows nothing of what it was offered falls back on JSON.
        (Some(asked), Some(got)) if asked != got && !is_remote(endpoint) => Err(AgentFailure::new(
            endpoint,
            format_args!("the agent speaks {got}, not {asked}"),
        )),
        _ => Ok(pool),
    }
}

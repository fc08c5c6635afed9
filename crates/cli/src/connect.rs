//! Reaching the agent that a command is about.

use crate::exit::AgentFailure;
use crate::values::{is_remote, socket_path};
use std::time::Duration;
use tollgate::{
    AgentPool, AgentPoolConfig, Encoding, ReverseConnectionConfig, ReverseConnectionListener,
};

/// The name that the only agent of a command's pool goes by.
pub(crate) const AGENT_ID: &str = "agent";

/// A pool with one agent in it, connected.
///
/// `timeout` bounds connecting and, later, each event. With `encoding` the agent has to speak just
/// that one; over gRPC there is one only.
pub(crate) async fn connect(
    endpoint: &str,
    encoding: Option<Encoding>,
    connections: usize,
    timeout: Duration,
) -> Result<AgentPool, AgentFailure> {
    let pool = AgentPool::with_config(AgentPoolConfig {
        connections_per_agent: connections,
        ..config(encoding, timeout)
    });
    pool.connect_agent(AGENT_ID, endpoint)
        .await
        .map_err(|error| AgentFailure::of(endpoint, &error))?;
    check_encoding(pool, endpoint, encoding)
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

//! Reaching the agent that a command is about.

use crate::exit::AgentFailure;
use std::time::Duration;
use tollgate::{AgentPool, AgentPoolConfig, Encoding};

/// The name that the only agent of a command's pool goes by.
pub(crate) const AGENT_ID: &str = "agent";

/// A pool with one agent in it, connected.
///
/// `timeout` bounds connecting and, later, each event. With `encoding` the agent has to speak just
/// that one.
pub(crate) async fn connect(
    endpoint: &str,
    encoding: Option<Encoding>,
    connections: usize,
    timeout: Duration,
) -> Result<AgentPool, AgentFailure> {
    let mut config = AgentPoolConfig {
        connections_per_agent: connections,
        connect_timeout: timeout,
        request_timeout: timeout,
        ..AgentPoolConfig::default()
    };
    if let Some(encoding) = encoding {
        config.encodings = vec![encoding];
    }
    let pool = AgentPool::with_config(config);
    pool.connect_agent(AGENT_ID, endpoint)
        .await
        .map_err(|error| AgentFailure::of(endpoint, &error))?;
    match (encoding, pool.agent_encoding(AGENT_ID)) {
        // An agent that knows nothing of what it was offered falls back on JSON.
        (Some(asked), Some(got)) if asked != got => Err(AgentFailure::new(
            endpoint,
            format_args!("the agent speaks {got}, not {asked}"),
        )),
        _ => Ok(pool),
    }
}

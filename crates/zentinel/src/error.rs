//! The error of this crate.

use std::sync::Arc;
use tollgate::error::{CallError, InvalidEndpoint};

/// Error of a pool or a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentProtocolError {
    /// A call, or another operation on an agent, failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No agent has this name.
    #[error("the pool has no agent '{agent_id}': add it before sending events")]
    UnknownAgent {
        /// Id that was asked for.
        agent_id: Arc<str>,
    },
    /// The endpoint is malformed, or of a kind that this build does not support.
    #[error(transparent)]
    InvalidEndpoint(#[from] InvalidEndpoint),
    /// The pool holds as many sticky sessions as it may. See
    /// [`max_correlation_affinities`](crate::v2::AgentPoolConfig::max_correlation_affinities).
    #[error("agent '{agent_id}': the pool's limit of {limit} sticky sessions is reached")]
    TooManySessions {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Number of sessions that may exist in the pool.
        limit: usize,
    },
}

impl AgentProtocolError {
    /// Returns a stable name for this kind of error, for logs and labels.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Call(error) => error.kind(),
            Self::UnknownAgent { .. } => "unknown_agent",
            Self::InvalidEndpoint(_) => "invalid_endpoint",
            Self::TooManySessions { .. } => "too_many_sessions",
        }
    }
}

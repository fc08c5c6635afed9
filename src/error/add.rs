//! Errors of adding and removing agents.

use super::{ConnectError, InvalidEndpoint};
use std::sync::Arc;

/// Reason why an agent was not added to a pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// The name is empty, longer than 128 bytes, or contains something other than visible ASCII.
    #[error("invalid agent id {agent_id:?}: expected 1 to 128 bytes of visible ASCII")]
    InvalidId {
        /// The name as given.
        agent_id: String,
    },
    /// A setting of the agent is not usable.
    #[error("invalid configuration of agent '{agent_id}': {reason}")]
    InvalidConfig {
        /// Id of the agent.
        agent_id: String,
        /// The fault in the configuration.
        reason: &'static str,
    },
    /// The endpoint is malformed, or of a kind that this build does not support.
    #[error(transparent)]
    InvalidEndpoint(#[from] InvalidEndpoint),
    /// The pool has an agent with this name. [`AgentPool::replace`](crate::AgentPool::replace)
    /// takes its place.
    #[error("the pool already has an agent '{agent_id}': replace or remove it, or use another id")]
    IdTaken {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// The pool is shutting down.
    #[error("agent '{agent_id}' was not added: the pool is shutting down")]
    ShuttingDown {
        /// Id of the agent.
        agent_id: Arc<str>,
    },
    /// A connection could not be opened, and the agent
    /// [requires one](crate::AgentConfig::require_connection).
    #[error("cannot connect to agent '{agent_id}' at {endpoint}: {source}")]
    Connect {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// Endpoint that was dialed.
        endpoint: String,
        /// Reason of the failure.
        source: ConnectError,
    },
}

impl AddError {
    /// Returns a stable name for this kind of error, for logs and labels.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::InvalidId { .. } => "invalid_id",
            Self::InvalidConfig { .. } => "invalid_configuration",
            Self::InvalidEndpoint(_) => "invalid_endpoint",
            Self::IdTaken { .. } => "id_taken",
            Self::ShuttingDown { .. } => "shutting_down",
            Self::Connect { .. } => "connection_failed",
        }
    }

    /// Returns whether adding the same agent again may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::ShuttingDown { .. })
    }
}

/// Error of a name that no agent of the pool has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pool has no agent '{agent_id}': add it first")]
pub struct UnknownAgent {
    agent_id: String,
}

impl UnknownAgent {
    pub(crate) fn new(agent_id: &str) -> Self {
        Self {
            agent_id: agent_id.to_owned(),
        }
    }

    /// Returns the name.
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }
}

//! Errors of calls.

use crate::about_agents::{AboutAgent, about_agents};
use crate::protocol::EventType;
use crate::wire::DecodeError;
use std::time::Duration;

about_agents! {
    /// Reason why a call, or another operation on an agent, failed.
    ///
    /// [`CallError::is_retryable`] says whether repeating the call may help, and
    /// [`CallError::kind`] is a stable name for logs and labels.
    #[derive(Debug, thiserror::Error)]
    #[non_exhaustive]
    CallError of agent_id:

    /// The connection ended while the call was pending on it. The agent may or may not have seen
    /// the event.
    #[error("agent '{agent_id}': the connection closed before the answer arrived")]
    ConnectionClosed {},
    /// The event exceeds the largest frame or message, or its body exceeds the limit that the agent
    /// announced. Send the body in smaller chunks.
    #[error("agent '{agent_id}': message of {size} bytes exceeds the limit of {max} bytes")]
    MessageTooLarge {
        /// Size of the message in bytes.
        size: usize,
        /// Limit that it exceeds, in bytes.
        max: usize,
    },
    /// The agent's answer could not be decoded.
    #[error("agent '{agent_id}': {source}")]
    InvalidMessage {
        /// The fault in the answer.
        source: DecodeError,
    },
    /// The agent did not answer before the deadline.
    #[error("agent '{agent_id}': no answer within {after:?}")]
    Timeout {
        /// Time that the call waited.
        after: Duration,
    },
    /// The call was cancelled through the pool, as by
    /// [`Agent::cancel`](crate::Agent::cancel).
    #[error("agent '{agent_id}': the call was cancelled")]
    Cancelled {},
    /// The handler of an agent in this process
    /// ([`AgentConfig::local`](crate::AgentConfig::local)) panicked. Other calls go on.
    #[error("agent '{agent_id}': the handler panicked")]
    Panicked {},
    /// The agent was removed from the pool.
    #[error("agent '{agent_id}' was removed from the pool")]
    Removed {},
    /// The agent was replaced. Take a handle of its successor from the pool.
    #[error("agent '{agent_id}' was replaced: take a new handle from the pool")]
    Replaced {},
    /// The last handle of the agent's pool was dropped, which closes the pool.
    #[error("agent '{agent_id}': its pool was dropped")]
    PoolDropped {},
    /// The agent has no connection that takes new exchanges: none is open, all are failing, or the
    /// agent reports that it is draining or unhealthy. Also returned while the pool shuts down.
    #[error("agent '{agent_id}' is unavailable: none of its connections takes new exchanges")]
    Unavailable {},
    /// Too many calls in a row failed, so the circuit breaker rejects calls for a while. See
    /// [`circuit_breaker_reset_timeout`](crate::AgentPoolConfig::circuit_breaker_reset_timeout).
    #[error("agent '{agent_id}': the circuit breaker is open after repeated failures: retry later")]
    CircuitOpen {},
    /// The wait queue for slots is full. See
    /// [`max_queued_calls`](crate::AgentPoolConfig::max_queued_calls).
    #[error("agent '{agent_id}': the wait queue is full ({limit} calls)")]
    QueueFull {
        /// Number of calls that may wait.
        limit: usize,
    },
    /// No slot became free in time.
    #[error("agent '{agent_id}': no free slot within {after:?}")]
    QueueTimeout {
        /// Time that the call waited.
        after: Duration,
    },
    /// The agent paused this exchange or all of its connections by flow control.
    #[error("agent '{agent_id}' has paused the proxy by flow control: retry later")]
    FlowControlPaused {},
    /// An earlier event with this correlation id is still unanswered on every connection, so the
    /// answers to the two could not be told apart.
    #[error("agent '{agent_id}': an earlier event of exchange '{correlation_id}' is unanswered")]
    CorrelationBusy {
        /// Correlation id of the exchange.
        correlation_id: String,
    },
    /// The agent does not declare that it answers guardrail inspections. They are the only events
    /// that need this: an agent that ignores them, or allows whatever it does not know, would let
    /// everything pass.
    #[error("agent '{agent_id}' does not declare that it answers {} events", event.as_str())]
    Undeclared {
        /// Kind of the event.
        event: EventType,
    },
    /// The agent rejected the settings that the proxy sent to it.
    #[error("agent '{agent_id}' rejects its settings: {reason}")]
    SettingsRefused {
        /// Reason that the agent gave.
        reason: String,
    },
}

impl CallError {
    /// Returns the id of the agent.
    pub fn agent_id(&self) -> &str {
        self.agent()
    }

    /// Returns a stable name for this kind of error, for logs and labels, such as `timed_out`.
    ///
    /// Where [`CallCounts`](crate::metrics::CallCounts) has a count for such calls, this is the
    /// name of the field.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ConnectionClosed { .. } => "connection_closed",
            Self::MessageTooLarge { .. } => "too_large",
            Self::InvalidMessage { .. } => "undecodable",
            Self::Timeout { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
            Self::Panicked { .. } => "panicked",
            Self::Removed { .. } => "removed",
            Self::Replaced { .. } => "replaced",
            Self::PoolDropped { .. } => "pool_dropped",
            Self::Unavailable { .. } => "unavailable",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::QueueFull { .. } => "queue_full",
            Self::QueueTimeout { .. } => "queue_timed_out",
            Self::FlowControlPaused { .. } => "paused",
            Self::CorrelationBusy { .. } => "busy",
            Self::SettingsRefused { .. } => "settings_refused",
            Self::Undeclared { .. } => "undeclared",
        }
    }

    /// Returns whether an identical call may succeed later or on another connection.
    pub fn is_retryable(&self) -> bool {
        self.means_unavailable()
            || matches!(
                self,
                Self::FlowControlPaused { .. } | Self::CorrelationBusy { .. }
            )
    }

    /// Returns whether the agent could not be reached or did not answer in time. These are the
    /// errors that [`FailureMode::Open`](crate::FailureMode::Open) turns into an `allow`.
    pub fn means_unavailable(&self) -> bool {
        matches!(
            self,
            Self::ConnectionClosed { .. }
                | Self::Timeout { .. }
                | Self::Unavailable { .. }
                | Self::CircuitOpen { .. }
                | Self::QueueFull { .. }
                | Self::QueueTimeout { .. }
        )
    }
}

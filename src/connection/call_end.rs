//! The ends of calls that have no answer, each with its error and its counter.

use crate::error::CallError;
use crate::metrics::CallCounter;
use crate::protocol::EventType;
use crate::wire::{DecodeError, FrameError};
use std::sync::Arc;
use std::time::Duration;

/// Reason that a call has no answer.
///
/// An attempt to open a call fails with the same type. Some of its reasons may pass, and the call
/// ends with them only if it does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallEnd {
    /// Every slot is taken.
    Full,
    /// The agent has paused the connection.
    Paused,
    /// The agent has paused this exchange.
    ExchangePaused,
    /// The answer to an earlier event of the exchange is missing and could not be told apart from
    /// the answer to this one.
    Busy,
    /// The connection is closed or, for a call that is not bound to it, retired.
    ///
    /// This ends a call that is pending on the connection or bound to it. A call that can use any
    /// connection chooses again, from the pool's current snapshot.
    ConnectionClosed,
    /// The pool no longer has the agent.
    AgentGone,
    /// No connection takes new exchanges.
    Unavailable,
    /// The circuit breaker is open.
    CircuitOpen,
    /// Too many calls wait for a slot.
    QueueFull,
    /// The call waited too long for a slot.
    QueueTimedOut {
        /// Time that a call may wait for a slot.
        after: Duration,
    },
    /// The deadline of the call passed.
    TimedOut,
    /// The agent has not subscribed to events of this kind.
    Unsubscribed,
    /// The agent has not declared that it answers events of this kind.
    Undeclared(EventType),
    /// The event exceeds the largest frame or the agent's limit.
    TooLarge(FrameError),
    /// The answer could not be decoded.
    Undecodable(DecodeError),
    /// The pool cancelled the call.
    Cancelled,
    /// The handler of an agent in this process panicked.
    Panicked,
}

/// Properties of a call that its error states.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallContext<'a> {
    pub(crate) agent_id: &'a Arc<str>,
    pub(crate) timeout: Duration,
    /// Correlation id of a call that was not opened.
    pub(crate) correlation_id: &'a str,
    /// Number of calls that may wait for a slot, for a call that was not opened.
    pub(crate) max_queued: usize,
}

impl CallEnd {
    /// Returns the counter of calls that end in this way.
    pub(crate) fn counter(self) -> CallCounter {
        match self {
            Self::Paused | Self::ExchangePaused => CallCounter::Paused,
            Self::Busy => CallCounter::Busy,
            Self::ConnectionClosed => CallCounter::ConnectionClosed,
            Self::AgentGone | Self::Unavailable | Self::Undeclared(_) => CallCounter::Unavailable,
            Self::CircuitOpen => CallCounter::CircuitOpen,
            Self::Full | Self::QueueFull => CallCounter::QueueFull,
            Self::QueueTimedOut { .. } => CallCounter::QueueTimedOut,
            Self::TimedOut => CallCounter::TimedOut,
            Self::Unsubscribed => CallCounter::Skipped,
            Self::TooLarge(_) => CallCounter::TooLarge,
            Self::Undecodable(_) => CallCounter::Undecodable,
            Self::Cancelled => CallCounter::Cancelled,
            Self::Panicked => CallCounter::Panicked,
        }
    }

    /// Returns the error for the caller.
    pub(crate) fn error(self, call: CallContext<'_>) -> CallError {
        let agent_id = Arc::clone(call.agent_id);
        match self {
            Self::Paused | Self::ExchangePaused => CallError::FlowControlPaused { agent_id },
            Self::Busy => CallError::CorrelationBusy {
                agent_id,
                correlation_id: call.correlation_id.to_owned(),
            },
            Self::ConnectionClosed => CallError::ConnectionClosed { agent_id },
            Self::AgentGone | Self::Unavailable | Self::Unsubscribed => {
                CallError::Unavailable { agent_id }
            }
            Self::Undeclared(event) => CallError::Undeclared { agent_id, event },
            Self::CircuitOpen => CallError::CircuitOpen { agent_id },
            Self::Full | Self::QueueFull => CallError::QueueFull {
                agent_id,
                limit: call.max_queued,
            },
            Self::QueueTimedOut { after } => CallError::QueueTimeout { agent_id, after },
            Self::TimedOut => CallError::Timeout {
                agent_id,
                after: call.timeout,
            },
            Self::TooLarge(error) => {
                let (size, max) = match error {
                    FrameError::TooLarge { length, limit } => (length, limit),
                    FrameError::Empty => (0, 0),
                    #[cfg(feature = "grpc")]
                    FrameError::Compressed => (0, 0),
                };
                CallError::MessageTooLarge {
                    agent_id,
                    size,
                    max,
                }
            }
            Self::Undecodable(source) => CallError::InvalidMessage { agent_id, source },
            Self::Cancelled => CallError::Cancelled { agent_id },
            Self::Panicked => CallError::Panicked { agent_id },
        }
    }
}

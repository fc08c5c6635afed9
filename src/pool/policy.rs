//! Policies for events that cannot be sent or answered.

use crate::protocol::EventType;
use std::time::Duration;

/// Result of a call while the agent has paused every connection that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FlowControlMode {
    /// Fails with [`FlowControlPaused`](crate::CallError::FlowControlPaused) at once.
    #[default]
    FailClosed,
    /// Allows the event without asking the agent. Only for agents whose decision is optional.
    FailOpen,
    /// Waits for the end of the pause for up to
    /// [`flow_control_wait_timeout`](super::AgentPoolConfig::flow_control_wait_timeout), and then
    /// fails as [`FlowControlMode::FailClosed`] does. Waiting calls continue in the order in which
    /// they were made.
    WaitAndRetry,
}

/// Result of a call whose agent is unavailable.
///
/// An agent is unavailable to a call if it is not connected, if its circuit breaker is open, if no
/// slot becomes free, if the connection closes during the call, or if the call times out.
///
/// The mode does not apply to answers of the agent, answers that cannot be decoded, messages that
/// are too large, or pauses (see [`FlowControlMode`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FailureMode {
    /// Fails with the error.
    #[default]
    Closed,
    /// Allows the event, and counts that in
    /// [`AgentPoolStats::failed_open`](super::AgentPoolStats::failed_open).
    Open,
}

/// Timeouts of calls, by the kind of their events.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{AgentPoolConfig, EventTimeouts, EventType};
///
/// let config = AgentPoolConfig::default()
///     .request_timeout(Duration::from_secs(1))
///     .event_timeouts(
///         EventTimeouts::default().with(EventType::RequestHeaders, Duration::from_millis(50)),
///     );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventTimeouts([Option<Duration>; EventType::ALL.len()]);

impl EventTimeouts {
    /// Sets the timeout for one kind of event.
    #[must_use]
    pub fn with(mut self, kind: EventType, timeout: Duration) -> Self {
        self.0[kind as usize] = Some(timeout);
        self
    }

    /// Returns the timeout that was set for a kind of event.
    pub fn get(&self, kind: EventType) -> Option<Duration> {
        self.0[kind as usize]
    }
}

use crate::protocol::EventType;
use std::time::Duration;

/// What a call gets while the agent asks for a pause and no other connection may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FlowControlMode {
    /// [`FlowControlPaused`](crate::AgentProtocolError::FlowControlPaused), at once.
    #[default]
    FailClosed,
    /// An `allow`, without asking the agent. For agents whose word may be missed.
    FailOpen,
    /// The agent's answer, if the pause ends within
    /// [`flow_control_wait_timeout`](super::AgentPoolConfig::flow_control_wait_timeout); otherwise as
    /// [`FlowControlMode::FailClosed`]. Waiting calls go on in the order in which they were made.
    WaitAndRetry,
}

/// What a call gets when its agent is unavailable: not connected, kept off by the circuit breaker, out of
/// room, lost in the middle of the call, or silent until the deadline.
///
/// What an agent did answer is never overruled, nor is an answer that does not decode, a message that is too
/// large, or a pause (see [`FlowControlMode`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FailureMode {
    /// The error.
    #[default]
    Closed,
    /// An `allow`, which is counted in [`AgentPoolStats::failed_open`](super::AgentPoolStats::failed_open).
    Open,
}

/// How long a call may take, by the kind of its event.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{AgentPoolConfig, EventTimeouts, EventType};
///
/// let config = AgentPoolConfig {
///     request_timeout: Duration::from_secs(1),
///     event_timeouts: EventTimeouts::default()
///         .with(EventType::RequestHeaders, Duration::from_millis(50)),
///     ..AgentPoolConfig::default()
/// };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventTimeouts([Option<Duration>; EventType::ALL.len()]);

impl EventTimeouts {
    /// Sets the time for one kind of event.
    #[must_use]
    pub fn with(mut self, kind: EventType, timeout: Duration) -> Self {
        self.0[kind as usize] = Some(timeout);
        self
    }

    /// The time for a kind of event, where it is not the one for all.
    pub fn get(&self, kind: EventType) -> Option<Duration> {
        self.0[kind as usize]
    }
}

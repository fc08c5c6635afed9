//! Cancel messages in their serialized form.

use serde::{Deserialize, Serialize};
use tollgate::events::now_ms;

/// Tells an agent to abandon a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Id of the request.
    pub correlation_id: String,
    /// Reason of the cancellation.
    pub reason: CancelReason,
    /// Time of the message in milliseconds since 1970.
    pub timestamp_ms: u64,
}

impl CancelRequest {
    /// Creates a message that is sent now.
    pub fn new(correlation_id: impl Into<String>, reason: CancelReason) -> Self {
        Self {
            correlation_id: correlation_id.into(),
            reason,
            timestamp_ms: now_ms(),
        }
    }

    /// Creates the message for a request whose deadline passed.
    pub fn timeout(correlation_id: impl Into<String>) -> Self {
        Self::new(correlation_id, CancelReason::Timeout)
    }
}

/// Reason of a cancellation, with what is known about it.
#[allow(
    unnameable_types,
    reason = "`v2::CancelReason` is that of calls, as in the published crate"
)]
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum CancelReason {
    /// The client closed its connection.
    ClientDisconnect,
    /// A deadline passed.
    Timeout,
    /// Another agent blocked the request.
    BlockedByAgent {
        /// Name of that agent.
        agent_id: String,
    },
    /// The upstream server failed.
    UpstreamError,
    /// The proxy is shutting down.
    ProxyShutdown,
    /// An operator or the application cancelled it.
    Manual {
        /// The reason in words.
        reason: String,
    },
}

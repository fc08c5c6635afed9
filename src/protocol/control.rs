//! Control messages: cancellation, flow control, pings and config updates.

use super::now_ms;
use super::wire_forms::wire_forms;
use serde::{Deserialize, Serialize};

/// Message that tells an agent that the proxy no longer waits for answers to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// Correlation id of the exchange.
    pub correlation_id: String,
    /// Reason of the cancellation.
    pub reason: CancelReason,
    /// Time of the message, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

impl CancelRequest {
    /// Creates a cancel message with the current time.
    pub fn new(correlation_id: impl Into<String>, reason: CancelReason) -> Self {
        Self {
            correlation_id: correlation_id.into(),
            reason,
            timestamp_ms: now_ms(),
        }
    }
}

/// Reason why an exchange is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CancelReason {
    /// The client closed its connection.
    #[default]
    ClientDisconnect,
    /// A deadline passed.
    Timeout,
    /// Another agent blocked the request.
    BlockedByAgent,
    /// The upstream server failed.
    UpstreamError,
    /// The proxy is shutting down.
    ProxyShutdown,
    /// An operator or the application cancelled it.
    Manual,
}

wire_forms! {
    CancelReason: number -> i64, from_number(number: i64) {
        ClientDisconnect = 0,
        Timeout = 1,
        BlockedByAgent = 2,
        UpstreamError = 3,
        ProxyShutdown = 4,
        Manual = 5,
    }
}

/// Message in which an agent asks the proxy to pause, to resume, or reports its capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowControl {
    /// Correlation id of the exchange that it concerns; `None` for all exchanges.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// Requested action.
    pub action: FlowControlAction,
    /// Time of the message, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl FlowControl {
    /// Creates a message for all exchanges with the current time.
    pub fn for_all(action: FlowControlAction) -> Self {
        Self {
            correlation_id: None,
            action,
            timestamp_ms: now_ms(),
        }
    }
}

/// Action that an agent requests by flow control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FlowControlAction {
    /// Send no new events.
    Pause,
    /// Continue to send events.
    Resume,
    /// Report of the agent's capacity.
    UpdateCapacity {
        /// Number of further events that the agent can take.
        #[serde(default)]
        buffer_available: u64,
    },
}

/// Message that asks the peer to prove that it is alive. A pong has the same fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Number that matches a pong to its ping.
    pub sequence: u64,
    /// Time of the message, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

/// Message in which an agent requests a config update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigUpdateRequest {
    /// Requested change.
    pub update_type: ConfigUpdateType,
    /// Id of this request.
    pub request_id: String,
    /// Time of the message, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

impl ConfigUpdateRequest {
    /// Creates a request with the current time. Proxies treat a repeated id as the same request.
    pub fn new(request_id: impl Into<String>, update_type: ConfigUpdateType) -> Self {
        Self {
            update_type,
            request_id: request_id.into(),
            timestamp_ms: now_ms(),
        }
    }
}

/// Config update, which an agent requests or a proxy pushes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ConfigUpdateType {
    /// Reload the agent's settings.
    RequestReload,
    /// Change a rule set.
    RuleUpdate {
        /// Name of the rule set.
        rule_set: String,
        /// Rules to add or replace.
        rules: Vec<RuleDefinition>,
        /// Ids of the rules to remove.
        remove_rules: Vec<String>,
    },
    /// Change a list.
    ListUpdate {
        /// Id of the list.
        list_id: String,
        /// Entries to add.
        add: Vec<String>,
        /// Entries to remove.
        remove: Vec<String>,
    },
    /// The agent must be restarted.
    RestartRequired {
        /// Reason of the restart.
        reason: String,
        /// Time for which the agent can continue to work, in milliseconds.
        grace_period_ms: u64,
    },
    /// The agent's settings are invalid.
    ConfigError {
        /// Description of the error.
        error: String,
        /// Field of the settings that is invalid.
        #[serde(default)]
        field: Option<String>,
    },
}

/// A rule of a [`ConfigUpdateType::RuleUpdate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleDefinition {
    /// Id of the rule.
    pub id: String,
    /// Priority; rules of higher priority are applied first.
    pub priority: i32,
    /// The rule itself, in the agent's own format.
    pub definition: serde_json::Value,
    /// Set if the rule is in force.
    pub enabled: bool,
    /// Human-readable description.
    #[serde(default)]
    pub description: Option<String>,
    /// Arbitrary labels.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A proxy's answer to a [`ConfigUpdateRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigUpdateResponse {
    /// Id of the request.
    pub request_id: String,
    /// Set if the proxy makes the change.
    pub accepted: bool,
    /// Reason why the proxy does not make the change.
    #[serde(default)]
    pub error: Option<String>,
    /// Time of the message, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl ConfigUpdateResponse {
    /// Creates an answer that accepts the request, with the current time.
    pub fn success(request_id: impl Into<String>) -> Self {
        Self {
            request_id: request_id.into(),
            accepted: true,
            error: None,
            timestamp_ms: now_ms(),
        }
    }

    /// Creates an answer that rejects the request, with the current time.
    pub fn failure(request_id: impl Into<String>, error: impl Into<String>) -> Self {
        Self {
            accepted: false,
            error: Some(error.into()),
            ..Self::success(request_id)
        }
    }
}

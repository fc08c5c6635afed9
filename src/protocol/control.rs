use super::now_ms;
use serde::{Deserialize, Serialize};

/// Tells an agent that nobody waits for an answer any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// Which exchange.
    pub correlation_id: String,
    /// Why.
    pub reason: CancelReason,
    /// When, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

impl CancelRequest {
    /// A cancel message, made now.
    pub fn new(correlation_id: impl Into<String>, reason: CancelReason) -> Self {
        Self {
            correlation_id: correlation_id.into(),
            reason,
            timestamp_ms: now_ms(),
        }
    }
}

/// Why an exchange is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CancelReason {
    /// The client went away.
    #[default]
    ClientDisconnect,
    /// The deadline passed.
    Timeout,
    /// Another agent blocked the request.
    BlockedByAgent,
    /// The upstream failed.
    UpstreamError,
    /// The proxy is going down.
    ProxyShutdown,
    /// Somebody asked for it.
    Manual,
}

impl CancelReason {
    /// The integer that stands for this reason on the wire.
    pub const fn number(self) -> i64 {
        match self {
            Self::ClientDisconnect => 0,
            Self::Timeout => 1,
            Self::BlockedByAgent => 2,
            Self::UpstreamError => 3,
            Self::ProxyShutdown => 4,
            Self::Manual => 5,
        }
    }

    /// The reason behind an integer on the wire.
    pub const fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            0 => Self::ClientDisconnect,
            1 => Self::Timeout,
            2 => Self::BlockedByAgent,
            3 => Self::UpstreamError,
            4 => Self::ProxyShutdown,
            5 => Self::Manual,
            _ => return None,
        })
    }
}

/// An agent asks the proxy to send less, or says that it may send more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowControl {
    /// The exchange it is about; `None` means all.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// What is asked.
    pub action: FlowControlAction,
    /// When, milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl FlowControl {
    /// A message about all exchanges, made now.
    pub fn for_all(action: FlowControlAction) -> Self {
        Self {
            correlation_id: None,
            action,
            timestamp_ms: now_ms(),
        }
    }
}

/// What an agent asks of the proxy's flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FlowControlAction {
    /// Send nothing new.
    Pause,
    /// Go on.
    Resume,
    /// The agent has room for this many more events.
    UpdateCapacity {
        /// How many.
        #[serde(default)]
        buffer_available: u64,
    },
}

/// Asks the other side for a sign of life; a pong has the same fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Matches a pong to its ping.
    pub sequence: u64,
    /// When, milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

/// An agent asks for a change of configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigUpdateRequest {
    /// What is asked.
    pub update_type: ConfigUpdateType,
    /// Names this request.
    pub request_id: String,
    /// When, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

impl ConfigUpdateRequest {
    /// A request, made now. Proxies take one that comes again under the same id for the same.
    pub fn new(request_id: impl Into<String>, update_type: ConfigUpdateType) -> Self {
        Self {
            update_type,
            request_id: request_id.into(),
            timestamp_ms: now_ms(),
        }
    }
}

/// What kind of change of configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ConfigUpdateType {
    /// Read the configuration again.
    RequestReload,
    /// Change a set of rules.
    RuleUpdate {
        /// Which set.
        rule_set: String,
        /// Rules to add or replace.
        rules: Vec<RuleDefinition>,
        /// Rules to remove, by id.
        remove_rules: Vec<String>,
    },
    /// Change a list.
    ListUpdate {
        /// Which list.
        list_id: String,
        /// Entries to add.
        add: Vec<String>,
        /// Entries to remove.
        remove: Vec<String>,
    },
    /// The agent must be started anew.
    RestartRequired {
        /// Why.
        reason: String,
        /// How long it can go on, in milliseconds.
        grace_period_ms: u64,
    },
    /// The configuration is wrong.
    ConfigError {
        /// What is wrong.
        error: String,
        /// Where.
        #[serde(default)]
        field: Option<String>,
    },
}

/// A rule of a [`ConfigUpdateType::RuleUpdate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleDefinition {
    /// Names the rule.
    pub id: String,
    /// Higher comes first.
    pub priority: i32,
    /// The rule, in the agent's own form.
    pub definition: serde_json::Value,
    /// Whether it is in force.
    pub enabled: bool,
    /// Explanation for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Free labels.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What a proxy says to a [`ConfigUpdateRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigUpdateResponse {
    /// The request.
    pub request_id: String,
    /// Whether the proxy does what is asked.
    pub accepted: bool,
    /// Why not.
    #[serde(default)]
    pub error: Option<String>,
    /// When, milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl ConfigUpdateResponse {
    /// The proxy does it.
    pub fn success(request_id: impl Into<String>) -> Self {
        Self {
            request_id: request_id.into(),
            accepted: true,
            error: None,
            timestamp_ms: now_ms(),
        }
    }

    /// The proxy does not do it.
    pub fn failure(request_id: impl Into<String>, error: impl Into<String>) -> Self {
        Self {
            accepted: false,
            error: Some(error.into()),
            ..Self::success(request_id)
        }
    }
}

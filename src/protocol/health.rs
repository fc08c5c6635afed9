//! Health reports of agents.

use super::now_ms;
use serde::{Deserialize, Serialize};

/// Report of an agent on its own health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// Id that the agent gives itself.
    #[serde(default)]
    pub agent_id: String,
    /// State of the agent.
    pub state: HealthState,
    /// Human-readable explanation.
    #[serde(default)]
    pub message: Option<String>,
    /// Current load of the agent.
    #[serde(default)]
    pub load: Option<LoadMetrics>,
    /// Resources that the agent uses.
    #[serde(default)]
    pub resources: Option<ResourceMetrics>,
    /// Time until which the report is valid, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub valid_until_ms: Option<u64>,
    /// Time of the report, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl HealthStatus {
    /// Creates a report of `state` with the current time.
    pub fn new(agent_id: impl Into<String>, state: HealthState) -> Self {
        Self {
            agent_id: agent_id.into(),
            state,
            message: None,
            load: None,
            resources: None,
            valid_until_ms: None,
            timestamp_ms: now_ms(),
        }
    }

    /// Creates a report of an agent that works normally.
    pub fn healthy(agent_id: impl Into<String>) -> Self {
        Self::new(agent_id, HealthState::Healthy)
    }

    /// Creates a report of an agent that works with some features off and needs `multiplier` times
    /// as long for its answers.
    pub fn degraded(agent_id: impl Into<String>, disabled: Vec<String>, multiplier: f32) -> Self {
        Self::new(
            agent_id,
            HealthState::Degraded {
                disabled_features: disabled,
                timeout_multiplier: multiplier,
            },
        )
    }

    /// Creates a report of an agent that does not work.
    pub fn unhealthy(
        agent_id: impl Into<String>,
        reason: impl Into<String>,
        recoverable: bool,
    ) -> Self {
        Self::new(
            agent_id,
            HealthState::Unhealthy {
                reason: reason.into(),
                recoverable,
            },
        )
    }

    /// Returns whether the agent reports [`HealthState::Healthy`].
    pub fn is_healthy(&self) -> bool {
        matches!(self.state, HealthState::Healthy)
    }
}

/// State of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum HealthState {
    /// The agent works normally.
    Healthy,
    /// The agent works, but slower or without all features.
    Degraded {
        /// Names of the features that are off.
        #[serde(default)]
        disabled_features: Vec<String>,
        /// Factor by which answers take longer; 1.0 by default.
        #[serde(default = "neutral_multiplier")]
        timeout_multiplier: f32,
    },
    /// The agent finishes the exchanges under way and wants no new ones.
    Draining {
        /// Time until it has finished, in milliseconds from now.
        #[serde(default)]
        eta_ms: Option<u64>,
    },
    /// The agent does not work.
    Unhealthy {
        /// Reason.
        #[serde(default)]
        reason: String,
        /// Set if the agent expects to recover.
        #[serde(default)]
        recoverable: bool,
    },
}

fn neutral_multiplier() -> f32 {
    1.0
}

impl HealthState {
    /// Returns the state with this number on the wire: 1 healthy, 2 degraded, 3 draining, 4
    /// unhealthy. `None` for any other number.
    pub fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Healthy,
            2 => Self::Degraded {
                disabled_features: Vec::new(),
                timeout_multiplier: neutral_multiplier(),
            },
            3 => Self::Draining { eta_ms: None },
            4 => Self::Unhealthy {
                reason: String::new(),
                recoverable: true,
            },
            _ => return None,
        })
    }

    /// Returns the number of this state on the wire.
    pub const fn number(&self) -> i64 {
        match self {
            Self::Healthy => 1,
            Self::Degraded { .. } => 2,
            Self::Draining { .. } => 3,
            Self::Unhealthy { .. } => 4,
        }
    }
}

/// Load of an agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadMetrics {
    /// Number of events that the agent works on.
    pub in_flight: u32,
    /// Number of events that wait in the agent.
    pub queue_depth: u32,
    /// Mean processing time of an event, in milliseconds.
    pub avg_latency_ms: f32,
    /// Median of the processing time, in milliseconds.
    pub p50_latency_ms: f32,
    /// 95th percentile of the processing time, in milliseconds.
    pub p95_latency_ms: f32,
    /// 99th percentile of the processing time, in milliseconds.
    pub p99_latency_ms: f32,
    /// Number of events answered so far.
    pub requests_processed: u64,
    /// Number of events rejected so far.
    pub requests_rejected: u64,
    /// Number of events that timed out so far.
    pub requests_timed_out: u64,
}

/// Resources of its machine that an agent uses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceMetrics {
    /// Processor time, in percent of one core.
    pub cpu_percent: Option<f32>,
    /// Resident memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Number of threads.
    pub active_threads: Option<u32>,
    /// Number of open file descriptors.
    pub open_fds: Option<u32>,
    /// Limit of open file descriptors.
    pub fd_limit: Option<u32>,
    /// Number of connections.
    pub connections: Option<u32>,
}

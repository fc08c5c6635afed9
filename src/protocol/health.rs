use super::now_ms;
use serde::{Deserialize, Serialize};

/// An agent's report of its own health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// Who reports.
    #[serde(default)]
    pub agent_id: String,
    /// How it is.
    pub state: HealthState,
    /// Explanation for people.
    #[serde(default)]
    pub message: Option<String>,
    /// How busy it is.
    #[serde(default)]
    pub load: Option<LoadMetrics>,
    /// What it uses.
    #[serde(default)]
    pub resources: Option<ResourceMetrics>,
    /// When the report goes stale, milliseconds since the Unix epoch.
    #[serde(default)]
    pub valid_until_ms: Option<u64>,
    /// When it was made, milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl HealthStatus {
    /// A report of `state`, made now.
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

    /// All is well.
    pub fn healthy(agent_id: impl Into<String>) -> Self {
        Self::new(agent_id, HealthState::Healthy)
    }

    /// Working, with some features off and slower by a factor.
    pub fn degraded(agent_id: impl Into<String>, disabled: Vec<String>, multiplier: f32) -> Self {
        Self::new(
            agent_id,
            HealthState::Degraded {
                disabled_features: disabled,
                timeout_multiplier: multiplier,
            },
        )
    }

    /// Not working.
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

    /// Whether all is well.
    pub fn is_healthy(&self) -> bool {
        matches!(self.state, HealthState::Healthy)
    }
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum HealthState {
    /// All is well.
    Healthy,
    /// Working, but not fully.
    Degraded {
        /// Features that are off.
        #[serde(default)]
        disabled_features: Vec<String>,
        /// How much longer answers may take.
        #[serde(default = "unstretched")]
        timeout_multiplier: f32,
    },
    /// Finishing what it has; wants nothing new.
    Draining {
        /// When it will be done, in milliseconds from now.
        #[serde(default)]
        eta_ms: Option<u64>,
    },
    /// Not working.
    Unhealthy {
        /// Why.
        #[serde(default)]
        reason: String,
        /// Whether it expects to recover.
        #[serde(default)]
        recoverable: bool,
    },
}

fn unstretched() -> f32 {
    1.0
}

impl HealthState {
    /// The state that stands behind the integer form: 1 healthy, 2 degraded, 3 draining, 4 unhealthy.
    pub fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Healthy,
            2 => Self::Degraded {
                disabled_features: Vec::new(),
                timeout_multiplier: unstretched(),
            },
            3 => Self::Draining { eta_ms: None },
            4 => Self::Unhealthy {
                reason: String::new(),
                recoverable: true,
            },
            _ => return None,
        })
    }

    /// The integer that stands for this state.
    pub const fn number(&self) -> i64 {
        match self {
            Self::Healthy => 1,
            Self::Degraded { .. } => 2,
            Self::Draining { .. } => 3,
            Self::Unhealthy { .. } => 4,
        }
    }
}

/// How busy an agent is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadMetrics {
    /// Events being worked on.
    pub in_flight: u32,
    /// Events waiting.
    pub queue_depth: u32,
    /// Mean time for an event, in milliseconds.
    pub avg_latency_ms: f32,
    /// Median time for an event, in milliseconds.
    pub p50_latency_ms: f32,
    /// 95th percentile, in milliseconds.
    pub p95_latency_ms: f32,
    /// 99th percentile, in milliseconds.
    pub p99_latency_ms: f32,
    /// Events answered so far.
    pub requests_processed: u64,
    /// Events refused so far.
    pub requests_rejected: u64,
    /// Events that timed out so far.
    pub requests_timed_out: u64,
}

/// What an agent uses of its machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceMetrics {
    /// Processor, in per cent of one core.
    pub cpu_percent: Option<f32>,
    /// Resident memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Threads.
    pub active_threads: Option<u32>,
    /// Open file descriptors.
    pub open_fds: Option<u32>,
    /// File descriptor limit.
    pub fd_limit: Option<u32>,
    /// Connections.
    pub connections: Option<u32>,
}

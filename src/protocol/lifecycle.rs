use super::now_ms;
use serde::{Deserialize, Serialize};

/// A proxy asks an agent to take no new work for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRequest {
    /// For how long, in milliseconds.
    pub duration_ms: u64,
    /// Why.
    pub reason: DrainReason,
    /// When, milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl DrainRequest {
    /// A request, made now.
    pub fn new(duration_ms: u64, reason: DrainReason) -> Self {
        Self {
            duration_ms,
            reason,
            timestamp_ms: now_ms(),
        }
    }
}

/// Why an agent is to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// New settings are on their way.
    ConfigReload,
    /// Somebody works on the system.
    Maintenance,
    /// The agent does not seem well.
    HealthCheckFailed,
    /// Somebody asked for it.
    Manual,
}

/// A proxy asks an agent to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownRequest {
    /// Why.
    pub reason: ShutdownReason,
    /// Time that the agent gets, in milliseconds.
    pub grace_period_ms: u64,
    /// When, milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl ShutdownRequest {
    /// A request, made now.
    pub fn new(reason: ShutdownReason, grace_period_ms: u64) -> Self {
        Self {
            reason,
            grace_period_ms,
            timestamp_ms: now_ms(),
        }
    }
}

/// Why an agent is to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownReason {
    /// It is not needed any more; what it works on may be finished.
    Graceful,
    /// At once.
    Immediate,
    /// To start with new settings.
    ConfigReload,
    /// To start as a new version.
    Upgrade,
}

//! Requests to an agent to drain or to shut down.

use super::now_ms;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Default time limit for finishing what is under way when a pool, a server or a dialer stops.
pub(crate) const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Message in which a proxy asks an agent to take no new work for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRequest {
    /// Duration of the drain, in milliseconds.
    pub duration_ms: u64,
    /// The reason.
    pub reason: DrainReason,
    /// Time of the request, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl DrainRequest {
    /// Creates a request with the current time.
    pub fn new(duration_ms: u64, reason: DrainReason) -> Self {
        Self {
            duration_ms,
            reason,
            timestamp_ms: now_ms(),
        }
    }
}

/// Reason why an agent should drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// The configuration is about to be reloaded.
    ConfigReload,
    /// The system is under maintenance.
    Maintenance,
    /// A health check of the agent failed.
    HealthCheckFailed,
    /// An operator or the application asked for it.
    Manual,
}

/// Message in which a proxy asks an agent to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownRequest {
    /// The reason.
    pub reason: ShutdownReason,
    /// Time that the agent has to finish, in milliseconds.
    pub grace_period_ms: u64,
    /// Time of the request, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl ShutdownRequest {
    /// Creates a request with the current time.
    pub fn new(reason: ShutdownReason, grace_period_ms: u64) -> Self {
        Self {
            reason,
            grace_period_ms,
            timestamp_ms: now_ms(),
        }
    }
}

/// Reason why an agent should shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownReason {
    /// The agent is no longer needed and may finish its exchanges.
    Graceful,
    /// The agent should stop at once.
    Immediate,
    /// The agent should restart with new settings.
    ConfigReload,
    /// The agent should restart as a new version.
    Upgrade,
}

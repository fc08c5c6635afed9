//! Messages that agents send without being asked.

use super::{ConfigUpdateRequest, HealthStatus, LogMessage, MetricsReport};
use std::sync::Arc;

/// Message that an agent sends without being asked, on any of its connections.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AgentNotice {
    /// A health report. Agents of this crate send each report twice: in the form that
    /// `zentinel-agent-protocol` reads, and in the full form.
    Health {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// The report.
        status: HealthStatus,
    },
    /// A metrics report.
    Metrics {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// The report as it was received.
        report: MetricsReport,
    },
    /// A config update request.
    ConfigUpdate {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// The request.
        request: ConfigUpdateRequest,
    },
    /// A log message.
    Log {
        /// Id of the agent.
        agent_id: Arc<str>,
        /// The message.
        message: LogMessage,
    },
}

impl AgentNotice {
    /// Returns the id of the agent.
    pub fn agent_id(&self) -> &str {
        match self {
            Self::Health { agent_id, .. }
            | Self::Metrics { agent_id, .. }
            | Self::ConfigUpdate { agent_id, .. }
            | Self::Log { agent_id, .. } => agent_id,
        }
    }
}

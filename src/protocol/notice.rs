//! Messages that agents send without being asked.

use super::{ConfigUpdateRequest, HealthStatus, LogMessage, MetricsReport};
use crate::about_agents::{AboutAgent, about_agents};

about_agents! {
    /// Message that an agent sends without being asked, on any of its connections.
    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    AgentNotice of agent_id:

    /// A health report. Agents of this crate send each report twice: in the form that
    /// `zentinel-agent-protocol` reads, and in the full form.
    Health {
        /// The report.
        status: HealthStatus,
    },
    /// A metrics report.
    Metrics {
        /// The report as it was received.
        report: MetricsReport,
    },
    /// A config update request.
    ConfigUpdate {
        /// The request.
        request: ConfigUpdateRequest,
    },
    /// A log message.
    Log {
        /// The message.
        message: LogMessage,
    },
}

impl AgentNotice {
    /// Returns the id of the agent.
    pub fn agent_id(&self) -> &str {
        self.agent()
    }
}

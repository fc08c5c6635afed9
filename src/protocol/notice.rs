use super::{ConfigUpdateRequest, HealthStatus, LogMessage, MetricsReport};
use std::sync::Arc;

/// Something that an agent says unasked, on any of its connections.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AgentNotice {
    /// How it is. Tollgate's agents say so twice, in the published form and in the full one.
    Health {
        /// Which agent.
        agent_id: Arc<str>,
        /// How it is.
        status: HealthStatus,
    },
    /// What it counted.
    Metrics {
        /// Which agent.
        agent_id: Arc<str>,
        /// The report, as it came.
        report: MetricsReport,
    },
    /// It wants its configuration changed.
    ConfigUpdate {
        /// Which agent.
        agent_id: Arc<str>,
        /// What it wants.
        request: ConfigUpdateRequest,
    },
    /// It has a line for the log.
    Log {
        /// Which agent.
        agent_id: Arc<str>,
        /// The line.
        message: LogMessage,
    },
}

//! Version 2 of the protocol: the pool, the client, and the types of what agents announce and
//! report.

pub mod pool;
pub mod uds;

pub use observability::{
    AgentConnection, ConfigPusher, ConfigPusherConfig, ConfigUpdateHandler, MetricsCollector,
    MetricsCollectorConfig, MetricsSnapshot, PushResult, PushStatus, UnifiedMetricsAggregator,
};
pub use pool::{AgentPool, AgentPoolConfig, AgentPoolStats, LoadBalanceStrategy};
pub use protocol_metrics::{HistogramSnapshot, ProtocolMetrics, ProtocolMetricsSnapshot};
pub use tollgate::{
    AgentCapabilities, CancelReason,
    control::{
        AgentFeatures, AgentLimits, CancelRequest, ConfigUpdateRequest, ConfigUpdateResponse,
        ConfigUpdateType, CounterMetric, DrainReason, DrainRequest, GaugeMetric, HealthConfig,
        HealthState, HealthStatus, HistogramBucket, LoadMetrics, LogLevel, LogMessage,
        MetricsReport, PROTOCOL_VERSION as PROTOCOL_VERSION_2, ResourceMetrics, RuleDefinition,
        ShutdownReason, ShutdownRequest, standard,
    },
};
pub use uds::AgentClientV2Uds;

/// Reasons that a client gives to its agent.
pub mod client {
    pub use tollgate::{
        CancelReason,
        control::{DrainReason, ShutdownReason},
    };
}

/// Reasons that an agent is given for what a proxy asks of it.
pub mod server {
    pub use tollgate::control::{DrainReason, ShutdownReason};
}

/// Metrics that agents report, and config updates.
pub mod observability {
    pub use tollgate::{
        config_push::{
            AgentConnection, ConfigPusher, ConfigPusherConfig, ConfigUpdateHandler, PushResult,
            PushStatus,
        },
        metrics::{
            MetricsCollector, MetricsCollectorConfig, MetricsSnapshot, UnifiedMetricsAggregator,
        },
    };
}

/// Metrics of a pool's calls and connections.
pub mod protocol_metrics {
    pub use tollgate::{
        ProtocolMetrics,
        metrics::{HistogramSnapshot, ProtocolMetricsSnapshot},
    };
}

/// Returns whether a version of the protocol is supported.
pub fn supports_version(version: u32) -> bool {
    version <= PROTOCOL_VERSION_2
}

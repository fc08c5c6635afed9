//! Version 2 of the protocol: the pool, the clients, the servers, and the types of what agents
//! announce and report.

pub mod client;
mod connection;
mod control;
mod handshake;
mod messages;
pub mod observability;
pub mod pool;
pub mod protocol_metrics;
pub mod reverse;
mod send;
pub mod server;
mod streaming;
pub mod uds;
pub mod uds_server;

pub use client::{AgentClientV2, CancelReason, ConfigUpdateCallback, FlowState, MetricsCallback};
pub use control::CancelRequest;
pub use handshake::{HandshakeRequest, HandshakeResponse};
pub use observability::{
    AgentConnection, ConfigPusher, ConfigPusherConfig, ConfigUpdateHandler, MetricsCollector,
    MetricsCollectorConfig, MetricsSnapshot, PushResult, PushStatus, UnifiedMetricsAggregator,
};
pub use pool::{AgentPool, AgentPoolConfig, AgentPoolStats, LoadBalanceStrategy, V2Transport};
pub use protocol_metrics::{
    HistogramMetric, HistogramSnapshot, ProtocolMetrics, ProtocolMetricsSnapshot,
};
pub use reverse::{
    RegistrationRequest, RegistrationResponse, ReverseConnectionClient, ReverseConnectionConfig,
    ReverseConnectionListener,
};
pub use server::{AgentHandlerV2, DrainReason, GrpcAgentServerV2, ShutdownReason};
pub use streaming::{AgentResponse, BodyChunkEventV2, FlowAction, FlowControlSignal, StreamState};
pub use tollgate::{
    AgentCapabilities,
    control::{
        AgentFeatures, AgentLimits, ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType,
        CounterMetric, DrainRequest, GaugeMetric, HealthConfig, HealthState, HealthStatus,
        HistogramBucket, LoadMetrics, LogLevel, LogMessage, MetricsReport,
        PROTOCOL_VERSION as PROTOCOL_VERSION_2, ResourceMetrics, RuleDefinition, ShutdownRequest,
        standard,
    },
};
pub use uds::{
    AgentClientV2Uds, DEFAULT_CONNECT_TIMEOUT, MAX_UDS_MESSAGE_SIZE, MessageType, UdsCapabilities,
    UdsEncoding, UdsFeatures, UdsHandshakeRequest, UdsHandshakeResponse, UdsLimits,
};
pub use uds_server::UdsAgentServerV2;

/// Returns whether a version of the protocol is supported.
pub fn supports_version(version: u32) -> bool {
    version <= PROTOCOL_VERSION_2
}

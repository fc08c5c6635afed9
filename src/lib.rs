//! The engine that a proxy links to ask external agents (WAF, authentication, rate limits, custom
//! logic) about every request, and that an agent links to answer. It speaks agent protocol v2.
//!
//! * A proxy makes an [`AgentPool`], adds agents by the path of their socket and puts events to them
//!   with [`AgentPool::send`] or the methods named after each event.
//! * The module [`proxy`] does with the answers what every HTTP proxy
//!   does: merges those of several agents, changes headers and bodies, answers the client.
//! * An agent implements [`AgentHandler`] and serves it with [`UdsAgentServer`].
//!
//! Events have an owned form (`RequestHeadersEvent`) and a borrowed one (`RequestHeaders`) that takes
//! headers from wherever they are; see [`HeaderSource`]. Bodies are [`Bytes`] everywhere.
//!
//! Once warm, asking an agent waits for no lock and makes no heap allocation for an answer that allows. What
//! goes wrong is an [`AgentProtocolError`], which names the agent and says whether trying again may
//! help. Nothing that could not be decoded is ever taken for an `allow`.

mod agent;
mod backoff;
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub mod bench;
mod config_push;
mod connection;
mod error;
mod metrics;
mod pool;
mod protocol;
#[cfg(feature = "http")]
pub mod proxy;
mod transport;
mod wire;

pub use agent::{AgentControl, AgentDialer, AgentHandler, BoundAgentServer, UdsAgentServer};
#[cfg(feature = "grpc")]
pub use agent::{BoundGrpcAgentServer, GrpcAgentServer};
pub use bytes::Bytes;
pub use config_push::{
    AgentConnection, ConfigPusher, ConfigPusherConfig, ConfigUpdateHandler, PushResult, PushStatus,
};
pub use connection::CircuitBreakerState;
pub use error::{AgentProtocolError, ConnectError, RegistrationError};
pub use metrics::{
    AgentMetrics, CallCounts, CallTimings, DecisionCounts, DropReason, DroppedSeries, FaultCounts,
    HistogramSnapshot, MetricsCollector, MetricsCollectorConfig, MetricsSnapshot,
    ProtocolMetricsSnapshot, StageHistograms, UnifiedMetricsAggregator,
};
pub use pool::{
    AgentPool, AgentPoolConfig, AgentPoolStats, CHANNEL_BUFFER_SIZE, EventTimeouts, Exchange,
    FailureMode, FlowControlMode, LoadBalanceStrategy, Placement, ProtocolMetrics,
    ReverseConnectionConfig, ReverseConnectionListener,
};
pub use protocol::events::{
    BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, BodyChunk, Configure,
    GuardrailInspect, GuardrailInspectEvent, Metadata, RequestBodyChunkEvent, RequestComplete,
    RequestCompleteEvent, RequestHeaders, RequestHeadersEvent, RequestMetadata,
    ResponseBodyChunkEvent, ResponseHeaders, ResponseHeadersEvent, WebSocketFrame,
    WebSocketFrameEvent, WebSocketOpcode,
};
pub use protocol::headers;
pub use protocol::{
    AgentCapabilities, AgentFeatures, AgentLimits, AgentNotice, AgentResponse, AuditMetadata,
    BodyMutation, CancelReason, CancelRequest, ConfigUpdateRequest, ConfigUpdateResponse,
    ConfigUpdateType, CounterMetric, CowHeaderMap, Decision, DetectionSeverity, DrainReason,
    DrainRequest, EventType, FieldValue, FlowControl, FlowControlAction, GaugeMetric,
    GuardrailDetection, GuardrailInspectionType, GuardrailResponse, HeaderOp, HeaderSource,
    HeaderValues, HealthConfig, HealthState, HealthStatus, HistogramBucket, HistogramMetric,
    IpText, LoadMetrics, LogLevel, LogMessage, MetricsReport, OptimizedHeaderMap, PROTOCOL_VERSION,
    Ping, ResourceMetrics, RuleDefinition, ShutdownReason, ShutdownRequest, TextSpan, Timestamp,
    WebSocketDecision, intern_header_name, iter_flat, now_ms, standard,
};
#[cfg(feature = "tls")]
pub use transport::tls::{TlsConfig, TlsFailure, TlsServerConfig};
pub use wire::{
    DecodeError, DecodeErrorKind, Encoding, Event, HeadersView, MAX_DEPTH, RequestHeadersView,
    ResponseHeadersView, UnknownEncoding,
};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

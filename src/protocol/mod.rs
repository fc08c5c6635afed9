//! The messages of the agent protocol: events, decisions, capabilities and control messages.
//!
//! These types do not depend on an encoding or a transport.
//!
//! An event has two forms. The *owned* form (`RequestHeadersEvent`) has the fields of the type of
//! that name in `zentinel-agent-protocol`. The *borrowed* form (`RequestHeaders`) refers to data
//! that lives elsewhere: in a proxy's own request when it is sent, in the received frame when an
//! agent handles it.

pub(crate) mod bodies;
mod capabilities;
mod control;
mod decision;
mod event_type;
pub(crate) mod events;
mod guardrail;
pub mod headers;
mod health;
mod ip_text;
mod lifecycle;
mod log;
mod metrics_report;
mod notice;
mod response;
pub(crate) mod text;
pub(crate) mod timestamp;
mod wire_forms;

pub use capabilities::{AgentCapabilities, AgentFeatures, AgentLimits, HealthConfig};
pub use control::{
    CancelReason, CancelRequest, ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType,
    FlowControl, FlowControlAction, Ping, RuleDefinition,
};
pub use decision::{BodyMutation, Decision, HeaderOp, WebSocketDecision};
pub use event_type::EventType;
pub use guardrail::{
    DetectionSeverity, GuardrailDetection, GuardrailInspectionType, GuardrailResponse, TextSpan,
};
pub(crate) use headers::{FieldValue, HeaderSource};
pub use health::{HealthState, HealthStatus, LoadMetrics, ResourceMetrics};
pub use ip_text::IpText;
pub(crate) use lifecycle::DEFAULT_DRAIN_TIMEOUT;
pub use lifecycle::{DrainReason, DrainRequest, ShutdownReason, ShutdownRequest};
pub use log::{LogLevel, LogMessage};
pub use metrics_report::{
    CounterMetric, GaugeMetric, HistogramBucket, HistogramMetric, MetricsReport, standard,
};
pub use notice::AgentNotice;
pub use response::{AgentResponse, AuditMetadata};
pub use timestamp::Timestamp;

use crate::clock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Version of the agent protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 2;

/// Returns the current time in milliseconds since the Unix epoch, as in the protocol's
/// `timestamp_ms` fields.
pub fn now_ms() -> u64 {
    ms_since_epoch(clock::wall())
}

/// Returns milliseconds since the Unix epoch; 0 for earlier times.
fn ms_since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

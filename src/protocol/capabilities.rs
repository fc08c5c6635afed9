//! Capabilities that an agent announces in its handshake or registration.

use super::{EventType, PROTOCOL_VERSION};
use crate::configuration::setters;
use serde::{Deserialize, Serialize};

/// Description that an agent gives of itself when a connection begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentCapabilities {
    /// Protocol version that the agent speaks.
    pub protocol_version: u32,
    /// Id that the agent gives itself.
    pub agent_id: String,
    /// Human-readable name.
    pub name: String,
    /// Version of the agent's software.
    pub version: String,
    /// Kinds of events that the agent subscribes to.
    pub supported_events: Vec<EventType>,
    /// Optional features of the agent.
    #[serde(default)]
    pub features: AgentFeatures,
    /// Limits of the agent.
    #[serde(default)]
    pub limits: AgentLimits,
    /// Settings of its health reports. Not part of the handshake on Unix sockets.
    #[serde(default)]
    pub health: HealthConfig,
}

impl AgentCapabilities {
    /// Creates capabilities of an agent that subscribes to request headers only and has no optional
    /// features.
    pub fn new(
        agent_id: impl Into<String>,
        name: impl Into<String>,
        version: impl Into<String>,
    ) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION,
            agent_id: agent_id.into(),
            name: name.into(),
            version: version.into(),
            supported_events: vec![EventType::RequestHeaders],
            features: AgentFeatures::default(),
            limits: AgentLimits::default(),
            health: HealthConfig::default(),
        }
    }

    /// Returns whether the agent declares that it answers guardrail inspections, as a feature or as
    /// a subscription. Events of that kind are refused otherwise, on both sides.
    pub fn answers_guardrails(&self) -> bool {
        self.features.guardrails || self.supports_event(EventType::GuardrailInspect)
    }

    /// Returns whether the agent subscribes to this kind of event.
    pub fn supports_event(&self, event_type: EventType) -> bool {
        self.supported_events.contains(&event_type)
    }

    /// Subscribes to a kind of event.
    #[must_use]
    pub fn with_event(mut self, event_type: EventType) -> Self {
        if !self.supports_event(event_type) {
            self.supported_events.push(event_type);
        }
        self
    }

    setters! {
        /// Sets the optional features.
        with_features(self, features: AgentFeatures) => self.features = features;

        /// Sets the limits.
        with_limits(self, limits: AgentLimits) => self.limits = limits;
    }
}

/// Optional features of an agent. All are off by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentFeatures {
    /// Set if the agent decides on bodies chunk by chunk.
    pub streaming_body: bool,
    /// Set if the agent inspects websocket frames.
    pub websocket: bool,
    /// Set if the agent inspects text for guardrails.
    pub guardrails: bool,
    /// Set if the agent accepts settings and config updates over the connection.
    pub config_push: bool,
    /// Set if the agent reports metrics over the connection.
    pub metrics_export: bool,
    /// Number of events that the agent handles concurrently; 0 if it does not say.
    pub concurrent_requests: u32,
    /// Set if the agent acts on cancel messages.
    pub cancellation: bool,
    /// Set if the agent may pause the proxy by flow control.
    pub flow_control: bool,
    /// Set if the agent reports its health over the connection.
    pub health_reporting: bool,
}

impl AgentFeatures {
    /// Returns no optional features.
    pub fn simple() -> Self {
        Self::default()
    }

    /// Returns all optional features, with 100 concurrent events.
    pub fn full() -> Self {
        Self {
            streaming_body: true,
            websocket: true,
            guardrails: true,
            config_push: true,
            metrics_export: true,
            concurrent_requests: 100,
            cancellation: true,
            flow_control: true,
            health_reporting: true,
        }
    }
}

/// Limits of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLimits {
    /// Size of the largest body in bytes; 0 if the agent sets no limit.
    pub max_body_size: usize,
    /// Number of events that may be pending on one connection; 0 if the agent sets no limit.
    pub max_concurrency: u32,
    /// Preferred size of a body chunk in bytes.
    pub preferred_chunk_size: usize,
    /// Memory limit of the agent in bytes. Not part of the handshake on Unix sockets.
    #[serde(default)]
    pub max_memory: Option<usize>,
    /// Longest processing time of one event in milliseconds. Not part of the handshake on Unix
    /// sockets.
    #[serde(default)]
    pub max_processing_time_ms: Option<u64>,
}

impl Default for AgentLimits {
    /// Returns the defaults of `zentinel-agent-protocol`: bodies of 10 MiB, 100 concurrent events,
    /// chunks of 64 KiB, no memory limit, 5 s per event.
    fn default() -> Self {
        Self {
            max_body_size: 10 * 1024 * 1024,
            max_concurrency: 100,
            preferred_chunk_size: 64 * 1024,
            max_memory: None,
            max_processing_time_ms: Some(5000),
        }
    }
}

/// Settings of an agent's health reports. By default one every 10 s, with load metrics and without
/// resource metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthConfig {
    /// Interval between reports in milliseconds.
    pub report_interval_ms: u32,
    /// Set if reports contain [`LoadMetrics`](super::LoadMetrics).
    pub include_load_metrics: bool,
    /// Set if reports contain [`ResourceMetrics`](super::ResourceMetrics).
    pub include_resource_metrics: bool,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            report_interval_ms: 10_000,
            include_load_metrics: true,
            include_resource_metrics: false,
        }
    }
}

use super::{EventType, PROTOCOL_VERSION};
use serde::{Deserialize, Serialize};

/// What an agent says of itself when a connection begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentCapabilities {
    /// Protocol version the agent speaks.
    pub protocol_version: u32,
    /// The agent's own identifier.
    pub agent_id: String,
    /// Name for people.
    pub name: String,
    /// Version of the agent's software.
    pub version: String,
    /// The events it wants to be asked about.
    pub supported_events: Vec<EventType>,
    /// What it can do.
    #[serde(default)]
    pub features: AgentFeatures,
    /// How much it can take.
    #[serde(default)]
    pub limits: AgentLimits,
    /// How it reports its health. Not part of the handshake on Unix sockets.
    #[serde(default)]
    pub health: HealthConfig,
}

impl AgentCapabilities {
    /// An agent that wants request headers and nothing else.
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

    /// Whether the agent asked for this kind of event.
    pub fn supports_event(&self, event_type: EventType) -> bool {
        self.supported_events.contains(&event_type)
    }

    /// Asks for a kind of event.
    #[must_use]
    pub fn with_event(mut self, event_type: EventType) -> Self {
        if !self.supports_event(event_type) {
            self.supported_events.push(event_type);
        }
        self
    }

    /// Sets what the agent can do.
    #[must_use]
    pub fn with_features(mut self, features: AgentFeatures) -> Self {
        self.features = features;
        self
    }

    /// Sets how much the agent can take.
    #[must_use]
    pub fn with_limits(mut self, limits: AgentLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// What an agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentFeatures {
    /// Decides on bodies chunk by chunk.
    pub streaming_body: bool,
    /// Inspects websocket frames.
    pub websocket: bool,
    /// Inspects text for guardrails.
    pub guardrails: bool,
    /// Takes configuration over the connection.
    pub config_push: bool,
    /// Reports metrics over the connection.
    pub metrics_export: bool,
    /// How many events it works on at once; 0 says nothing.
    pub concurrent_requests: u32,
    /// Heeds cancel messages.
    pub cancellation: bool,
    /// May ask for a pause.
    pub flow_control: bool,
    /// Reports its health over the connection.
    pub health_reporting: bool,
}

impl AgentFeatures {
    /// None of the optional features.
    pub fn simple() -> Self {
        Self::default()
    }

    /// All optional features, 100 events at once.
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

/// How much an agent can take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLimits {
    /// Largest body in bytes.
    pub max_body_size: usize,
    /// Most events at once on one connection.
    pub max_concurrency: u32,
    /// Size of body chunk, in bytes, that it handles best.
    pub preferred_chunk_size: usize,
    /// Memory in bytes. Not part of the handshake on Unix sockets.
    #[serde(default)]
    pub max_memory: Option<usize>,
    /// Time for one event in milliseconds. Not part of the handshake on Unix sockets.
    #[serde(default)]
    pub max_processing_time_ms: Option<u64>,
}

impl Default for AgentLimits {
    /// The published defaults: 10 MiB bodies, 100 events at once, 64 KiB chunks, 5 s.
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

/// How an agent reports its health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthConfig {
    /// Milliseconds between reports.
    pub report_interval_ms: u32,
    /// Whether reports carry [`LoadMetrics`](super::LoadMetrics).
    pub include_load_metrics: bool,
    /// Whether reports carry [`ResourceMetrics`](super::ResourceMetrics).
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

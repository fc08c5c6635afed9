//! The handshake as handlers see it.

use super::{AgentCapabilities, PROTOCOL_VERSION_2};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A proxy's side of the handshake.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandshakeRequest {
    /// Versions of the protocol that the proxy supports.
    pub supported_versions: Vec<u32>,
    /// Name of the proxy.
    pub proxy_id: String,
    /// Version of the proxy's software.
    pub proxy_version: String,
    /// Settings of the agent; null if there are none.
    pub config: Value,
}

impl HandshakeRequest {
    /// Creates the request of a proxy without settings.
    pub fn new(proxy_id: impl Into<String>, proxy_version: impl Into<String>) -> Self {
        Self {
            supported_versions: vec![PROTOCOL_VERSION_2],
            proxy_id: proxy_id.into(),
            proxy_version: proxy_version.into(),
            config: Value::Null,
        }
    }

    /// Returns the highest version that the proxy supports; 1 if it names none.
    pub fn max_version(&self) -> u32 {
        self.supported_versions.iter().copied().max().unwrap_or(1)
    }
}

/// An agent's side of the handshake.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandshakeResponse {
    /// Version of the protocol that the agent speaks.
    pub protocol_version: u32,
    /// Capabilities of the agent.
    pub capabilities: AgentCapabilities,
    /// Set if the agent accepts the proxy.
    pub success: bool,
    /// Reason why it does not.
    pub error: Option<String>,
}

impl HandshakeResponse {
    /// Creates a response that accepts the proxy.
    pub fn success(capabilities: AgentCapabilities) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION_2,
            capabilities,
            success: true,
            error: None,
        }
    }

    /// Creates a response that refuses the proxy.
    pub fn failure(error: impl Into<String>) -> Self {
        Self {
            success: false,
            error: Some(error.into()),
            ..Self::success(AgentCapabilities::new("", "", ""))
        }
    }
}

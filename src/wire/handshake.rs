//! Handshake messages. They are JSON, or protobuf on gRPC connections.

use super::decode::{DecodeError, DecodeErrorKind};
use super::{Dialect, Encoding, Extension, TollgateObject};
use crate::protocol::{AgentCapabilities, AgentFeatures, AgentLimits, EventType, PROTOCOL_VERSION};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Largest frame that is accepted before a peer has completed the handshake.
///
/// Handshake messages are far smaller.
pub(crate) const MAX_HANDSHAKE_LEN: usize = 64 * 1024;

/// First message of a connection, sent by the proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HandshakeRequest {
    pub(crate) supported_versions: Vec<u32>,
    pub(crate) proxy_id: String,
    pub(crate) proxy_version: String,
    #[serde(default)]
    pub(crate) config: Value,
    /// Names of encodings in order of preference.
    ///
    /// Not [`Encoding`]s, since an unknown name must not invalidate the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) supported_encodings: Vec<String>,
    /// Offer of the tollgate extension.
    #[serde(default, skip_serializing_if = "TollgateObject::is_absent")]
    pub(crate) tollgate: TollgateObject<ExtensionOffer>,
}

/// Versions of the tollgate extension that a proxy supports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExtensionOffer {
    #[serde(default)]
    pub(super) versions: Vec<u64>,
}

/// Version of the tollgate extension that an agent chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExtensionChoice {
    pub(super) version: u64,
}

impl HandshakeRequest {
    /// Creates a request with the protocol version of this crate.
    pub(crate) fn new(proxy_id: &str, encodings: &[Encoding], extensions: &[Extension]) -> Self {
        Self {
            supported_versions: vec![PROTOCOL_VERSION],
            proxy_id: proxy_id.to_owned(),
            proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
            config: Value::Null,
            supported_encodings: encodings.iter().map(Encoding::to_string).collect(),
            tollgate: TollgateObject::from((!extensions.is_empty()).then(|| ExtensionOffer {
                versions: extensions.iter().map(|version| version.number()).collect(),
            })),
        }
    }

    /// Adds the settings of the agent.
    pub(crate) fn with_config(self, config: Option<&Value>) -> Self {
        Self {
            config: config.cloned().unwrap_or_default(),
            ..self
        }
    }

    /// Chooses the dialect of the connection.
    ///
    /// The encoding is the first of the proxy's preferences that is in `accepted`, or JSON if there
    /// is none. The extension is used in the first version that the proxy offers and this crate
    /// knows.
    pub(crate) fn negotiate(&self, accepted: &[Encoding]) -> Dialect {
        let encoding = self
            .supported_encodings
            .iter()
            .find_map(|name| {
                let known = accepted.iter().copied();
                known.into_iter().find(|encoding| encoding.as_str() == name)
            })
            .unwrap_or(Encoding::Json);
        let offer = self.tollgate.extension();
        let mut offered = offer.into_iter().flat_map(|offer| &offer.versions);
        let extension = offered.find_map(|&number| Extension::from_number(number));
        Dialect::new(encoding, extension)
    }

    /// Returns whether the proxy supports the protocol version of this crate.
    pub(crate) fn supports_our_version(&self) -> bool {
        self.supported_versions.contains(&PROTOCOL_VERSION)
    }
}

/// Agent's response to a [`HandshakeRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HandshakeResponse {
    pub(crate) protocol_version: u32,
    #[serde(default)]
    pub(crate) capabilities: WireCapabilities,
    pub(crate) success: bool,
    #[serde(default)]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    #[serde(default, skip_serializing_if = "TollgateObject::is_absent")]
    pub(crate) tollgate: TollgateObject<ExtensionChoice>,
}

impl HandshakeResponse {
    pub(crate) fn accept(capabilities: &AgentCapabilities, dialect: Dialect) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION,
            capabilities: capabilities.into(),
            success: true,
            error: None,
            encoding: dialect.encoding,
            tollgate: TollgateObject::from(dialect.extension.map(|extension| ExtensionChoice {
                version: extension.number(),
            })),
        }
    }

    pub(crate) fn reject(capabilities: &AgentCapabilities, reason: &str) -> Self {
        Self {
            success: false,
            error: Some(reason.to_owned()),
            ..Self::accept(capabilities, Dialect::zentinel(Encoding::Json))
        }
    }

    /// Returns the version of the extension that the agent chose, if it chose one.
    pub(crate) fn extension(&self) -> Option<u64> {
        self.tollgate.extension().map(|choice| choice.version)
    }
}

/// [`AgentCapabilities`] as sent in a handshake.
///
/// `zentinel-agent-protocol` rejects a response that lacks any field of `features` or `limits`, so
/// all of them are written. When reading, missing fields get their defaults.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WireCapabilities {
    pub(super) agent_id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) supported_events: Vec<i64>,
    pub(super) features: AgentFeatures,
    pub(super) limits: WireLimits,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct WireLimits {
    pub(super) max_body_size: u64,
    pub(super) max_concurrency: u32,
    pub(super) preferred_chunk_size: u64,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self::from(&AgentLimits::default())
    }
}

impl From<&AgentLimits> for WireLimits {
    fn from(limits: &AgentLimits) -> Self {
        Self {
            max_body_size: limits.max_body_size as u64,
            max_concurrency: limits.max_concurrency,
            preferred_chunk_size: limits.preferred_chunk_size as u64,
        }
    }
}

impl From<&AgentCapabilities> for WireCapabilities {
    fn from(capabilities: &AgentCapabilities) -> Self {
        Self {
            agent_id: capabilities.agent_id.clone(),
            name: capabilities.name.clone(),
            version: capabilities.version.clone(),
            supported_events: capabilities
                .supported_events
                .iter()
                .map(|event| event.number())
                .collect(),
            features: capabilities.features.clone(),
            limits: (&capabilities.limits).into(),
        }
    }
}

impl From<WireCapabilities> for AgentCapabilities {
    fn from(wire: WireCapabilities) -> Self {
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        let capabilities = Self {
            supported_events: Vec::new(),
            features: wire.features,
            limits: AgentLimits {
                max_body_size: size(wire.limits.max_body_size),
                max_concurrency: wire.limits.max_concurrency,
                preferred_chunk_size: size(wire.limits.preferred_chunk_size),
                max_memory: None,
                max_processing_time_ms: None,
            },
            ..Self::new(wire.agent_id, wire.name, wire.version)
        };
        let events = wire.supported_events.into_iter();
        events
            .filter_map(EventType::from_number)
            .fold(capabilities, Self::with_event)
    }
}

pub(super) fn to_json(message: &impl Serialize) -> Vec<u8> {
    // Serializing a plain struct with string keys to JSON cannot fail.
    serde_json::to_vec(message).unwrap_or_default()
}

pub(super) fn from_json<T: DeserializeOwned>(
    message: &'static str,
    payload: &[u8],
) -> Result<T, DecodeError> {
    serde_json::from_slice(payload)
        .map_err(|error| match error.classify() {
            serde_json::error::Category::Data => DecodeErrorKind::WrongType,
            serde_json::error::Category::Eof => DecodeErrorKind::CutShort,
            _ => DecodeErrorKind::Syntax,
        })
        .map_err(DecodeError::in_message(message))
}

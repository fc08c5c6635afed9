//! Messages on Unix sockets, for agents and tools that speak the protocol by themselves.

use super::{AgentCapabilities, AgentFeatures, AgentLimits};
use crate::{AgentProtocolError, EventType};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Largest message in bytes, its type included.
pub const MAX_UDS_MESSAGE_SIZE: usize = 16 * 1024 * 1024;

/// Encoding of the payloads of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UdsEncoding {
    /// JSON.
    #[default]
    Json,
    /// MessagePack. Reading and writing values needs the feature `binary-uds`.
    #[serde(rename = "msgpack")]
    MessagePack,
}

impl UdsEncoding {
    /// Writes a value.
    ///
    /// # Errors
    ///
    /// [`Serialization`](AgentProtocolError::Serialization).
    pub fn serialize<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, AgentProtocolError> {
        let failed =
            |error: &dyn std::fmt::Display| AgentProtocolError::Serialization(error.to_string());
        match self {
            #[cfg(feature = "binary-uds")]
            Self::MessagePack => rmp_serde::to_vec_named(value).map_err(|error| failed(&error)),
            #[cfg(not(feature = "binary-uds"))]
            Self::MessagePack => Err(failed(&NO_MSGPACK)),
            Self::Json => serde_json::to_vec(value).map_err(|error| failed(&error)),
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage).
    pub fn deserialize<'a, T: Deserialize<'a>>(
        &self,
        bytes: &'a [u8],
    ) -> Result<T, AgentProtocolError> {
        let failed =
            |error: &dyn std::fmt::Display| AgentProtocolError::InvalidMessage(error.to_string());
        match self {
            #[cfg(feature = "binary-uds")]
            Self::MessagePack => rmp_serde::from_slice(bytes).map_err(|error| failed(&error)),
            #[cfg(not(feature = "binary-uds"))]
            Self::MessagePack => Err(failed(&NO_MSGPACK)),
            Self::Json => serde_json::from_slice(bytes).map_err(|error| failed(&error)),
        }
    }
}

#[cfg(not(feature = "binary-uds"))]
const NO_MSGPACK: &str = "MessagePack needs the feature binary-uds";

/// Declares the types of messages with their numbers.
macro_rules! message_types {
    ($($name:ident = $number:literal $doc:literal,)*) => {
        /// Type of a message.
        #[repr(u8)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum MessageType {
            $(#[doc = $doc] $name = $number,)*
        }

        impl TryFrom<u8> for MessageType {
            type Error = AgentProtocolError;

            fn try_from(value: u8) -> Result<Self, Self::Error> {
                match value {
                    $($number => Ok(Self::$name),)*
                    _ => Err(AgentProtocolError::InvalidMessage(format!(
                        "Unknown message type: 0x{value:02x}"
                    ))),
                }
            }
        }
    };
}

message_types! {
    HandshakeRequest = 0x01 "First message of a proxy, or the registration of an agent.",
    HandshakeResponse = 0x02 "Response to the first message.",
    RequestHeaders = 0x10 "Headers of a request.",
    RequestBodyChunk = 0x11 "Chunk of a request body.",
    ResponseHeaders = 0x12 "Headers of a response.",
    ResponseBodyChunk = 0x13 "Chunk of a response body.",
    RequestComplete = 0x14 "End of a request.",
    WebSocketFrame = 0x15 "WebSocket frame.",
    GuardrailInspect = 0x16 "Text that is to be inspected.",
    Configure = 0x17 "Settings.",
    AgentResponse = 0x20 "Answer of an agent.",
    HealthStatus = 0x30 "Health report of an agent.",
    MetricsReport = 0x31 "Metrics report of an agent.",
    ConfigUpdateRequest = 0x32 "Request of an agent for a config update.",
    FlowControl = 0x33 "Request of an agent to pause or to resume.",
    Cancel = 0x40 "Cancellation of a request.",
    Ping = 0x41 "Ping of either side.",
    Pong = 0x42 "Answer to a ping.",
}

/// First message of a connection, sent by the proxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UdsHandshakeRequest {
    /// Versions of the protocol that the proxy supports.
    pub supported_versions: Vec<u32>,
    /// Name of the proxy.
    pub proxy_id: String,
    /// Version of the proxy's software.
    pub proxy_version: String,
    /// Settings of the agent.
    pub config: Option<serde_json::Value>,
    /// Encodings that the proxy supports, in order of preference. None means JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported_encodings: Vec<UdsEncoding>,
}

/// Response to a [`UdsHandshakeRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UdsHandshakeResponse {
    /// Version of the protocol that the agent speaks.
    pub protocol_version: u32,
    /// Capabilities of the agent.
    pub capabilities: UdsCapabilities,
    /// Set if the agent accepts the proxy.
    pub success: bool,
    /// Reason why it does not.
    pub error: Option<String>,
    /// Encoding that the agent chose.
    #[serde(default)]
    pub encoding: UdsEncoding,
}

/// Capabilities of an agent as they are sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UdsCapabilities {
    /// Id of the agent.
    pub agent_id: String,
    /// Name for people.
    pub name: String,
    /// Version of the agent's software.
    pub version: String,
    /// Numbers of the events that the agent subscribes to.
    pub supported_events: Vec<i32>,
    /// Optional features.
    pub features: UdsFeatures,
    /// Limits.
    pub limits: UdsLimits,
}

/// Optional features of an agent: see [`AgentFeatures`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of `AgentFeatures`")]
pub struct UdsFeatures {
    pub streaming_body: bool,
    pub websocket: bool,
    pub guardrails: bool,
    pub config_push: bool,
    pub metrics_export: bool,
    pub concurrent_requests: u32,
    pub cancellation: bool,
    pub flow_control: bool,
    pub health_reporting: bool,
}

/// Limits of an agent: see [`AgentLimits`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of `AgentLimits`")]
pub struct UdsLimits {
    pub max_body_size: u64,
    pub max_concurrency: u32,
    pub preferred_chunk_size: u64,
}

/// Kinds of events in the order of their numbers, which begin with 1.
const EVENTS: [EventType; 8] = [
    EventType::RequestHeaders,
    EventType::RequestBodyChunk,
    EventType::ResponseHeaders,
    EventType::ResponseBodyChunk,
    EventType::RequestComplete,
    EventType::WebSocketFrame,
    EventType::GuardrailInspect,
    EventType::Configure,
];

/// Returns the kind of an event. Older agents write 0 for settings.
fn event_of(number: i32) -> Option<EventType> {
    match usize::try_from(number).ok()? {
        0 => Some(EventType::Configure),
        number => EVENTS.get(number - 1).copied(),
    }
}

fn number_of(event: EventType) -> i32 {
    let at = EVENTS.iter().position(|known| *known == event);
    at.and_then(|at| i32::try_from(at + 1).ok())
        .unwrap_or_default()
}

/// Copies the features from one type to the other.
macro_rules! features {
    ($into:ident, $from:expr) => {
        $into {
            streaming_body: $from.streaming_body,
            websocket: $from.websocket,
            guardrails: $from.guardrails,
            config_push: $from.config_push,
            metrics_export: $from.metrics_export,
            concurrent_requests: $from.concurrent_requests,
            cancellation: $from.cancellation,
            flow_control: $from.flow_control,
            health_reporting: $from.health_reporting,
        }
    };
}

impl From<UdsCapabilities> for AgentCapabilities {
    fn from(caps: UdsCapabilities) -> Self {
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            supported_events: caps
                .supported_events
                .into_iter()
                .filter_map(event_of)
                .collect(),
            features: features!(AgentFeatures, caps.features),
            limits: AgentLimits {
                max_body_size: size(caps.limits.max_body_size),
                max_concurrency: caps.limits.max_concurrency,
                preferred_chunk_size: size(caps.limits.preferred_chunk_size),
                max_memory: None,
                max_processing_time_ms: None,
            },
            ..Self::new(caps.agent_id, caps.name, caps.version)
        }
    }
}

impl From<AgentCapabilities> for UdsCapabilities {
    fn from(caps: AgentCapabilities) -> Self {
        Self {
            agent_id: caps.agent_id,
            name: caps.name,
            version: caps.version,
            supported_events: caps.supported_events.into_iter().map(number_of).collect(),
            features: features!(UdsFeatures, caps.features),
            limits: UdsLimits {
                max_body_size: caps.limits.max_body_size as u64,
                max_concurrency: caps.limits.max_concurrency,
                preferred_chunk_size: caps.limits.preferred_chunk_size as u64,
            },
        }
    }
}

/// Writes a message and flushes the writer.
///
/// # Errors
///
/// [`MessageTooLarge`](AgentProtocolError::MessageTooLarge) if no reader would accept the message,
/// or [`Io`](AgentProtocolError::Io).
pub async fn write_message<W: AsyncWriteExt + Unpin>(
    writer: &mut W,
    msg_type: MessageType,
    payload: &[u8],
) -> Result<(), AgentProtocolError> {
    let size = payload.len() + 1;
    let length = u32::try_from(size)
        .ok()
        .filter(|_| size <= MAX_UDS_MESSAGE_SIZE);
    let Some(length) = length else {
        return Err(AgentProtocolError::MessageTooLarge {
            size,
            max: MAX_UDS_MESSAGE_SIZE,
        });
    };
    writer.write_all(&length.to_be_bytes()).await?;
    writer.write_all(&[msg_type as u8]).await?;
    writer.write_all(payload).await?;
    Ok(writer.flush().await?)
}

/// Reads a message.
///
/// The memory for it grows with what arrives, not with the length that is announced.
///
/// # Errors
///
/// [`ConnectionClosed`](AgentProtocolError::ConnectionClosed) if there is no further message;
/// [`MessageTooLarge`](AgentProtocolError::MessageTooLarge);
/// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if the message is empty or its type is
/// unknown; [`Io`](AgentProtocolError::Io), also if the message is cut short.
pub async fn read_message<R: AsyncReadExt + Unpin>(
    reader: &mut R,
) -> Result<(MessageType, Vec<u8>), AgentProtocolError> {
    let mut length = [0; 4];
    match reader.read_exact(&mut length).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(AgentProtocolError::ConnectionClosed);
        }
        read => read?,
    };
    let size = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if size > MAX_UDS_MESSAGE_SIZE {
        return Err(AgentProtocolError::MessageTooLarge {
            size,
            max: MAX_UDS_MESSAGE_SIZE,
        });
    }
    let Some(payload_len) = size.checked_sub(1) else {
        let fault = "Zero-length message".to_owned();
        return Err(AgentProtocolError::InvalidMessage(fault));
    };
    let msg_type = reader.read_u8().await?;
    let mut payload = Vec::new();
    let mut rest = reader.take(payload_len as u64);
    rest.read_to_end(&mut payload).await?;
    if payload.len() < payload_len {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok((MessageType::try_from(msg_type)?, payload))
}

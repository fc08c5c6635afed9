//! Handshakes, which go through generated types.

use super::control::{InProtobuf, unwrap, wrap};
use super::generated as proto;
use crate::protocol::AgentFeatures;
use crate::wire::decode::{DecodeError, Decoded};
use crate::wire::handshake::{
    ExtensionChoice, ExtensionOffer, HandshakeRequest, HandshakeResponse, WireCapabilities,
    WireLimits,
};
use crate::wire::{Encoding, MessageType, TollgateObject};
use serde_json::Value;

pub(in crate::wire) fn encode_request(request: &HandshakeRequest) -> Vec<u8> {
    let offer = request.tollgate.extension();
    let offered = offer.into_iter().flat_map(|offer| &offer.versions);
    let message = proto::HandshakeRequest {
        supported_versions: request.supported_versions.clone(),
        proxy_id: request.proxy_id.clone(),
        proxy_version: request.proxy_version.clone(),
        config_json: write_config(&request.config),
        tollgate_versions: offered
            .filter_map(|&version| u32::try_from(version).ok())
            .collect(),
    };
    wrap(MessageType::HandshakeRequest, &message)
}

pub(in crate::wire) fn decode_request(payload: &[u8]) -> Result<HandshakeRequest, DecodeError> {
    let message: proto::HandshakeRequest = unwrap(MessageType::HandshakeRequest, payload)
        .map_err(DecodeError::in_message("handshake request"))?;
    let versions: Vec<_> = message
        .tollgate_versions
        .into_iter()
        .map(u64::from)
        .collect();
    Ok(HandshakeRequest {
        supported_versions: message.supported_versions,
        proxy_id: message.proxy_id,
        proxy_version: message.proxy_version,
        config: read_config(&message.config_json),
        supported_encodings: vec![Encoding::Protobuf.to_string()],
        tollgate: TollgateObject::from(
            (!versions.is_empty()).then_some(ExtensionOffer { versions }),
        ),
    })
}

/// Writes settings; none are an empty object, as `zentinel-agent-protocol` writes them.
fn write_config(config: &Value) -> String {
    if config.is_null() {
        return "{}".to_owned();
    }
    config.to_string()
}

/// Reads settings. They are not used, so invalid JSON is no error.
fn read_config(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Object(config)) if config.is_empty() => Value::Null,
        read => read.unwrap_or_default(),
    }
}

pub(in crate::wire) fn encode_response(response: &HandshakeResponse) -> Vec<u8> {
    let capabilities = &response.capabilities;
    let limits = &capabilities.limits;
    let version = response.extension();
    let message = proto::HandshakeResponse {
        protocol_version: response.protocol_version,
        capabilities: Some(proto::AgentCapabilities {
            protocol_version: response.protocol_version,
            agent_id: capabilities.agent_id.clone(),
            name: capabilities.name.clone(),
            version: capabilities.version.clone(),
            supported_events: capabilities
                .supported_events
                .iter()
                .filter_map(|&event| i32::try_from(event).ok())
                .collect(),
            features: Some(capabilities.features.to_proto()),
            limits: Some(proto::AgentLimits {
                max_body_size: limits.max_body_size,
                max_concurrency: limits.max_concurrency,
                preferred_chunk_size: limits.preferred_chunk_size,
                max_memory: None,
                max_processing_time_ms: None,
            }),
            health_config: None,
        }),
        success: response.success,
        error: response.error.clone(),
        tollgate_version: version.and_then(|version| u32::try_from(version).ok()),
    };
    wrap(MessageType::HandshakeResponse, &message)
}

pub(in crate::wire) fn decode_response(payload: &[u8]) -> Result<HandshakeResponse, DecodeError> {
    unwrap(MessageType::HandshakeResponse, payload)
        .and_then(to_response)
        .map_err(DecodeError::in_message("handshake response"))
}

fn to_response(message: proto::HandshakeResponse) -> Decoded<HandshakeResponse> {
    let capabilities = message.capabilities.map(capabilities).transpose()?;
    Ok(HandshakeResponse {
        protocol_version: message.protocol_version,
        capabilities: capabilities.unwrap_or_default(),
        success: message.success,
        error: message.error,
        encoding: Encoding::Protobuf,
        tollgate: TollgateObject::from(message.tollgate_version.map(|version| ExtensionChoice {
            version: u64::from(version),
        })),
    })
}

fn capabilities(wire: proto::AgentCapabilities) -> Decoded<WireCapabilities> {
    Ok(WireCapabilities {
        agent_id: wire.agent_id,
        name: wire.name,
        version: wire.version,
        supported_events: wire.supported_events.into_iter().map(i64::from).collect(),
        features: AgentFeatures::from_proto(wire.features.unwrap_or_default())?,
        limits: wire
            .limits
            .map_or_else(WireLimits::default, |limits| WireLimits {
                max_body_size: limits.max_body_size,
                max_concurrency: limits.max_concurrency,
                preferred_chunk_size: limits.preferred_chunk_size,
            }),
    })
}

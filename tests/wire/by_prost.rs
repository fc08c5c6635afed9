//! Decoding of events and answers through the generated types: a second implementation, with which
//! tests compare the hand-written one. JSON within the messages is read by the code under test; it
//! is compared with other readers where JSON is tested.

use crate::generated as proto;
use crate::owned_event::OwnedEvent;
use prost::Message;
use proto::agent_response::Decision as ProtoDecision;
use proto::header_op::Operation;
use proto::proxy_to_agent::Message as ToAgent;
use proto::web_socket_decision::Decision as ProtoWebSocketDecision;
use proto::web_socket_frame_event::FrameType;
use serde_json::{Map, Value};
use std::collections::HashMap;
use tollgate::bench::json_value;
use tollgate::events::{
    GuardrailInspectEvent, GuardrailInspectionType, RequestBodyChunkEvent, RequestCompleteEvent,
    RequestHeadersEvent, RequestMetadata, ResponseBodyChunkEvent, ResponseHeadersEvent, Timestamp,
    WebSocketFrameEvent, WebSocketOpcode,
};
use tollgate::response::{
    AgentResponse, AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision,
};

/// Message and stream id of an envelope.
#[derive(Debug, PartialEq)]
pub struct Opened<T> {
    pub message: T,
    pub stream_id: Option<u64>,
}

/// Decodes the event in an envelope; `None` if there is no valid one.
pub fn event(envelope: &[u8]) -> Option<Opened<OwnedEvent>> {
    let envelope = proto::ProxyToAgent::decode(envelope).ok()?;
    let message = match envelope.message? {
        ToAgent::RequestHeaders(event) => OwnedEvent::RequestHeaders(RequestHeadersEvent {
            metadata: metadata(event.metadata?)?,
            method: event.method,
            uri: event.uri,
            headers: headers(event.headers),
        }),
        ToAgent::RequestBodyChunk(chunk) => OwnedEvent::RequestBodyChunk(RequestBodyChunkEvent {
            correlation_id: chunk.correlation_id,
            data: chunk.data.into(),
            is_last: chunk.is_last,
            total_size: optional_size(chunk.total_size)?,
            chunk_index: chunk.chunk_index,
            bytes_received: chunk.bytes_transferred.try_into().ok()?,
        }),
        ToAgent::ResponseHeaders(event) => OwnedEvent::ResponseHeaders(ResponseHeadersEvent {
            correlation_id: event.correlation_id,
            status: event.status_code.try_into().ok()?,
            headers: headers(event.headers),
        }),
        ToAgent::ResponseBodyChunk(chunk) => {
            OwnedEvent::ResponseBodyChunk(ResponseBodyChunkEvent {
                correlation_id: chunk.correlation_id,
                data: chunk.data.into(),
                is_last: chunk.is_last,
                total_size: optional_size(chunk.total_size)?,
                chunk_index: chunk.chunk_index,
                bytes_sent: chunk.bytes_transferred.try_into().ok()?,
            })
        }
        ToAgent::RequestComplete(event) => OwnedEvent::RequestComplete(RequestCompleteEvent {
            correlation_id: event.correlation_id,
            status: event.status_code.try_into().ok()?,
            duration_ms: event.duration_ms,
            request_body_size: event.bytes_received.try_into().ok()?,
            response_body_size: event.bytes_sent.try_into().ok()?,
            upstream_attempts: event.upstream_attempts.unwrap_or(1),
            error: event.error,
        }),
        ToAgent::WebsocketFrame(frame) => OwnedEvent::WebSocketFrame(WebSocketFrameEvent {
            opcode: opcode(frame.frame_type)?,
            correlation_id: frame.correlation_id,
            data: frame.payload.into(),
            client_to_server: frame.client_to_server,
            frame_index: frame.frame_index,
            fin: frame.fin.unwrap_or(true),
            route_id: frame.route_id,
            client_ip: frame.client_ip,
        }),
        ToAgent::Guardrail(event) => OwnedEvent::GuardrailInspect(GuardrailInspectEvent {
            correlation_id: event.correlation_id,
            inspection_type: match event.inspection_type.as_deref() {
                None | Some("prompt_injection") => GuardrailInspectionType::PromptInjection,
                Some("pii_detection") => GuardrailInspectionType::PiiDetection,
                Some(_) => return None,
            },
            content: event.content,
            model: event.model,
            categories: event.categories,
            route_id: event.route_id,
            metadata: event.metadata,
        }),
        ToAgent::Configure(event) => configure(event)?,
        _ => return None,
    };
    Some(Opened {
        message,
        stream_id: envelope.stream_id,
    })
}

/// Decodes the answer in an envelope, with its correlation id; `None` if there is no valid one.
pub fn response(envelope: &[u8]) -> Option<Opened<(String, AgentResponse)>> {
    let envelope = proto::AgentToProxy::decode(envelope).ok()?;
    let Some(proto::agent_to_proxy::Message::Response(answer)) = envelope.message else {
        return None;
    };
    let response = AgentResponse {
        version: answer.version.unwrap_or(2),
        decision: decision(answer.decision?)?,
        request_headers: header_ops(answer.request_headers)?,
        response_headers: header_ops(answer.response_headers)?,
        routing_metadata: answer.routing_metadata,
        audit: audit(answer.audit.unwrap_or_default()),
        needs_more: answer.needs_more,
        request_body_mutation: answer.request_body_mutation.map(mutation),
        response_body_mutation: answer.response_body_mutation.map(mutation),
        websocket_decision: match answer.websocket_decision {
            Some(decision) => Some(websocket_decision(decision.decision?)?),
            None => None,
        },
    };
    Some(Opened {
        message: (answer.correlation_id, response),
        stream_id: envelope.stream_id,
    })
}

fn metadata(metadata: proto::RequestMetadata) -> Option<RequestMetadata> {
    // The conversion of milliseconds to text has tests of its own.
    let from_ms = || Timestamp::from_ms(metadata.timestamp_ms).to_string();
    Some(RequestMetadata {
        timestamp: metadata.timestamp.unwrap_or_else(from_ms),
        correlation_id: metadata.correlation_id,
        request_id: metadata.request_id,
        client_ip: metadata.client_ip,
        client_port: metadata.client_port.try_into().ok()?,
        server_name: metadata.server_name,
        protocol: metadata.protocol,
        tls_version: metadata.tls_version,
        tls_cipher: metadata.tls_cipher,
        route_id: metadata.route_id,
        upstream_id: metadata.upstream_id,
        traceparent: metadata.traceparent,
    })
}

fn headers(headers: Vec<proto::Header>) -> HashMap<String, Vec<String>> {
    let mut map = HashMap::<_, Vec<_>>::new();
    for header in headers {
        map.entry(header.name).or_default().push(header.value);
    }
    map
}

fn optional_size(size: Option<u64>) -> Option<Option<usize>> {
    size.map(usize::try_from).transpose().ok()
}

fn opcode(number: i32) -> Option<WebSocketOpcode> {
    Some(match FrameType::try_from(number).ok()? {
        FrameType::Unspecified => return None,
        FrameType::Text => WebSocketOpcode::Text,
        FrameType::Binary => WebSocketOpcode::Binary,
        FrameType::Ping => WebSocketOpcode::Ping,
        FrameType::Pong => WebSocketOpcode::Pong,
        FrameType::Close => WebSocketOpcode::Close,
        FrameType::Continuation => WebSocketOpcode::Continuation,
    })
}

fn configure(event: proto::ConfigureEvent) -> Option<OwnedEvent> {
    let mut settings = match event.settings_json {
        Some(text) => read_json_map(&text)?,
        None => Map::new(),
    };
    settings.remove("correlation_id");
    if !event.config_json.is_empty() {
        let config = read_json(&event.config_json)?;
        settings.insert("config".to_owned(), config);
    }
    if let Some(version) = event.config_version {
        settings.insert("config_version".to_owned(), version.into());
    }
    Some(OwnedEvent::Configure(event.correlation_id, settings))
}

fn read_json(text: &str) -> Option<Value> {
    json_value(&mut text.as_bytes().to_vec()).ok()
}

/// Reads an object. Null counts as an empty one.
fn read_json_map(text: &str) -> Option<Map<String, Value>> {
    match read_json(text)? {
        Value::Null => Some(Map::new()),
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn decision(decision: ProtoDecision) -> Option<Decision> {
    Some(match decision {
        ProtoDecision::Allow(_) => Decision::Allow,
        ProtoDecision::Block(block) => {
            let headers: HashMap<_, _> = block
                .headers
                .into_iter()
                .map(|header| (header.name, header.value))
                .collect();
            Decision::Block {
                status: block.status.try_into().ok()?,
                body: block.body,
                headers: (block.has_headers || !headers.is_empty()).then_some(headers),
            }
        }
        ProtoDecision::Redirect(redirect) => Decision::Redirect {
            url: redirect.url,
            status: redirect.status.try_into().ok()?,
        },
        ProtoDecision::Challenge(challenge) => Decision::Challenge {
            challenge_type: challenge.challenge_type,
            params: challenge.params,
        },
    })
}

fn header_ops(ops: Vec<proto::HeaderOp>) -> Option<Vec<HeaderOp>> {
    ops.into_iter()
        .map(|op| {
            Some(match op.operation? {
                Operation::Set(proto::Header { name, value }) => HeaderOp::Set { name, value },
                Operation::Add(proto::Header { name, value }) => HeaderOp::Add { name, value },
                Operation::Remove(name) => HeaderOp::Remove { name },
            })
        })
        .collect()
}

fn audit(audit: proto::AuditMetadata) -> AuditMetadata {
    AuditMetadata {
        tags: audit.tags,
        rule_ids: audit.rule_ids,
        confidence: audit.confidence.filter(|number| number.is_finite()),
        reason_codes: audit.reason_codes,
        custom: audit
            .custom
            .into_iter()
            .filter(|(key, _)| key != "correlation_id")
            .map(|(key, text)| {
                let value = read_json(&text).unwrap_or_else(|| text.into());
                (key, value)
            })
            .collect(),
    }
}

fn mutation(mutation: proto::BodyMutation) -> BodyMutation {
    match mutation.data {
        Some(data) => BodyMutation::replace(mutation.chunk_index, data),
        None => BodyMutation::pass_through(mutation.chunk_index),
    }
}

fn websocket_decision(decision: ProtoWebSocketDecision) -> Option<WebSocketDecision> {
    Some(match decision {
        ProtoWebSocketDecision::Allow(_) => WebSocketDecision::Allow,
        ProtoWebSocketDecision::Drop(_) => WebSocketDecision::Drop,
        ProtoWebSocketDecision::Close(close) => WebSocketDecision::Close {
            code: close.code.try_into().ok()?,
            reason: close.reason,
        },
    })
}

//! Control messages. They are rare, so they go through generated types.

mod config_updates;
mod convert;
mod health;

pub(in crate::wire) use convert::InProtobuf;

use super::generated as proto;
use super::writer::Writer;
use super::{envelope, json_text};
use crate::protocol::{
    AgentFeatures, CancelReason, CancelRequest, ConfigUpdateResponse, CounterMetric, DrainReason,
    DrainRequest, FlowControl, FlowControlAction, GaugeMetric, HistogramBucket, HistogramMetric,
    LoadMetrics, LogLevel, LogMessage, MetricsReport, Ping, ResourceMetrics, ShutdownReason,
    ShutdownRequest, now_ms,
};
use crate::wire::MessageType;
use crate::wire::decode::{DecodeErrorKind, Decoded};
use convert::{same_fields, same_variants};
use prost::Message;

/// Encodes a generated message in its envelope.
pub(in crate::wire) fn wrap(message: MessageType, content: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    let content = content.encode_to_vec();
    envelope::write(message, None, &mut Writer::new(&mut out), |writer| {
        writer.append(&content);
    });
    out
}

/// Decodes the generated message in an envelope.
pub(in crate::wire) fn unwrap<T: Message + Default>(
    message: MessageType,
    payload: &[u8],
) -> Decoded<T> {
    T::decode(envelope::open(message, payload)?).map_err(|_| DecodeErrorKind::Syntax)
}

same_fields! {
    AgentFeatures {
        streaming_body, websocket, guardrails, config_push, metrics_export, concurrent_requests,
        cancellation, flow_control, health_reporting,
    }
    LoadMetrics {
        in_flight, queue_depth, avg_latency_ms, p50_latency_ms, p95_latency_ms, p99_latency_ms,
        requests_processed, requests_rejected, requests_timed_out,
    }
    ResourceMetrics {
        cpu_percent, memory_bytes, memory_limit, active_threads, open_fds, fd_limit, connections,
    }
    MetricsReport {
        agent_id, timestamp_ms, interval_ms, counters: list, gauges: list, histograms: list,
    }
    CounterMetric { name, help, labels, value }
    GaugeMetric { name, help, labels, value }
    HistogramMetric { name, help, labels, sum, count, buckets: list }
    HistogramBucket { le, count }
    ConfigUpdateResponse { request_id, accepted, error, timestamp_ms }
    DrainRequest { duration_ms, reason: converted, timestamp_ms }
    ShutdownRequest { reason: converted, grace_period_ms, timestamp_ms }
}

same_variants! {
    DrainReason as proto::drain_request::Reason, "reason": [
        ConfigReload, Maintenance, HealthCheckFailed, Manual,
    ]
    ShutdownReason as proto::shutdown_request::Reason, "reason": [
        Graceful, Immediate, ConfigReload, Upgrade,
    ]
    LogLevel as proto::LogLevel, "level": [Debug, Info, Warn, Error]
}

impl InProtobuf for FlowControl {
    type Proto = proto::FlowControlSignal;

    fn to_proto(&self) -> Self::Proto {
        let (action, buffer_available) = match self.action {
            FlowControlAction::Pause => (proto::FlowAction::Pause, None),
            FlowControlAction::Resume => (proto::FlowAction::Resume, None),
            FlowControlAction::UpdateCapacity { buffer_available } => {
                (proto::FlowAction::UpdateCapacity, Some(buffer_available))
            }
        };
        proto::FlowControlSignal {
            correlation_id: self.correlation_id.clone(),
            action: action.into(),
            buffer_available,
            timestamp_ms: self.timestamp_ms,
        }
    }

    fn from_proto(signal: Self::Proto) -> Decoded<Self> {
        let action = match signal.action {
            1 => FlowControlAction::Pause,
            2 => FlowControlAction::Resume,
            3 => FlowControlAction::UpdateCapacity {
                buffer_available: signal.buffer_available.unwrap_or_default(),
            },
            _ => return Err(DecodeErrorKind::UnknownName("action")),
        };
        Ok(Self {
            // Peers that do not track presence write an empty id for an absent one.
            correlation_id: signal.correlation_id.filter(|id| !id.is_empty()),
            action,
            timestamp_ms: signal.timestamp_ms,
        })
    }
}

impl InProtobuf for LogMessage {
    type Proto = proto::LogMessage;

    fn to_proto(&self) -> Self::Proto {
        let mut message = proto::LogMessage {
            level: self.level.to_proto(),
            message: self.message.clone(),
            correlation_id: self.correlation_id.clone(),
            timestamp_ms: self.timestamp_ms,
            ..proto::LogMessage::default()
        };
        let mut others = serde_json::Map::new();
        for (name, value) in &self.fields {
            match value {
                serde_json::Value::String(text) => {
                    message.fields.insert(name.clone(), text.clone());
                }
                value => {
                    others.insert(name.clone(), value.clone());
                }
            }
        }
        if !others.is_empty() {
            message.fields_json = Some(serde_json::Value::Object(others).to_string());
        }
        message
    }

    fn from_proto(message: Self::Proto) -> Decoded<Self> {
        let mut fields = match &message.fields_json {
            Some(text) => json_text::read_map(text)?,
            None => serde_json::Map::new(),
        };
        let texts = message.fields.into_iter();
        fields.extend(texts.map(|(name, text)| (name, text.into())));
        Ok(Self {
            level: LogLevel::from_proto(message.level)?,
            message: message.message,
            correlation_id: message.correlation_id,
            fields,
            timestamp_ms: message.timestamp_ms,
        })
    }
}

pub(in crate::wire) fn encode_cancel(correlation_id: &str, reason: CancelReason) -> Vec<u8> {
    let message = proto::CancelRequest {
        correlation_id: correlation_id.to_owned(),
        // In protobuf 0 is reserved for an unspecified value.
        reason: reason.number() as i32 + 1,
        timestamp_ms: now_ms(),
        ..proto::CancelRequest::default()
    };
    wrap(MessageType::Cancel, &message)
}

pub(in crate::wire) fn decode_cancel(payload: &[u8]) -> Decoded<CancelRequest> {
    let message: proto::CancelRequest = unwrap(MessageType::Cancel, payload)?;
    Ok(CancelRequest {
        correlation_id: message.correlation_id,
        reason: CancelReason::from_number(i64::from(message.reason) - 1)
            .unwrap_or(CancelReason::Manual),
        timestamp_ms: message.timestamp_ms,
    })
}

pub(in crate::wire) fn encode_ping(sequence: u64) -> Vec<u8> {
    let ping = proto::Ping {
        sequence,
        timestamp_ms: now_ms(),
    };
    wrap(MessageType::Ping, &ping)
}

/// Encodes the pong for a ping.
pub(in crate::wire) fn pong(ping: &[u8]) -> Decoded<Vec<u8>> {
    let ping: proto::Ping = unwrap(MessageType::Ping, ping)?;
    let pong = proto::Pong {
        sequence: ping.sequence,
        ping_timestamp_ms: ping.timestamp_ms,
        timestamp_ms: now_ms(),
    };
    Ok(wrap(MessageType::Pong, &pong))
}

pub(in crate::wire) fn decode_pong(payload: &[u8]) -> Decoded<Ping> {
    let pong: proto::Pong = unwrap(MessageType::Pong, payload)?;
    Ok(Ping {
        sequence: pong.sequence,
        timestamp_ms: pong.ping_timestamp_ms,
    })
}

//! Control messages. They are rare, so they go through generated types.

mod config_updates;
mod health;
mod metrics;

pub(in crate::wire) use config_updates::{
    decode_config_response, decode_config_update, encode_config_response, encode_config_update,
};
pub(in crate::wire) use health::{decode_health, encode_health};
pub(in crate::wire) use metrics::{decode_metrics_report, encode_metrics_report};

use super::generated as proto;
use super::writer::Writer;
use super::{envelope, json_text};
use crate::protocol::{
    CancelReason, CancelRequest, DrainReason, DrainRequest, FlowControl, FlowControlAction,
    LogLevel, LogMessage, Ping, ShutdownReason, ShutdownRequest, now_ms,
};
use crate::wire::MessageType;
use crate::wire::decode::DecodeErrorKind;
use prost::Message;

/// Encodes a message in its envelope.
pub(super) fn wrap(message: MessageType, content: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    let content = content.encode_to_vec();
    envelope::write(message, None, &mut Writer::new(&mut out), |writer| {
        writer.append(&content);
    });
    out
}

/// Decodes the message in an envelope.
pub(super) fn unwrap<T: Message + Default>(
    message: MessageType,
    payload: &[u8],
) -> Result<T, DecodeErrorKind> {
    T::decode(envelope::open(message, payload)?).map_err(|_| DecodeErrorKind::Syntax)
}

pub(in crate::wire) fn encode_flow_control(message: &FlowControl) -> Vec<u8> {
    let (action, buffer_available) = match message.action {
        FlowControlAction::Pause => (proto::FlowAction::Pause, None),
        FlowControlAction::Resume => (proto::FlowAction::Resume, None),
        FlowControlAction::UpdateCapacity { buffer_available } => {
            (proto::FlowAction::UpdateCapacity, Some(buffer_available))
        }
    };
    let signal = proto::FlowControlSignal {
        correlation_id: message.correlation_id.clone(),
        action: action.into(),
        buffer_available,
        timestamp_ms: message.timestamp_ms,
    };
    wrap(MessageType::FlowControl, &signal)
}

pub(in crate::wire) fn decode_flow_control(payload: &[u8]) -> Result<FlowControl, DecodeErrorKind> {
    let signal: proto::FlowControlSignal = unwrap(MessageType::FlowControl, payload)?;
    let action = match signal.action {
        1 => FlowControlAction::Pause,
        2 => FlowControlAction::Resume,
        3 => FlowControlAction::UpdateCapacity {
            buffer_available: signal.buffer_available.unwrap_or_default(),
        },
        _ => return Err(DecodeErrorKind::UnknownName("action")),
    };
    Ok(FlowControl {
        // Peers that do not track presence write an empty id for an absent one.
        correlation_id: signal.correlation_id.filter(|id| !id.is_empty()),
        action,
        timestamp_ms: signal.timestamp_ms,
    })
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

pub(in crate::wire) fn decode_cancel(payload: &[u8]) -> Result<CancelRequest, DecodeErrorKind> {
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
pub(in crate::wire) fn pong(ping: &[u8]) -> Result<Vec<u8>, DecodeErrorKind> {
    let ping: proto::Ping = unwrap(MessageType::Ping, ping)?;
    let pong = proto::Pong {
        sequence: ping.sequence,
        ping_timestamp_ms: ping.timestamp_ms,
        timestamp_ms: now_ms(),
    };
    Ok(wrap(MessageType::Pong, &pong))
}

pub(in crate::wire) fn decode_pong(payload: &[u8]) -> Result<Ping, DecodeErrorKind> {
    let pong: proto::Pong = unwrap(MessageType::Pong, payload)?;
    Ok(Ping {
        sequence: pong.sequence,
        timestamp_ms: pong.ping_timestamp_ms,
    })
}

pub(in crate::wire) fn encode_drain(drain: &DrainRequest) -> Vec<u8> {
    let reason = match drain.reason {
        DrainReason::ConfigReload => proto::drain_request::Reason::ConfigReload,
        DrainReason::Maintenance => proto::drain_request::Reason::Maintenance,
        DrainReason::HealthCheckFailed => proto::drain_request::Reason::HealthCheckFailed,
        DrainReason::Manual => proto::drain_request::Reason::Manual,
    };
    let message = proto::DrainRequest {
        duration_ms: drain.duration_ms,
        reason: reason.into(),
        timestamp_ms: drain.timestamp_ms,
    };
    wrap(MessageType::Drain, &message)
}

pub(in crate::wire) fn decode_drain(payload: &[u8]) -> Result<DrainRequest, DecodeErrorKind> {
    let message: proto::DrainRequest = unwrap(MessageType::Drain, payload)?;
    let reason = match proto::drain_request::Reason::try_from(message.reason) {
        Ok(proto::drain_request::Reason::ConfigReload) => DrainReason::ConfigReload,
        Ok(proto::drain_request::Reason::Maintenance) => DrainReason::Maintenance,
        Ok(proto::drain_request::Reason::HealthCheckFailed) => DrainReason::HealthCheckFailed,
        Ok(proto::drain_request::Reason::Manual) => DrainReason::Manual,
        Ok(proto::drain_request::Reason::Unspecified) | Err(_) => {
            return Err(DecodeErrorKind::UnknownName("reason"));
        }
    };
    Ok(DrainRequest {
        duration_ms: message.duration_ms,
        reason,
        timestamp_ms: message.timestamp_ms,
    })
}

pub(in crate::wire) fn encode_shutdown(shutdown: &ShutdownRequest) -> Vec<u8> {
    let reason = match shutdown.reason {
        ShutdownReason::Graceful => proto::shutdown_request::Reason::Graceful,
        ShutdownReason::Immediate => proto::shutdown_request::Reason::Immediate,
        ShutdownReason::ConfigReload => proto::shutdown_request::Reason::ConfigReload,
        ShutdownReason::Upgrade => proto::shutdown_request::Reason::Upgrade,
    };
    let message = proto::ShutdownRequest {
        reason: reason.into(),
        grace_period_ms: shutdown.grace_period_ms,
        timestamp_ms: shutdown.timestamp_ms,
    };
    wrap(MessageType::Shutdown, &message)
}

pub(in crate::wire) fn decode_shutdown(payload: &[u8]) -> Result<ShutdownRequest, DecodeErrorKind> {
    let message: proto::ShutdownRequest = unwrap(MessageType::Shutdown, payload)?;
    let reason = match proto::shutdown_request::Reason::try_from(message.reason) {
        Ok(proto::shutdown_request::Reason::Graceful) => ShutdownReason::Graceful,
        Ok(proto::shutdown_request::Reason::Immediate) => ShutdownReason::Immediate,
        Ok(proto::shutdown_request::Reason::ConfigReload) => ShutdownReason::ConfigReload,
        Ok(proto::shutdown_request::Reason::Upgrade) => ShutdownReason::Upgrade,
        Ok(proto::shutdown_request::Reason::Unspecified) | Err(_) => {
            return Err(DecodeErrorKind::UnknownName("reason"));
        }
    };
    Ok(ShutdownRequest {
        reason,
        grace_period_ms: message.grace_period_ms,
        timestamp_ms: message.timestamp_ms,
    })
}

pub(in crate::wire) fn encode_log(line: &LogMessage) -> Vec<u8> {
    let level = match line.level {
        LogLevel::Debug => proto::LogLevel::Debug,
        LogLevel::Info => proto::LogLevel::Info,
        LogLevel::Warn => proto::LogLevel::Warn,
        LogLevel::Error => proto::LogLevel::Error,
    };
    let mut message = proto::LogMessage {
        level: level.into(),
        message: line.message.clone(),
        correlation_id: line.correlation_id.clone(),
        timestamp_ms: line.timestamp_ms,
        ..proto::LogMessage::default()
    };
    let mut others = serde_json::Map::new();
    for (name, value) in &line.fields {
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
    wrap(MessageType::Log, &message)
}

pub(in crate::wire) fn decode_log(payload: &[u8]) -> Result<LogMessage, DecodeErrorKind> {
    let message: proto::LogMessage = unwrap(MessageType::Log, payload)?;
    let level = match proto::LogLevel::try_from(message.level) {
        Ok(proto::LogLevel::Debug) => LogLevel::Debug,
        Ok(proto::LogLevel::Info) => LogLevel::Info,
        Ok(proto::LogLevel::Warn) => LogLevel::Warn,
        Ok(proto::LogLevel::Error) => LogLevel::Error,
        Ok(proto::LogLevel::Unspecified) | Err(_) => {
            return Err(DecodeErrorKind::UnknownName("level"));
        }
    };
    let mut fields = match &message.fields_json {
        Some(text) => json_text::read_map(text)?,
        None => serde_json::Map::new(),
    };
    let texts = message.fields.into_iter();
    fields.extend(texts.map(|(name, text)| (name, text.into())));
    Ok(LogMessage {
        level,
        message: message.message,
        correlation_id: message.correlation_id,
        fields,
        timestamp_ms: message.timestamp_ms,
    })
}

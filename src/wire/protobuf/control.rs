//! Control messages. They are rare, so they pass through generated types.

use super::generated as proto;
use super::generated::config_update_request::UpdateType;
use super::writer::Writer;
use super::{envelope, json_text};
use crate::protocol::{
    CancelReason, CancelRequest, ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType,
    CounterMetric, DrainReason, DrainRequest, FlowControl, FlowControlAction, GaugeMetric,
    HealthState, HealthStatus, HistogramBucket, HistogramMetric, LoadMetrics, LogLevel, LogMessage,
    MetricsReport, Ping, ResourceMetrics, RuleDefinition, ShutdownReason, ShutdownRequest, now_ms,
};
use crate::wire::MessageType;
use crate::wire::decode::DecodeErrorKind;
use prost::Message;

/// The payload of a message: it in its envelope.
pub(super) fn wrap(message: MessageType, content: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    let content = content.encode_to_vec();
    envelope::write(message, None, &mut Writer::new(&mut out), |writer| {
        writer.append(&content);
    });
    out
}

/// Reads the message in an envelope.
pub(super) fn unwrap<T: Message + Default>(
    message: MessageType,
    payload: &[u8],
) -> Result<T, DecodeErrorKind> {
    T::decode(envelope::open(message, payload)?).map_err(|_| DecodeErrorKind::Syntax)
}

pub(in crate::wire) fn encode_health(status: &HealthStatus) -> Vec<u8> {
    let mut message = proto::HealthStatus {
        agent_id: status.agent_id.clone(),
        state: status.state.number() as i32,
        message: status.message.clone(),
        load: status.load.as_ref().map(load_to),
        resources: status.resources.as_ref().map(resources_to),
        valid_until_ms: status.valid_until_ms,
        timestamp_ms: status.timestamp_ms,
        ..proto::HealthStatus::default()
    };
    match &status.state {
        HealthState::Healthy => {}
        HealthState::Degraded {
            disabled_features,
            timeout_multiplier,
        } => {
            message.disabled_features.clone_from(disabled_features);
            message.timeout_multiplier = *timeout_multiplier;
        }
        HealthState::Draining { eta_ms } => message.drain_eta_ms = *eta_ms,
        HealthState::Unhealthy {
            reason,
            recoverable,
        } => {
            message.unhealthy_reason = Some(reason.clone());
            message.recoverable = *recoverable;
        }
    }
    wrap(MessageType::HealthStatus, &message)
}

pub(in crate::wire) fn decode_health(payload: &[u8]) -> Result<HealthStatus, DecodeErrorKind> {
    let message: proto::HealthStatus = unwrap(MessageType::HealthStatus, payload)?;
    let state = HealthState::from_number(i64::from(message.state))
        .ok_or(DecodeErrorKind::UnknownName("state"))?;
    let state = match state {
        HealthState::Healthy => state,
        HealthState::Degraded {
            timeout_multiplier: unstretched,
            ..
        } => HealthState::Degraded {
            disabled_features: message.disabled_features,
            // 0 is what stands there if an agent says nothing.
            timeout_multiplier: match message.timeout_multiplier {
                0.0 => unstretched,
                multiplier => multiplier,
            },
        },
        HealthState::Draining { .. } => HealthState::Draining {
            eta_ms: message.drain_eta_ms,
        },
        HealthState::Unhealthy { .. } => HealthState::Unhealthy {
            reason: message.unhealthy_reason.unwrap_or_default(),
            recoverable: message.recoverable,
        },
    };
    Ok(HealthStatus {
        agent_id: message.agent_id,
        state,
        message: message.message,
        load: message.load.map(load_from),
        resources: message.resources.map(resources_from),
        valid_until_ms: message.valid_until_ms,
        timestamp_ms: message.timestamp_ms,
    })
}

fn load_to(load: &LoadMetrics) -> proto::LoadMetrics {
    proto::LoadMetrics {
        in_flight: load.in_flight,
        queue_depth: load.queue_depth,
        avg_latency_ms: load.avg_latency_ms,
        p50_latency_ms: load.p50_latency_ms,
        p95_latency_ms: load.p95_latency_ms,
        p99_latency_ms: load.p99_latency_ms,
        requests_processed: load.requests_processed,
        requests_rejected: load.requests_rejected,
        requests_timed_out: load.requests_timed_out,
    }
}

fn load_from(load: proto::LoadMetrics) -> LoadMetrics {
    LoadMetrics {
        in_flight: load.in_flight,
        queue_depth: load.queue_depth,
        avg_latency_ms: load.avg_latency_ms,
        p50_latency_ms: load.p50_latency_ms,
        p95_latency_ms: load.p95_latency_ms,
        p99_latency_ms: load.p99_latency_ms,
        requests_processed: load.requests_processed,
        requests_rejected: load.requests_rejected,
        requests_timed_out: load.requests_timed_out,
    }
}

fn resources_to(used: &ResourceMetrics) -> proto::ResourceMetrics {
    proto::ResourceMetrics {
        cpu_percent: used.cpu_percent,
        memory_bytes: used.memory_bytes,
        memory_limit: used.memory_limit,
        active_threads: used.active_threads,
        open_fds: used.open_fds,
        fd_limit: used.fd_limit,
        connections: used.connections,
    }
}

fn resources_from(used: proto::ResourceMetrics) -> ResourceMetrics {
    ResourceMetrics {
        cpu_percent: used.cpu_percent,
        memory_bytes: used.memory_bytes,
        memory_limit: used.memory_limit,
        active_threads: used.active_threads,
        open_fds: used.open_fds,
        fd_limit: used.fd_limit,
        connections: used.connections,
    }
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
        // Languages without presence write an empty id for none.
        correlation_id: signal.correlation_id.filter(|id| !id.is_empty()),
        action,
        timestamp_ms: signal.timestamp_ms,
    })
}

pub(in crate::wire) fn encode_cancel(correlation_id: &str, reason: CancelReason) -> Vec<u8> {
    let message = proto::CancelRequest {
        correlation_id: correlation_id.to_owned(),
        // Protobuf keeps 0 for none.
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

/// The answer to a ping.
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

pub(in crate::wire) fn encode_metrics_report(report: &MetricsReport) -> Vec<u8> {
    let message = proto::MetricsReport {
        agent_id: report.agent_id.clone(),
        timestamp_ms: report.timestamp_ms,
        interval_ms: report.interval_ms,
        counters: report
            .counters
            .iter()
            .map(|counter| proto::CounterMetric {
                name: counter.name.clone(),
                help: counter.help.clone(),
                labels: counter.labels.clone(),
                value: counter.value,
            })
            .collect(),
        gauges: report
            .gauges
            .iter()
            .map(|gauge| proto::GaugeMetric {
                name: gauge.name.clone(),
                help: gauge.help.clone(),
                labels: gauge.labels.clone(),
                value: gauge.value,
            })
            .collect(),
        histograms: report
            .histograms
            .iter()
            .map(|histogram| proto::HistogramMetric {
                name: histogram.name.clone(),
                help: histogram.help.clone(),
                labels: histogram.labels.clone(),
                sum: histogram.sum,
                count: histogram.count,
                buckets: histogram
                    .buckets
                    .iter()
                    .map(|bucket| proto::HistogramBucket {
                        le: bucket.le,
                        count: bucket.count,
                    })
                    .collect(),
            })
            .collect(),
    };
    wrap(MessageType::MetricsReport, &message)
}

pub(in crate::wire) fn decode_metrics_report(
    payload: &[u8],
) -> Result<MetricsReport, DecodeErrorKind> {
    let report: proto::MetricsReport = unwrap(MessageType::MetricsReport, payload)?;
    Ok(MetricsReport {
        agent_id: report.agent_id,
        timestamp_ms: report.timestamp_ms,
        interval_ms: report.interval_ms,
        counters: report
            .counters
            .into_iter()
            .map(|counter| CounterMetric {
                name: counter.name,
                help: counter.help,
                labels: counter.labels,
                value: counter.value,
            })
            .collect(),
        gauges: report
            .gauges
            .into_iter()
            .map(|gauge| GaugeMetric {
                name: gauge.name,
                help: gauge.help,
                labels: gauge.labels,
                value: gauge.value,
            })
            .collect(),
        histograms: report
            .histograms
            .into_iter()
            .map(|histogram| HistogramMetric {
                name: histogram.name,
                help: histogram.help,
                labels: histogram.labels,
                sum: histogram.sum,
                count: histogram.count,
                buckets: histogram
                    .buckets
                    .into_iter()
                    .map(|bucket| HistogramBucket {
                        le: bucket.le,
                        count: bucket.count,
                    })
                    .collect(),
            })
            .collect(),
    })
}

pub(in crate::wire) fn encode_config_update(request: &ConfigUpdateRequest) -> Vec<u8> {
    let update_type = match request.update_type.clone() {
        ConfigUpdateType::RequestReload => UpdateType::RequestReload(proto::RequestReload {}),
        ConfigUpdateType::RuleUpdate {
            rule_set,
            rules,
            remove_rules,
        } => UpdateType::RuleUpdate(proto::RuleUpdate {
            rule_set,
            rules: rules.into_iter().map(rule_to).collect(),
            remove_rules,
        }),
        ConfigUpdateType::ListUpdate {
            list_id,
            add,
            remove,
        } => UpdateType::ListUpdate(proto::ListUpdate {
            list_id,
            add,
            remove,
        }),
        ConfigUpdateType::RestartRequired {
            reason,
            grace_period_ms,
        } => UpdateType::RestartRequired(proto::RestartRequired {
            reason,
            grace_period_ms,
        }),
        ConfigUpdateType::ConfigError { error, field } => {
            UpdateType::ConfigError(proto::ConfigError { error, field })
        }
    };
    let message = proto::ConfigUpdateRequest {
        request_id: request.request_id.clone(),
        timestamp_ms: request.timestamp_ms,
        update_type: Some(update_type),
    };
    wrap(MessageType::ConfigUpdateRequest, &message)
}

pub(in crate::wire) fn decode_config_update(
    payload: &[u8],
) -> Result<ConfigUpdateRequest, DecodeErrorKind> {
    let message: proto::ConfigUpdateRequest = unwrap(MessageType::ConfigUpdateRequest, payload)?;
    let update_type = match message.update_type {
        None => return Err(DecodeErrorKind::Missing("update_type")),
        Some(UpdateType::RequestReload(_)) => ConfigUpdateType::RequestReload,
        Some(UpdateType::RuleUpdate(update)) => ConfigUpdateType::RuleUpdate {
            rule_set: update.rule_set,
            rules: update
                .rules
                .into_iter()
                .map(rule_from)
                .collect::<Result<_, _>>()?,
            remove_rules: update.remove_rules,
        },
        Some(UpdateType::ListUpdate(update)) => ConfigUpdateType::ListUpdate {
            list_id: update.list_id,
            add: update.add,
            remove: update.remove,
        },
        Some(UpdateType::RestartRequired(restart)) => ConfigUpdateType::RestartRequired {
            reason: restart.reason,
            grace_period_ms: restart.grace_period_ms,
        },
        Some(UpdateType::ConfigError(error)) => ConfigUpdateType::ConfigError {
            error: error.error,
            field: error.field,
        },
    };
    Ok(ConfigUpdateRequest {
        update_type,
        request_id: message.request_id,
        timestamp_ms: message.timestamp_ms,
    })
}

pub(in crate::wire) fn encode_config_response(response: &ConfigUpdateResponse) -> Vec<u8> {
    let message = proto::ConfigUpdateResponse {
        request_id: response.request_id.clone(),
        accepted: response.accepted,
        error: response.error.clone(),
        timestamp_ms: response.timestamp_ms,
    };
    wrap(MessageType::ConfigUpdateResponse, &message)
}

pub(in crate::wire) fn decode_config_response(
    payload: &[u8],
) -> Result<ConfigUpdateResponse, DecodeErrorKind> {
    let message: proto::ConfigUpdateResponse = unwrap(MessageType::ConfigUpdateResponse, payload)?;
    Ok(ConfigUpdateResponse {
        request_id: message.request_id,
        accepted: message.accepted,
        error: message.error,
        timestamp_ms: message.timestamp_ms,
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

fn rule_to(rule: RuleDefinition) -> proto::RuleDefinition {
    proto::RuleDefinition {
        id: rule.id,
        priority: rule.priority,
        definition_json: rule.definition.to_string(),
        enabled: rule.enabled,
        description: rule.description,
        tags: rule.tags,
    }
}

fn rule_from(rule: proto::RuleDefinition) -> Result<RuleDefinition, DecodeErrorKind> {
    Ok(RuleDefinition {
        id: rule.id,
        priority: rule.priority,
        definition: match rule.definition_json.as_str() {
            "" => serde_json::Value::Null,
            text => json_text::read(text)?,
        },
        enabled: rule.enabled,
        description: rule.description,
        tags: rule.tags,
    })
}

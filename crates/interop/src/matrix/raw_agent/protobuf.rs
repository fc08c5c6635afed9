//! What an agent says, in the published messages. Written apart from the library, which it is to check.

#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    reason = "made by prost-build"
)]
#[path = "../../../../../src/wire/protobuf/generated.rs"]
#[rustfmt::skip]
pub(super) mod generated;

use super::super::notice::Message as Notice;
use generated::agent_response::Decision;
use generated::agent_to_proxy::Message;
use generated::config_update_request::UpdateType;
use generated::{
    AgentCapabilities, AgentFeatures, AgentLimits, AgentResponse, AllowDecision, ConfigError,
    ConfigUpdateRequest, CounterMetric, FlowControlSignal, GaugeMetric, HandshakeResponse,
    HealthStatus, HistogramBucket, HistogramMetric, ListUpdate, MetricsReport, RequestReload,
    RestartRequired, RuleDefinition, RuleUpdate,
};
use tollgate::{ConfigUpdateType, FlowControl, FlowControlAction, HealthState};

/// The handshake response of the published server.
pub(super) fn accept() -> Message {
    Message::Handshake(HandshakeResponse {
        protocol_version: 2,
        capabilities: Some(AgentCapabilities {
            protocol_version: 2,
            agent_id: "raw".to_owned(),
            name: "Raw".to_owned(),
            version: "0".to_owned(),
            supported_events: vec![1],
            features: Some(AgentFeatures {
                streaming_body: true,
                websocket: true,
                guardrails: true,
                config_push: true,
                metrics_export: true,
                concurrent_requests: 100,
                cancellation: true,
                flow_control: true,
                health_reporting: true,
            }),
            limits: Some(AgentLimits {
                max_body_size: 10_485_760,
                max_concurrency: 100,
                preferred_chunk_size: 65_536,
                ..AgentLimits::default()
            }),
            health_config: None,
        }),
        success: true,
        ..HandshakeResponse::default()
    })
}

pub(super) fn allow(correlation_id: String) -> Message {
    Message::Response(AgentResponse {
        correlation_id,
        decision: Some(Decision::Allow(AllowDecision {})),
        ..AgentResponse::default()
    })
}

/// What is said unasked.
pub(super) fn said(notice: &Notice) -> Message {
    match notice {
        Notice::Health(status) => Message::Health(health(status)),
        Notice::Metrics(report) => Message::Metrics(metrics(report)),
        Notice::ConfigUpdate(request) => Message::ConfigUpdate(config_update(request)),
        Notice::Flow(flow) => Message::FlowControl(flow_control(flow)),
    }
}

fn health(status: &tollgate::HealthStatus) -> HealthStatus {
    let common = HealthStatus {
        agent_id: status.agent_id.clone(),
        state: i32::try_from(status.state.number()).expect("states have small numbers"),
        message: status.message.clone(),
        timestamp_ms: status.timestamp_ms,
        ..HealthStatus::default()
    };
    match status.state.clone() {
        HealthState::Healthy => common,
        HealthState::Degraded {
            disabled_features,
            timeout_multiplier,
        } => HealthStatus {
            disabled_features,
            timeout_multiplier,
            ..common
        },
        HealthState::Draining { eta_ms } => HealthStatus {
            drain_eta_ms: eta_ms,
            ..common
        },
        HealthState::Unhealthy {
            reason,
            recoverable,
        } => HealthStatus {
            unhealthy_reason: Some(reason),
            recoverable,
            ..common
        },
    }
}

fn metrics(report: &tollgate::MetricsReport) -> MetricsReport {
    let counter = |metric: &tollgate::CounterMetric| CounterMetric {
        name: metric.name.clone(),
        help: metric.help.clone(),
        labels: metric.labels.clone(),
        value: metric.value,
    };
    let gauge = |metric: &tollgate::GaugeMetric| GaugeMetric {
        name: metric.name.clone(),
        help: metric.help.clone(),
        labels: metric.labels.clone(),
        value: metric.value,
    };
    let bucket = |bucket: &tollgate::HistogramBucket| HistogramBucket {
        le: bucket.le,
        count: bucket.count,
    };
    let histogram = |metric: &tollgate::HistogramMetric| HistogramMetric {
        name: metric.name.clone(),
        help: metric.help.clone(),
        labels: metric.labels.clone(),
        sum: metric.sum,
        count: metric.count,
        buckets: metric.buckets.iter().map(bucket).collect(),
    };
    MetricsReport {
        agent_id: report.agent_id.clone(),
        timestamp_ms: report.timestamp_ms,
        interval_ms: report.interval_ms,
        counters: report.counters.iter().map(counter).collect(),
        gauges: report.gauges.iter().map(gauge).collect(),
        histograms: report.histograms.iter().map(histogram).collect(),
    }
}

fn config_update(request: &tollgate::ConfigUpdateRequest) -> ConfigUpdateRequest {
    ConfigUpdateRequest {
        request_id: request.request_id.clone(),
        timestamp_ms: request.timestamp_ms,
        update_type: Some(update(request.update_type.clone())),
    }
}

fn update(update: ConfigUpdateType) -> UpdateType {
    match update {
        ConfigUpdateType::RequestReload => UpdateType::RequestReload(RequestReload {}),
        ConfigUpdateType::RuleUpdate {
            rule_set,
            rules,
            remove_rules,
        } => UpdateType::RuleUpdate(RuleUpdate {
            rule_set,
            rules: rules.into_iter().map(rule).collect(),
            remove_rules,
        }),
        ConfigUpdateType::ListUpdate {
            list_id,
            add,
            remove,
        } => UpdateType::ListUpdate(ListUpdate {
            list_id,
            add,
            remove,
        }),
        ConfigUpdateType::RestartRequired {
            reason,
            grace_period_ms,
        } => UpdateType::RestartRequired(RestartRequired {
            reason,
            grace_period_ms,
        }),
        ConfigUpdateType::ConfigError { error, field } => {
            UpdateType::ConfigError(ConfigError { error, field })
        }
    }
}

fn rule(rule: tollgate::RuleDefinition) -> RuleDefinition {
    RuleDefinition {
        id: rule.id,
        priority: rule.priority,
        definition_json: rule.definition.to_string(),
        enabled: rule.enabled,
        description: rule.description,
        tags: rule.tags,
    }
}

fn flow_control(flow: &FlowControl) -> FlowControlSignal {
    let (action, buffer_available) = match flow.action {
        FlowControlAction::Pause => (1, None),
        FlowControlAction::Resume => (2, None),
        FlowControlAction::UpdateCapacity { buffer_available } => (3, Some(buffer_available)),
    };
    FlowControlSignal {
        correlation_id: flow.correlation_id.clone(),
        action,
        buffer_available,
        timestamp_ms: flow.timestamp_ms,
    }
}

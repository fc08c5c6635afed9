use serde_json::json;
use std::collections::HashMap;
use tollgate::{
    AgentControl,
    control::{
        ConfigUpdateRequest, ConfigUpdateType, CounterMetric, FlowControl, FlowControlAction,
        GaugeMetric, HealthState, HealthStatus, HistogramBucket, HistogramMetric, MetricsReport,
        RuleDefinition,
    },
};

/// Unsolicited message of an agent, or a sequence of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The agent is unhealthy.
    Unhealthy,
    /// The agent is degraded.
    Degraded,
    /// The agent is draining.
    Draining,
    /// The agent is healthy.
    Healthy,
    /// A metrics report.
    Metrics,
    /// One config update request of each kind.
    ConfigUpdates,
    /// Pause, and then resume.
    Pause,
    /// Pause, and then resume one exchange.
    PauseOne,
    /// Capacity 0, and then more.
    NoCapacity,
    /// Capacity 0, and then more, for one exchange.
    NoCapacityForOne,
}

/// One message of a notice.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Health(HealthStatus),
    Metrics(MetricsReport),
    ConfigUpdate(ConfigUpdateRequest),
    Flow(FlowControl),
}

impl Message {
    pub(super) fn send(self, control: &AgentControl) {
        match self {
            Self::Health(status) => control.report_health(status),
            Self::Metrics(report) => control.report_metrics(report),
            Self::ConfigUpdate(request) => control.request_config_update(request),
            Self::Flow(FlowControl {
                correlation_id: Some(id),
                action,
                ..
            }) => control.flow_control_for(id, action),
            Self::Flow(FlowControl { action, .. }) => control.flow_control(action),
        }
    }

    /// Returns the messages that pause and resume an exchange or, depending on the notice, all.
    pub(super) fn pause_and_resume(notice: Notice, exchange: &str) -> [Self; 2] {
        let capacity = |buffer_available| FlowControlAction::UpdateCapacity { buffer_available };
        let actions = match notice {
            Notice::NoCapacity | Notice::NoCapacityForOne => [capacity(0), capacity(8)],
            _ => [FlowControlAction::Pause, FlowControlAction::Resume],
        };
        actions.map(|action| Self::flow(notice, action, exchange))
    }

    fn flow(notice: Notice, action: FlowControlAction, exchange: &str) -> Self {
        let is_for_one_exchange = matches!(notice, Notice::PauseOne | Notice::NoCapacityForOne);
        Self::Flow(FlowControl {
            correlation_id: is_for_one_exchange.then(|| exchange.to_owned()),
            ..FlowControl::for_all(action)
        })
    }
}

/// Returns the health report of a notice, if it is one.
pub(super) fn health(notice: Notice) -> Option<HealthStatus> {
    let state = match notice {
        Notice::Healthy => HealthState::Healthy,
        Notice::Degraded => HealthState::Degraded {
            disabled_features: vec!["ml".to_owned()],
            timeout_multiplier: 2.5,
        },
        Notice::Draining => HealthState::Draining {
            eta_ms: Some(5_000),
        },
        Notice::Unhealthy => HealthState::Unhealthy {
            reason: "no rules".to_owned(),
            recoverable: true,
        },
        _ => return None,
    };
    Some(HealthStatus {
        message: Some("as it is".to_owned()),
        timestamp_ms: TIMESTAMP_MS,
        ..HealthStatus::new("recorder", state)
    })
}

/// Returns a metrics report with one metric of each kind.
pub(super) fn metrics() -> MetricsReport {
    let help = || Some("what it says".to_owned());
    let labels = || HashMap::from([("rule".to_owned(), "1".to_owned())]);
    let bucket = |le, count| HistogramBucket { le, count };
    MetricsReport {
        timestamp_ms: TIMESTAMP_MS,
        counters: vec![CounterMetric {
            name: "blocked".to_owned(),
            help: help(),
            labels: labels(),
            value: 7,
        }],
        gauges: vec![GaugeMetric {
            name: "queue".to_owned(),
            help: help(),
            labels: labels(),
            value: 1.5,
        }],
        histograms: vec![HistogramMetric {
            name: "latency".to_owned(),
            help: help(),
            labels: labels(),
            sum: 4.25,
            count: 3,
            buckets: vec![bucket(0.5, 1), bucket(f64::INFINITY, 3)],
        }],
        ..MetricsReport::new("recorder", 1_000)
    }
}

/// Returns a config update request of each kind.
pub(super) fn config_updates() -> Vec<ConfigUpdateRequest> {
    let strings = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let rule = RuleDefinition {
        id: "r-1".to_owned(),
        priority: -1,
        definition: json!({"match": ["a", 1, null]}),
        enabled: true,
        description: Some("first".to_owned()),
        tags: strings(&["t"]),
    };
    let kinds = [
        ConfigUpdateType::RequestReload,
        ConfigUpdateType::RuleUpdate {
            rule_set: "waf".to_owned(),
            rules: vec![rule],
            remove_rules: strings(&["r-0"]),
        },
        ConfigUpdateType::ListUpdate {
            list_id: "denied".to_owned(),
            add: strings(&["198.51.100.23"]),
            remove: strings(&["203.0.113.7"]),
        },
        ConfigUpdateType::RestartRequired {
            reason: "new version".to_owned(),
            grace_period_ms: 1_000,
        },
        ConfigUpdateType::ConfigError {
            error: "no such rule".to_owned(),
            field: Some("rules".to_owned()),
        },
    ];
    let request = |(number, update_type)| ConfigUpdateRequest {
        update_type,
        request_id: format!("update-{number}"),
        timestamp_ms: TIMESTAMP_MS,
    };
    (0..)
        .zip(kinds)
        .map(|(number, kind): (u32, _)| request((number, kind)))
        .collect()
}

const TIMESTAMP_MS: u64 = 1_767_323_045_678;

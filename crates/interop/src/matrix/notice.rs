use serde_json::json;
use std::collections::HashMap;
use tollgate::{
    AgentControl, ConfigUpdateRequest, ConfigUpdateType, CounterMetric, FlowControl,
    FlowControlAction, GaugeMetric, HealthState, HealthStatus, HistogramBucket, HistogramMetric,
    MetricsReport, RuleDefinition,
};

/// Something that an agent says unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It does not work.
    Unhealthy,
    /// It works, but badly.
    Degraded,
    /// It finishes what it has.
    Draining,
    /// It works.
    Healthy,
    /// A metrics report.
    Metrics,
    /// One config update request of each kind.
    ConfigUpdates,
    /// Nothing more, and then go on.
    Pause,
    /// The same for one exchange.
    PauseOne,
    /// There is no room, and then there is some.
    NoRoom,
    /// The same for one exchange.
    NoRoomForOne,
}

/// A message that says it, or a part of it.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Health(HealthStatus),
    Metrics(MetricsReport),
    ConfigUpdate(ConfigUpdateRequest),
    Flow(FlowControl),
}

impl Message {
    pub(super) fn tell(self, control: &AgentControl) {
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

    /// Asks to send nothing more of an exchange, or of any, and takes that back.
    pub(super) fn stop_and_go_on(notice: Notice, exchange: &str) -> [Self; 2] {
        let room = |buffer_available| FlowControlAction::UpdateCapacity { buffer_available };
        let actions = match notice {
            Notice::NoRoom | Notice::NoRoomForOne => [room(0), room(8)],
            _ => [FlowControlAction::Pause, FlowControlAction::Resume],
        };
        actions.map(|action| Self::flow(notice, action, exchange))
    }

    fn flow(notice: Notice, action: FlowControlAction, exchange: &str) -> Self {
        let is_for_one = matches!(notice, Notice::PauseOne | Notice::NoRoomForOne);
        Self::Flow(FlowControl {
            correlation_id: is_for_one.then(|| exchange.to_owned()),
            ..FlowControl::for_all(action)
        })
    }
}

/// The state that a health report gives.
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
        timestamp_ms: SOME_TIME,
        ..HealthStatus::new("recorder", state)
    })
}

/// A metrics report with one of each kind of metric.
pub(super) fn metrics() -> MetricsReport {
    let help = || Some("what it says".to_owned());
    let labels = || HashMap::from([("rule".to_owned(), "1".to_owned())]);
    let bucket = |le, count| HistogramBucket { le, count };
    MetricsReport {
        timestamp_ms: SOME_TIME,
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

/// A request for each kind of change.
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
        timestamp_ms: SOME_TIME,
    };
    (0..)
        .zip(kinds)
        .map(|(number, kind): (u32, _)| request((number, kind)))
        .collect()
}

const SOME_TIME: u64 = 1_767_323_045_678;

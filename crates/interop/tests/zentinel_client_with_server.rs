//! The two clients of `zentinel-agent-protocol` make every kind of call to tollgate's agent server:
//! each event and each answer arrives as it was sent.

use serde_json::{Value, json};
use tollgate::{
    AgentControl,
    control::{
        ConfigUpdateRequest, ConfigUpdateType, CounterMetric, FlowControlAction, HealthStatus,
        MetricsReport,
    },
};
use tollgate_interop::{Pairing, RecordingServer, Step, Via, pairings, run_client, script};

#[tokio::test]
async fn every_call_of_the_client() {
    for pairing in pairings() {
        every_call(&pairing, Via::Client).await;
    }
}

#[tokio::test]
async fn every_call_of_the_pool() {
    for pairing in pairings() {
        every_call(&pairing, Via::Pool).await;
    }
}

async fn every_call(pairing: &Pairing, via: Via) {
    let server = RecordingServer::serve(pairing.ours, |_| {}).await;
    let mut lines = run_client(&pairing.peer(), via, server.socket()).await;
    let records = server.stop().await;

    assert_eq!(lines.pop(), Some(json!({"call": "end", "ok": true})));
    check_connected(pairing, &lines.remove(0));
    let steps = script();
    let printed: Vec<_> = steps.iter().map(|step| step.line(via)).collect();
    lines.iter_mut().for_each(without_error_text);
    assert_eq!(lines, printed, "{pairing}");
    let was_made = |step: &&Step| step.line(via)["ok"] == true;
    let logged: Vec<_> = steps
        .iter()
        .filter(was_made)
        .filter_map(Step::logged)
        .collect();
    assert_eq!(records, logged, "{pairing}");
}

/// Removes the error text from a line about an unsupported call.
fn without_error_text(line: &mut Value) {
    if let Some(line) = line.as_object_mut().filter(|line| line["ok"] == false) {
        line.remove("error");
    }
}

/// Checks that the client decoded the handshake.
fn check_connected(pairing: &Pairing, line: &Value) {
    assert_eq!(line["call"], "connect");
    assert_eq!(line["ok"], true, "{line}");
    assert_eq!(line["encoding"], pairing.agreed.as_str());
    let capabilities = &line["capabilities"];
    assert_eq!(capabilities["agent_id"], "recorder");
    assert_eq!(capabilities["name"], "Recorder");
    assert_eq!(capabilities["version"], "1.2.3");
    assert_eq!(capabilities["protocol_version"], 2);
    assert_eq!(capabilities["features"]["concurrent_requests"], 100);
    assert_eq!(capabilities["features"]["health_reporting"], true);
    assert_eq!(capabilities["limits"]["max_body_size"], 10 * 1024 * 1024);
    let events = capabilities["supported_events"].as_array();
    for event in [
        "request_headers",
        "response_body_chunk",
        "guardrail_inspect",
    ] {
        let has_event = |events: &Vec<Value>| events.contains(&json!(event));
        assert!(events.is_some_and(has_event), "{event}: {line}");
    }
}

/// Unsolicited messages of the agent arrive and do not disturb calls.
#[tokio::test]
async fn unsolicited_messages_arrive() {
    for pairing in pairings() {
        let server = RecordingServer::serve(pairing.ours, send_all_notices).await;
        let lines = run_client(&pairing.peer(), Via::Client, server.socket()).await;
        server.stop().await;

        let pushed = |kind| lines.iter().find(|line| line["push"] == kind);
        let report = &pushed("metrics_report").expect("a metrics report")["value"];
        assert_eq!(report["agent_id"], "recorder");
        assert_eq!(report["interval_ms"], 1000);
        assert_eq!(report["counters"][0]["name"], "blocked");
        assert_eq!(report["counters"][0]["value"], 7);
        let update = &pushed("config_update").expect("a config update")["value"];
        assert_eq!(update["request_id"], "update-1");
        assert_eq!(update["update_type"], json!({"type": "request_reload"}));
        let failed = |line: &&Value| line["ok"] == false;
        assert_eq!(lines.iter().find(failed), None, "{pairing}");
    }
}

fn send_all_notices(control: &AgentControl) {
    control.report_health(HealthStatus::healthy("recorder"));
    control.flow_control(FlowControlAction::Resume);
    control.request_config_update(ConfigUpdateRequest {
        update_type: ConfigUpdateType::RequestReload,
        request_id: "update-1".to_owned(),
        timestamp_ms: tollgate::events::now_ms(),
    });
    let mut report = MetricsReport::new("recorder", 1000);
    report.counters.push(CounterMetric {
        name: "blocked".to_owned(),
        help: None,
        labels: [("rule".to_owned(), "1".to_owned())].into(),
        value: 7,
    });
    control.report_metrics(report);
}

//! Peers that send a lot of what is logged cause few lines, and none of them is long.

use crate::common::*;
use serde_json::{Value, json};
use tollgate::config_push::ConfigUpdateHandler;
use tollgate::control::{ConfigUpdateRequest, ConfigUpdateType};
use tollgate::{AgentPoolConfig, Encoding};

fn long_text() -> String {
    "\u{202e}\u{1b}[31m\n".repeat(3000)
}

fn report(name: &str) -> Value {
    json!({
        "agent_id": "a", "timestamp_ms": 1, "interval_ms": 1, "gauges": [], "histograms": [],
        "counters": [{"name": name, "labels": {}, "value": 1}],
    })
}

#[tokio::test]
async fn messages_of_an_agent_cause_few_and_short_lines() {
    let recorder = Recorder::of("tollgate");
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    recorder.take();
    let text = long_text();
    let messages = [
        (message::AGENT_RESPONSE, allowing(&text)),
        (message::AGENT_RESPONSE, json!({"decision": text})),
        (
            message::HEALTH_STATUS,
            json!({"state": {"status": text}, "message": text}),
        ),
        (message::METRICS_REPORT, report(&text)),
        (message::METRICS_REPORT, json!({ "agent_id": text })),
        (message::UNKNOWN, json!(text)),
    ];
    for _ in 0..10 * LINES_AT_ONCE {
        for (message, payload) in &messages {
            connection.send_value(*message, payload).await;
        }
    }
    connection.sync().await;
    assert!(faults(&pool).await.unmatched_answers >= 10 * LINES_AT_ONCE as u64);
    recorder.expect_few_and_short(messages.len());
}

#[test]
fn config_update_requests_cause_few_and_short_lines() {
    let recorder = Recorder::of("tollgate");
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let handler = ConfigUpdateHandler::new();
    for number in 0..10 * LINES_AT_ONCE {
        let updates = [
            ConfigUpdateType::ConfigError {
                error: long_text(),
                field: Some(long_text()),
            },
            ConfigUpdateType::RestartRequired {
                reason: long_text(),
                grace_period_ms: u64::MAX,
            },
        ];
        for (kind, update) in updates.into_iter().enumerate() {
            let request = ConfigUpdateRequest::new(format!("{kind}-{number}"), update);
            assert!(handler.handle_from("agent", request).accepted);
        }
    }
    recorder.expect_few_and_short(2);
}

#[tokio::test]
async fn bad_handshakes_and_events_of_proxies_cause_few_and_short_lines() {
    let recorder = Recorder::of("tollgate");
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let agent = serve().await;
    let text = &long_text();
    for _ in 0..10 * LINES_AT_ONCE {
        let mut proxy = RawConnection::connect(&agent.path).await;
        let handshake = json!({ "supported_versions": text });
        proxy
            .send_value(message::HANDSHAKE_REQUEST, &handshake)
            .await;
        proxy.expect_end().await;
    }
    assert_eq!(recorder.count("rejected a proxy"), LINES_AT_ONCE);
    recorder.expect_few_and_short(1);

    let mut proxy = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    for _ in 0..10 * LINES_AT_ONCE {
        let event = json!({"metadata": {"correlation_id": text}, "method": 7});
        proxy.send_value(message::REQUEST_HEADERS, &event).await;
        proxy.message().await;
        proxy.send_value(message::CANCEL, &json!(text)).await;
    }
    proxy.sync().await;
    recorder.expect_few_and_short(2);
}

#[tokio::test]
async fn registrations_that_are_rejected_cause_few_and_short_lines() {
    let recorder = Recorder::of("tollgate::pool::reverse");
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen_as(&folder, AgentPoolConfig::default(), |config| {
        config.allowed_agents = ["waf".to_owned()].into();
    })
    .await;
    recorder.take();
    let agent_id = &long_text()[..9000];
    for _ in 0..10 * LINES_AT_ONCE {
        let mut agent = RawConnection::connect(proxy.path()).await;
        let registration = registration(agent_id, None);
        agent
            .send_value(message::HANDSHAKE_REQUEST, &registration)
            .await;
        assert_eq!(agent.message().await.1["success"], false);
    }
    eventually("the rejections are counted", async || {
        proxy.listener.refused() == 10 * LINES_AT_ONCE as u64
    })
    .await;
    recorder.expect_few_and_short(1);
}

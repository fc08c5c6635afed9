//! Every event and every answer, between the pool and the agent server over a real socket.

use crate::common::{
    ALL, config, configure, eventually, pool_with, request, serve, serve_for, serve_with,
};
use bytes::Bytes;
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tollgate::{
    AgentConfig, AgentPool, CancelReason, Decision, Encoding, HeaderOp, Metadata, RequestHeaders,
    control::{FlowControlAction, HealthStatus},
    events::{
        GuardrailInspectEvent, GuardrailInspectionType, RequestBodyChunkEvent,
        RequestCompleteEvent, ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
        WebSocketOpcode,
    },
    response::{BodyMutation, WebSocketDecision},
};

/// Removes header names without values if the encoding is protobuf, which cannot express them.
fn as_it_arrives(
    mut headers: HashMap<String, Vec<String>>,
    encoding: Encoding,
) -> HashMap<String, Vec<String>> {
    if !crate::common::BOTH.contains(&encoding) {
        headers.retain(|_, values| !values.is_empty());
    }
    headers
}

#[tokio::test]
async fn request_headers_and_every_answer_arrive_unchanged() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let ask = async |uri: &str| {
            let event = request("c-1", uri);
            let response = pool
                .agent("agent")
                .unwrap()
                .send("c-1", &event)
                .await
                .unwrap();
            let mut sent = event.clone();
            sent.headers = as_it_arrives(sent.headers, encoding);
            assert_eq!(agent.last_seen(), serde_json::to_value(&sent).unwrap());
            response
        };

        assert_eq!(ask("/allow").await.decision, Decision::Allow);
        assert_eq!(
            ask("/block").await.decision,
            Decision::Block {
                status: 403,
                body: Some("no".into()),
                headers: Some(HashMap::from([("x-reason".into(), "rule".into())])),
            }
        );
        assert_eq!(
            ask("/redirect").await.decision,
            Decision::Redirect {
                url: "https://example.com/".into(),
                status: 302
            }
        );
        assert_eq!(
            ask("/challenge").await.decision,
            Decision::Challenge {
                challenge_type: "captcha".into(),
                params: HashMap::from([("key".into(), "abc".into())]),
            }
        );

        let headers = ask("/headers").await;
        assert_eq!(headers.request_headers.len(), 3);
        assert_eq!(
            headers.request_headers[2],
            HeaderOp::Remove {
                name: "x-remove".into()
            }
        );
        assert_eq!(headers.response_headers.len(), 1);

        let audit = ask("/audit").await;
        assert!(audit.needs_more);
        assert_eq!(audit.routing_metadata["pool"], "canary");
        assert_eq!(audit.audit.confidence, Some(0.75));
        assert_eq!(
            audit.audit.custom,
            HashMap::from([("k".into(), json!({"a": [1, -2, 2.5, "x", null, true]}))])
        );
    }
}

#[tokio::test]
async fn bodies_and_mutations_arrive_byte_for_byte() {
    let every_byte: Vec<u8> = (0..=255).collect();
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let ask = async |data: Bytes| {
            let event = RequestBodyChunkEvent::new("c-1", data, 7, true).with_total_size(99);
            let response = pool
                .agent("agent")
                .unwrap()
                .send("c-1", &event)
                .await
                .unwrap();
            assert_eq!(agent.last_seen(), serde_json::to_value(&event).unwrap());
            response.request_body_mutation
        };

        assert_eq!(ask(every_byte.clone().into()).await, None);
        assert_eq!(ask(Bytes::new()).await, None);

        let replaced = BodyMutation::replace(7, &b"\x00new\xff"[..]);
        assert_eq!(ask("replace".into()).await, Some(replaced));
        assert_eq!(ask("drop".into()).await, Some(BodyMutation::drop_chunk(7)));
        assert_eq!(
            ask("pass".into()).await,
            Some(BodyMutation::pass_through(7))
        );

        let large = Bytes::from(every_byte.repeat(16 * 1024));
        let event = ResponseBodyChunkEvent::new("c-2", large.clone(), 0, false);
        let response = pool
            .agent("agent")
            .unwrap()
            .send(&event.correlation_id, &event)
            .await
            .unwrap();
        assert_eq!(
            response.response_body_mutation,
            Some(BodyMutation::replace(0, large))
        );
    }
}

#[tokio::test]
async fn other_events_arrive_unchanged() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let handle = pool.agent("agent").unwrap();

        let headers = ResponseHeadersEvent {
            correlation_id: "c-1".into(),
            status: 404,
            headers: request("", "").headers,
        };
        handle.send("c-1", &headers).await.unwrap();
        let mut sent = headers.clone();
        sent.headers = as_it_arrives(sent.headers, encoding);
        assert_eq!(agent.last_seen(), serde_json::to_value(&sent).unwrap());

        let complete = RequestCompleteEvent {
            correlation_id: "c-1".into(),
            status: 200,
            duration_ms: u64::MAX,
            request_body_size: 1,
            response_body_size: 2,
            upstream_attempts: 3,
            error: Some("late".into()),
        };
        handle.send("c-1", &complete).await.unwrap();
        assert_eq!(agent.last_seen(), serde_json::to_value(&complete).unwrap());

        let inspect = GuardrailInspectEvent {
            correlation_id: "c-1".into(),
            inspection_type: GuardrailInspectionType::PiiDetection,
            content: "text \u{1F980}".into(),
            model: Some("m".into()),
            categories: vec!["a".into(), "b".into()],
            route_id: None,
            metadata: HashMap::from([("k".into(), "v".into())]),
        };
        handle.send("c-1", &inspect).await.unwrap();
        assert_eq!(agent.last_seen(), serde_json::to_value(&inspect).unwrap());
    }
}

#[tokio::test]
async fn websocket_frames_get_their_decisions() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        for (data, decision) in [
            ("hi", WebSocketDecision::Allow),
            ("drop", WebSocketDecision::Drop),
            (
                "close",
                WebSocketDecision::Close {
                    code: 4001,
                    reason: "bye".into(),
                },
            ),
        ] {
            let frame = WebSocketFrameEvent {
                correlation_id: "c-1".into(),
                opcode: WebSocketOpcode::Text,
                data: data.into(),
                client_to_server: true,
                frame_index: 3,
                fin: true,
                route_id: Some("r".into()),
                client_ip: "::1".into(),
            };

            let response = pool
                .agent("agent")
                .unwrap()
                .send("c-1", &frame)
                .await
                .unwrap();
            assert_eq!(response.websocket_decision, Some(decision));
            assert_eq!(agent.last_seen(), serde_json::to_value(&frame).unwrap());
        }
    }
}

#[tokio::test]
async fn settings_are_accepted_or_rejected() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let handle = pool.agent("agent").unwrap();
        let settings =
            json!({"config": {"accept": true, "deep": [{"a": -1}]}, "config_version": "7"});

        let event = configure("c-1", settings.clone());
        let response = handle.send("c-1", &event).await.unwrap();
        assert_eq!(response.decision, Decision::Allow);
        assert_eq!(agent.last_seen(), settings);

        let event = configure("c-2", json!({"config": "plain"}));
        let rejected = handle.send("c-2", &event).await.unwrap();
        assert!(matches!(
            rejected.decision,
            Decision::Block { status: 500, .. }
        ));
    }
}

#[tokio::test]
async fn borrowed_events_need_no_header_map() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let headers = [("host", "example.com"), ("accept", "a"), ("Accept", "b")];

    let event = RequestHeaders {
        metadata: Metadata::default(),
        method: "GET",
        uri: "/",
        headers: &headers[..],
    };
    pool.agent("agent")
        .unwrap()
        .send("from-the-call", &event)
        .await
        .unwrap();

    let seen = agent.last_seen();
    assert_eq!(seen["metadata"]["correlation_id"], "from-the-call");
    assert_eq!(
        seen["headers"],
        json!({"host": ["example.com"], "accept": ["a", "b"]})
    );
}

#[tokio::test]
async fn capabilities_and_encoding_are_known() {
    let agent = serve_with(|server| server.encodings([Encoding::Json])).await;
    let pool = AgentPool::new();
    let handle = pool
        .add(AgentConfig::new(
            "agent",
            format!("unix:{}", agent.path.display()),
        ))
        .await
        .unwrap();

    let capabilities = handle.capabilities().unwrap();
    assert_eq!(capabilities.agent_id, "rule-agent");
    assert_eq!(capabilities.supported_events.len(), 8);
    assert!(capabilities.features.flow_control);

    assert_eq!(handle.encoding(), Some(Encoding::Json));
    assert!(handle.ping().await.unwrap() > Duration::ZERO);
    let stats = handle.stats();
    assert_eq!((stats.active_connections, stats.total_requests), (4, 0));
}

#[tokio::test]
async fn cancelled_call_ends_on_both_sides() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let event = request("c-1", "/wait");
        let handle = pool.agent("agent").unwrap();
        let call = handle.send("c-1", &event);

        let cancel = async {
            eventually("the event arrives", async || {
                !agent.seen.lock().unwrap().is_empty()
            })
            .await;
            handle
                .cancel("c-1", CancelReason::ClientDisconnect)
                .await
                .unwrap();
        };

        let (called, ()) = tokio::join!(call, cancel);
        assert!(called.unwrap_err().to_string().contains("cancelled"));

        eventually("the agent is told", async || {
            *agent.cancelled.lock().unwrap() == [("c-1".to_owned(), CancelReason::ClientDisconnect)]
        })
        .await;
    }
}

#[tokio::test]
async fn all_calls_can_be_cancelled_at_once() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let calls: Vec<_> = (0..10)
        .map(|n| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let id = n.to_string();
                pool.agent("agent")
                    .unwrap()
                    .send(&id, &request(&id, "/wait"))
                    .await
            })
        })
        .collect();

    eventually("all events arrive", async || {
        agent.seen.lock().unwrap().len() == 10
    })
    .await;

    assert_eq!(
        pool.agent("agent")
            .unwrap()
            .cancel_all(CancelReason::ProxyShutdown)
            .await
            .unwrap(),
        10
    );
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }

    eventually("the agent is told", async || {
        agent.cancelled.lock().unwrap().len() == 10
    })
    .await;
}

#[tokio::test]
async fn agent_pauses_and_resumes_its_proxies() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let is_paused = async || {
            let event = request("c-1", "/allow");
            let sent = pool.agent("agent").unwrap().send("c-1", &event).await;
            sent.is_err_and(|error| error.to_string().contains("pause"))
        };

        assert!(!is_paused().await);

        agent.control.flow_control(FlowControlAction::Pause);
        eventually("the pause arrives", is_paused).await;
        agent.control.flow_control(FlowControlAction::Resume);
        eventually("the pause ends", async || !is_paused().await).await;
    }
}

#[tokio::test]
async fn health_reports_change_the_healthy_connections() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let healthy = async || pool.agent("agent").unwrap().stats().healthy_connections;
    assert_eq!(healthy().await, 1);

    agent
        .control
        .report_health(HealthStatus::unhealthy("a", "broken", true));
    eventually("the unhealthy report arrives", async || {
        healthy().await == 0
    })
    .await;
    agent.control.report_health(HealthStatus::healthy("a"));
    eventually("the healthy report arrives", async || healthy().await == 1).await;
}

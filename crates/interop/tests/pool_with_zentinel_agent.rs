//! Tollgate's pool calls the agent server of `zentinel-agent-protocol`: each event and each answer
//! arrives as it was sent.

use bytes::Bytes;
use serde_json::json;
use tollgate::{
    AgentResponse, Decision, EventType,
    control::AgentFeatures,
    events::{RequestBodyChunkEvent, RequestCompleteEvent, WebSocketOpcode},
};
use tollgate_interop::{
    PoolWithPeer, URIS, blocked_by_body, events, pairings, pool_config, to_chunk, to_frame, to_uri,
};

#[tokio::test]
async fn request_headers() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        for uri in URIS {
            let event = events::request_headers(uri, uri);
            let answer = connected.agent.send(uri, &event).await;
            assert_eq!(answer.unwrap(), to_uri(uri));
            connected.expect_logged("request_headers", &event).await;
        }
        let event = events::bare_request_headers("bare", "/block");
        let answer = connected.agent.send("bare", &event).await;
        assert_eq!(answer.unwrap(), to_uri("/block"));
        connected.expect_logged("request_headers", &event).await;
        connected.end().await;
    }
}

#[tokio::test]
async fn request_headers_of_any_text() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let id = "id \"quoted\\\" \u{1F980}\n\u{0}";
        let mut event = events::request_headers(id, "/headers?q=\u{e4}\u{7}\"");
        event.headers = events::headers(&[
            ("x-quote", &["\"quoted\\\" \u{1F980}\n\t\u{7f}"]),
            ("x-none", &[]),
            ("x-empty", &["", ""]),
            ("x-long", &["v".repeat(70_000).as_str()]),
            ("\u{fc}", &["\u{ffff}"]),
        ]);
        let answer = connected.agent.send(id, &event).await;
        assert_eq!(answer.unwrap(), to_uri("/headers"));
        connected.expect_logged("request_headers", &event).await;
        connected.end().await;
    }
}

#[tokio::test]
async fn request_bodies() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let parts: [&[u8]; 6] = [b"REPLACE", b"DROP", b"PASS", b"hello", &every_byte, b""];
    let size = parts.iter().map(|part| part.len()).sum();
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        for (id, total) in [("sized", Some(size)), ("unsized", None)] {
            for event in events::request_chunks(id, &parts, total) {
                let answer = connected.agent.send(id, &event).await;
                let expected = AgentResponse {
                    request_body_mutation: to_chunk(&event.data, event.chunk_index),
                    ..AgentResponse::default_allow()
                };
                assert_eq!(answer.unwrap(), expected);
                connected.expect_logged("request_body_chunk", &event).await;
            }
        }
        connected.end().await;
    }
}

#[tokio::test]
async fn blocked_text_is_found_across_chunks() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let mut answers = Vec::new();
        for event in events::request_chunks("c", &[b"\0\xffBLOCK-", b"ME\xfe", b"rest"], None) {
            let answer = connected.agent.send(&event.correlation_id, &event).await;
            answers.push(answer.unwrap());
            connected.expect_logged("request_body_chunk", &event).await;
        }
        let allow = AgentResponse::default_allow();
        assert_eq!(answers, [allow, blocked_by_body(), blocked_by_body()]);
        connected.end().await;
    }
}

#[tokio::test]
async fn large_bodies() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = Bytes::from(every_byte.repeat(4 * 1024));
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let event = RequestBodyChunkEvent::new("large", large.clone(), 0, true);
        let answer = connected.agent.send("large", &event).await;
        assert_eq!(answer.unwrap(), AgentResponse::default_allow());
        connected.expect_logged("request_body_chunk", &event).await;
        connected.end().await;
    }
}

#[tokio::test]
async fn responses() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let event = events::response_headers("c");
        let answer = connected.agent.send("c", &event).await;
        assert_eq!(answer.unwrap(), AgentResponse::default_allow());
        connected.expect_logged("response_headers", &event).await;

        for data in [&b"REPLACE"[..], b"DROP", b"PASS", b"\0\x80\xff", b""] {
            let event = events::response_chunk("c", data);
            let answer = connected.agent.send("c", &event).await;
            let expected = AgentResponse {
                response_body_mutation: to_chunk(data, 0),
                ..AgentResponse::default_allow()
            };
            assert_eq!(answer.unwrap(), expected);
            connected.expect_logged("response_body_chunk", &event).await;
        }
        connected.end().await;
    }
}

#[tokio::test]
async fn request_complete() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let good = events::request_complete("good");
        let bad = RequestCompleteEvent {
            status: 502,
            duration_ms: u64::MAX,
            error: Some("upstream \"gone\"".to_owned()),
            ..events::request_complete("bad")
        };
        for event in [good, bad] {
            let id = event.correlation_id.as_str();
            let answer = connected.agent.send(id, &event).await;
            assert_eq!(answer.unwrap(), AgentResponse::default_allow());
            connected.expect_logged("request_complete", &event).await;
        }
        connected.end().await;
    }
}

#[tokio::test]
async fn websocket_frames() {
    let every_byte: Vec<u8> = (0..=255).collect();
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        for (opcode, data) in [
            (WebSocketOpcode::Text, &b"hi"[..]),
            (WebSocketOpcode::Text, b"drop"),
            (WebSocketOpcode::Text, b"close"),
            (WebSocketOpcode::Binary, &every_byte),
            (WebSocketOpcode::Continuation, b"more"),
            (WebSocketOpcode::Ping, b""),
            (WebSocketOpcode::Pong, b"p"),
            (WebSocketOpcode::Close, b"\x03\xe8"),
        ] {
            let event = events::websocket_frame("c", opcode, data);
            let answer = connected.agent.send("c", &event).await;
            assert_eq!(answer.unwrap(), to_frame(data));
            connected.expect_logged("websocket_frame", &event).await;
        }
        connected.end().await;
    }
}

#[tokio::test]
async fn settings_are_accepted_or_rejected() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let settings = json!({"config": {"mode": "strict", "limits": [1, -2, 2.5, null]}, "config_version": "7"});
        let answer = connected
            .agent
            .send("c-1", &events::configure("c-1", &settings))
            .await;
        assert_eq!(answer.unwrap(), AgentResponse::default_allow());
        let expected = json!({"config": settings["config"], "version": "7"});
        connected.expect_logged("configure", &expected).await;

        let settings = json!({"config": {"reject": true}});
        let answer = connected
            .agent
            .send("c-2", &events::configure("c-2", &settings))
            .await;
        assert!(matches!(answer.unwrap().decision, Decision::Block { .. }));
        let expected = json!({"config": {"reject": true}, "version": null});
        connected.expect_logged("configure", &expected).await;
        connected.end().await;
    }
}

/// Sends every phase of a request with one correlation id, as a proxy does.
#[tokio::test]
async fn a_whole_exchange_under_one_id() {
    for pairing in pairings() {
        let mut config = pool_config(&pairing);
        config.connections_per_agent = 4;
        let mut connected = PoolWithPeer::configured(&pairing, config).await;
        let id = "exchange";
        for _ in 0..5 {
            let event = events::request_headers(id, "/headers");
            assert_eq!(
                connected.agent.send(id, &event).await.unwrap(),
                to_uri("/headers")
            );
            connected.expect_logged("request_headers", &event).await;
            for event in events::request_chunks(id, &[b"one", b"two"], Some(6)) {
                connected.agent.send(id, &event).await.unwrap();
                connected.expect_logged("request_body_chunk", &event).await;
            }
            let event = events::response_headers(id);
            connected.agent.send(id, &event).await.unwrap();
            connected.expect_logged("response_headers", &event).await;
            let event = events::response_chunk(id, b"three");
            connected.agent.send(id, &event).await.unwrap();
            connected.expect_logged("response_body_chunk", &event).await;
            let event = events::request_complete(id);
            connected.agent.send(id, &event).await.unwrap();
            connected.expect_logged("request_complete", &event).await;
        }
        connected.end().await;
    }
}

#[tokio::test]
async fn capabilities_and_pings() {
    for pairing in pairings() {
        let connected = PoolWithPeer::connect(&pairing).await;
        let capabilities = connected.agent.capabilities().unwrap();
        assert_eq!(capabilities.agent_id, "peer");
        assert_eq!(capabilities.name, pairing.peer().name());
        assert_eq!(capabilities.version, pairing.version.as_str());
        assert_eq!(capabilities.features, AgentFeatures::full());
        assert_eq!(capabilities.limits.max_concurrency, 100);
        for event_type in EventType::ALL {
            assert!(capabilities.supports_event(event_type), "{event_type:?}");
        }
        connected.agent.ping().await.unwrap();
        connected.end().await;
    }
}

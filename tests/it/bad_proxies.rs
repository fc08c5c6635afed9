//! Proxies that fail the handshake, or violate the protocol afterwards.

use crate::common::{
    BOTH, RawConnection, ServedAgent, encode, frame, message, metadata, offer_handshake, serve,
    serve_with,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tollgate::Encoding;

const JSON: Encoding = Encoding::Json;

fn event(id: &str) -> Value {
    json!({"metadata": metadata(id), "method": "GET", "uri": "/block", "headers": {}})
}

/// Asserts that an event is answered correctly.
async fn expect_answer(connection: &mut RawConnection, id: &str) {
    connection
        .send_value(message::REQUEST_HEADERS, &event(id))
        .await;
    let (message, answer) = connection.message().await;
    assert_eq!(message, message::AGENT_RESPONSE);
    assert_eq!(answer["audit"]["custom"]["correlation_id"], id);
    assert_eq!(answer["decision"]["block"]["status"], 403);
}

/// Asserts that the agent still serves other proxies.
async fn expect_serves(agent: &ServedAgent) {
    for encoding in BOTH {
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
        expect_answer(&mut connection, "good").await;
    }
}

#[tokio::test]
async fn invalid_handshake_closes_the_connection_at_once() {
    let agent = serve().await;
    let announced = |length: u32| length.to_be_bytes().to_vec();
    let offered = |field: &str, value: Value| {
        let mut request = offer_handshake("json");
        request[field] = value;
        frame(message::HANDSHAKE_REQUEST, &encode(JSON, &request))
    };

    for (what, bytes) in [
        (
            "not JSON",
            frame(message::HANDSHAKE_REQUEST, b"\x81\xa7success\xc3"),
        ),
        ("empty", frame(message::HANDSHAKE_REQUEST, b"")),
        ("another value", frame(message::HANDSHAKE_REQUEST, b"[2]")),
        ("fields missing", frame(message::HANDSHAKE_REQUEST, b"{}")),
        (
            "cut JSON",
            frame(message::HANDSHAKE_REQUEST, b"{\"supported_versions\":[2],"),
        ),
        (
            "versions of a wrong type",
            offered("supported_versions", json!("2")),
        ),
        ("a proxy id of a wrong type", offered("proxy_id", json!(7))),
        (
            "an event",
            frame(message::REQUEST_HEADERS, &encode(JSON, &event("c-1"))),
        ),
        ("a ping", frame(message::PING, b"{}")),
        (
            "a response",
            frame(
                message::HANDSHAKE_RESPONSE,
                &encode(JSON, &offer_handshake("json")),
            ),
        ),
        ("an unknown message", frame(message::UNKNOWN, b"{}")),
        ("length 0", announced(0)),
        ("more than 64 KiB", announced(64 * 1024 + 1)),
        ("more than 16 MiB", announced(16 * 1024 * 1024 + 1)),
        ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        let mut connection = RawConnection::connect(&agent.path).await;
        connection.send_bytes(&bytes).await;
        let started = Instant::now();
        connection.expect_end().await;
        assert!(started.elapsed() < Duration::from_secs(1), "{what}");
    }

    assert!(agent.seen.lock().unwrap().is_empty());
    expect_serves(&agent).await;
}

#[tokio::test]
async fn unsupported_version_is_rejected_with_a_reason() {
    let agent = serve().await;
    for versions in [json!([1]), json!([3, 4]), json!([])] {
        let mut connection = RawConnection::connect(&agent.path).await;
        let mut request = offer_handshake("json");
        request["supported_versions"] = versions;
        connection
            .send_value(message::HANDSHAKE_REQUEST, &request)
            .await;

        let (message, response) = connection.message().await;
        assert_eq!(message, message::HANDSHAKE_RESPONSE);
        assert_eq!(response["success"], false);
        assert!(
            response["error"].as_str().unwrap().contains("version 2"),
            "{response}"
        );
        connection.expect_end().await;
    }
    expect_serves(&agent).await;
}

#[tokio::test]
async fn encoding_is_one_that_both_sides_support() {
    let both = serve().await;
    let json_only = serve_with(|server| server.encodings([JSON])).await;
    for (agent, offered, expected) in [
        (&both, json!(["msgpack", "json"]), "msgpack"),
        (&both, json!(["json", "msgpack"]), "json"),
        (&both, json!(["cbor", "msgpack"]), "msgpack"),
        (&both, json!(["cbor"]), "json"),
        (&both, json!([]), "json"),
        (&json_only, json!(["msgpack", "json"]), "json"),
        (&json_only, json!(["msgpack"]), "json"),
    ] {
        let mut connection = RawConnection::connect(&agent.path).await;
        let mut request = offer_handshake("json");
        request["supported_encodings"] = offered;
        request["supported_versions"] = json!([1, 2, 3]);
        request["unknown"] = json!({"field": true});
        connection
            .send_value(message::HANDSHAKE_REQUEST, &request)
            .await;

        let (_, response) = connection.message().await;
        assert_eq!(response["encoding"], expected, "{request}");
        connection.encoding = expected.parse().unwrap();
        expect_answer(&mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn minimal_handshake_is_accepted_byte_by_byte() {
    let agent = serve().await;
    let mut connection = RawConnection::connect(&agent.path).await;
    let request = br#"{"supported_versions":[2],"proxy_id":"raw","proxy_version":"0"}"#;
    for byte in frame(message::HANDSHAKE_REQUEST, request) {
        connection.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }

    let (_, response) = connection.message().await;
    assert_eq!(
        (&response["success"], &response["encoding"]),
        (&json!(true), &json!("json"))
    );
    expect_answer(&mut connection, "c-1").await;
}

#[tokio::test]
async fn events_right_after_the_handshake_are_answered() {
    let agent = serve().await;
    let mut connection = RawConnection::connect(&agent.path).await;
    let mut bytes = frame(
        message::HANDSHAKE_REQUEST,
        &encode(JSON, &offer_handshake("json")),
    );
    bytes.extend(frame(
        message::REQUEST_HEADERS,
        &encode(JSON, &event("c-1")),
    ));

    connection.send_bytes(&bytes).await;
    assert_eq!(connection.message().await.0, message::HANDSHAKE_RESPONSE);
    assert_eq!(
        connection.message().await.1["decision"]["block"]["status"],
        403
    );
}

#[tokio::test]
async fn stalled_handshake_times_out() {
    let limit = Duration::from_millis(100);
    let agent = serve_with(|server| server.handshake_timeout(limit)).await;
    let request = frame(
        message::HANDSHAKE_REQUEST,
        &encode(JSON, &offer_handshake("json")),
    );

    for length in [0, 3, 5, request.len() - 1] {
        let mut connection = RawConnection::connect(&agent.path).await;
        connection.send_bytes(&request[..length]).await;
        let started = Instant::now();
        connection.expect_end().await;
        assert!(
            started.elapsed() < limit + Duration::from_millis(900),
            "{length} bytes"
        );
    }
    expect_serves(&agent).await;
}

#[tokio::test]
async fn invalid_frame_length_closes_the_connection() {
    let agent = serve().await;
    for encoding in BOTH {
        for length in [0, 16 * 1024 * 1024 + 1, u32::MAX] {
            let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
            expect_answer(&mut connection, "c-1").await;
            connection.send_bytes(&length.to_be_bytes()).await;
            connection.expect_end().await;
        }
    }
    expect_serves(&agent).await;
}

#[tokio::test]
async fn truncated_event_is_never_seen() {
    let agent = serve().await;
    for encoding in BOTH {
        let event = frame(message::REQUEST_HEADERS, &encode(encoding, &event("c-1")));
        for left_out in [1, 20, event.len() - 4, event.len() - 1] {
            let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
            connection
                .send_bytes(&event[..event.len() - left_out])
                .await;
            drop(connection);
        }
    }

    crate::common::eventually("all sessions end", async || {
        agent.control.connections() == 0
    })
    .await;
    assert!(agent.seen.lock().unwrap().is_empty());
    expect_serves(&agent).await;
}

#[tokio::test]
async fn unexpected_messages_are_ignored() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
        for message in [
            0x00,
            message::HANDSHAKE_REQUEST,
            message::HANDSHAKE_RESPONSE,
            0x03,
            0x18,
            message::AGENT_RESPONSE,
            message::HEALTH_STATUS,
            message::FLOW_CONTROL,
            message::PONG,
            0x43,
            0xf0,
            0xff,
        ] {
            connection.send(message, b"{}").await;
            connection.send(message, b"").await;
        }
        for garbage in [
            b"".as_slice(),
            b"{",
            b"{}",
            b"\xc1",
            b"{\"correlation_id\":7}",
        ] {
            connection.send(message::CANCEL, garbage).await;
        }

        assert_eq!(connection.sync().await, [0; 0]);
        expect_answer(&mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn pings_are_answered_in_order_with_the_same_payload() {
    let agent = serve().await;
    let large = [0x5a; 100_000];
    let payloads = [
        b"{\"sequence\":1}".as_slice(),
        b"",
        b"\xff\x00 no JSON",
        &large,
        b"{\"sequence\":1}",
    ];
    for encoding in BOTH {
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
        for payload in payloads {
            connection.send(message::PING, payload).await;
        }

        connection
            .send_value(message::REQUEST_HEADERS, &event("c-1"))
            .await;
        connection.send(message::PING, b"last").await;

        for payload in payloads {
            assert_eq!(
                connection.receive().await,
                Some((message::PONG, payload.to_vec()))
            );
        }
        assert_eq!(connection.message().await.0, message::AGENT_RESPONSE);
        assert_eq!(
            connection.receive().await,
            Some((message::PONG, b"last".to_vec()))
        );
    }
}

#[tokio::test]
async fn events_are_answered_however_they_are_split() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
        for byte in frame(message::REQUEST_HEADERS, &encode(encoding, &event("slow"))) {
            connection.send_bytes(&[byte]).await;
            tokio::task::yield_now().await;
        }
        let many: Vec<_> = (0..100)
            .flat_map(|n| {
                frame(
                    message::REQUEST_HEADERS,
                    &encode(encoding, &event(&n.to_string())),
                )
            })
            .collect();

        connection.send_bytes(&many).await;
        let expected =
            std::iter::once("slow".to_owned()).chain((0..100).map(|n: u8| n.to_string()));
        for id in expected {
            let (_, answer) = connection.message().await;
            assert_eq!(answer["audit"]["custom"]["correlation_id"], id);
        }
    }
}

#[tokio::test]
async fn events_before_an_invalid_one_are_answered() {
    let agent = serve().await;
    for encoding in BOTH {
        let good = frame(message::REQUEST_HEADERS, &encode(encoding, &event("c-1")));
        for damage in [
            vec![0; 4],
            frame(message::REQUEST_HEADERS, b"\xc1"),
            frame(message::REQUEST_HEADERS, b""),
        ] {
            let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
            connection
                .send_bytes(&[good.clone(), damage].concat())
                .await;

            let answer = connection.receive().await;
            assert!(answer.is_some(), "the answer to the previous event is lost");
            connection.expect_end().await;
        }
    }
}

#[tokio::test]
async fn announced_length_reserves_no_memory() {
    let agent = serve().await;
    let before = crate::common::virtual_memory();
    for _ in 0..32 {
        let mut connection = RawConnection::connect_in(&agent.path, JSON).await;
        connection
            .send_bytes(&(16 * 1024 * 1024_u32).to_be_bytes())
            .await;
        connection.send_bytes(b"\x10{").await;
    }

    crate::common::eventually("all sessions end", async || {
        agent.control.connections() == 0
    })
    .await;
    let grown = crate::common::virtual_memory().saturating_sub(before);
    assert!(
        grown < 128 * 1024 * 1024,
        "{grown} bytes for 32 announcements"
    );
}

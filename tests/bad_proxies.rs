//! Proxies that do not shake hands, or break the protocol afterwards.

mod common;

use common::{
    BOTH, RawConnection, ServedAgent, encode, frame, metadata, offer_handshake, serve, serve_with,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tollgate::Encoding;

const JSON: Encoding = Encoding::Json;

fn event(id: &str) -> Value {
    json!({"metadata": metadata(id), "method": "GET", "uri": "/block", "headers": {}})
}

/// An event is answered as it should be.
async fn expect_answer(connection: &mut RawConnection, id: &str) {
    connection.send_value(0x10, &event(id)).await;
    let (message, answer) = connection.message().await;
    assert_eq!(message, 0x20);
    assert_eq!(answer["audit"]["custom"]["correlation_id"], id);
    assert_eq!(answer["decision"]["block"]["status"], 403);
}

/// The agent goes on whatever a proxy did.
async fn expect_serves(agent: &ServedAgent) {
    for encoding in BOTH {
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
        expect_answer(&mut connection, "good").await;
    }
}

#[tokio::test]
async fn what_is_no_handshake_closes_the_connection_at_once() {
    let agent = serve().await;
    let announced = |length: u32| length.to_be_bytes().to_vec();
    let offered = |field: &str, value: Value| {
        let mut request = offer_handshake("json");
        request[field] = value;
        frame(0x01, &encode(JSON, &request))
    };
    for (what, bytes) in [
        ("not JSON", frame(0x01, b"\x81\xa7success\xc3")),
        ("empty", frame(0x01, b"")),
        ("another value", frame(0x01, b"[2]")),
        ("fields missing", frame(0x01, b"{}")),
        ("cut JSON", frame(0x01, b"{\"supported_versions\":[2],")),
        (
            "versions of a wrong type",
            offered("supported_versions", json!("2")),
        ),
        ("a proxy id of a wrong type", offered("proxy_id", json!(7))),
        ("an event", frame(0x10, &encode(JSON, &event("c-1")))),
        ("a ping", frame(0x41, b"{}")),
        (
            "a response",
            frame(0x02, &encode(JSON, &offer_handshake("json"))),
        ),
        ("an unknown message", frame(0xff, b"{}")),
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
async fn another_version_is_refused_with_the_reason() {
    let agent = serve().await;
    for versions in [json!([1]), json!([3, 4]), json!([])] {
        let mut connection = RawConnection::connect(&agent.path).await;
        let mut request = offer_handshake("json");
        request["supported_versions"] = versions;
        connection.send_value(0x01, &request).await;
        let (message, response) = connection.message().await;
        assert_eq!(message, 0x02);
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
async fn the_encoding_is_one_that_both_sides_have() {
    let both = serve().await;
    let json_only = serve_with(|server| server.with_encodings([JSON])).await;
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
        connection.send_value(0x01, &request).await;
        let (_, response) = connection.message().await;
        assert_eq!(response["encoding"], expected, "{request}");
        connection.encoding = expected.parse().unwrap();
        expect_answer(&mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn the_least_handshake_is_accepted_byte_by_byte() {
    let agent = serve().await;
    let mut connection = RawConnection::connect(&agent.path).await;
    let request = br#"{"supported_versions":[2],"proxy_id":"raw","proxy_version":"0"}"#;
    for byte in frame(0x01, request) {
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
async fn events_right_behind_the_handshake_are_answered() {
    let agent = serve().await;
    let mut connection = RawConnection::connect(&agent.path).await;
    let mut bytes = frame(0x01, &encode(JSON, &offer_handshake("json")));
    bytes.extend(frame(0x10, &encode(JSON, &event("c-1"))));
    connection.send_bytes(&bytes).await;
    assert_eq!(connection.message().await.0, 0x02);
    assert_eq!(
        connection.message().await.1["decision"]["block"]["status"],
        403
    );
}

#[tokio::test]
async fn a_stalled_handshake_is_given_up() {
    let limit = Duration::from_millis(100);
    let agent = serve_with(|server| server.with_handshake_timeout(limit)).await;
    let request = frame(0x01, &encode(JSON, &offer_handshake("json")));
    for said in [0, 3, 5, request.len() - 1] {
        let mut connection = RawConnection::connect(&agent.path).await;
        connection.send_bytes(&request[..said]).await;
        let started = Instant::now();
        connection.expect_end().await;
        assert!(
            started.elapsed() < limit + Duration::from_millis(900),
            "{said} bytes"
        );
    }
    expect_serves(&agent).await;
}

#[tokio::test]
async fn a_frame_that_may_not_be_closes_the_connection() {
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
async fn an_event_cut_short_by_the_end_is_never_seen() {
    let agent = serve().await;
    for encoding in BOTH {
        let event = frame(0x10, &encode(encoding, &event("c-1")));
        for left_out in [1, 20, event.len() - 4, event.len() - 1] {
            let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
            connection
                .send_bytes(&event[..event.len() - left_out])
                .await;
            drop(connection);
        }
    }
    common::eventually("all are gone", async || agent.control.connections() == 0).await;
    assert!(agent.seen.lock().unwrap().is_empty());
    expect_serves(&agent).await;
}

#[tokio::test]
async fn messages_that_a_proxy_may_not_send_are_passed_over() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
        for message in [
            0x00, 0x01, 0x02, 0x03, 0x18, 0x20, 0x30, 0x33, 0x42, 0x43, 0xf0, 0xff,
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
            connection.send(0x40, garbage).await;
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
            connection.send(0x41, payload).await;
        }
        connection.send_value(0x10, &event("c-1")).await;
        connection.send(0x41, b"last").await;
        for payload in payloads {
            assert_eq!(connection.receive().await, Some((0x42, payload.to_vec())));
        }
        assert_eq!(connection.message().await.0, 0x20);
        assert_eq!(connection.receive().await, Some((0x42, b"last".to_vec())));
    }
}

#[tokio::test]
async fn events_byte_by_byte_and_many_in_one_write_are_answered() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
        for byte in frame(0x10, &encode(encoding, &event("slow"))) {
            connection.send_bytes(&[byte]).await;
            tokio::task::yield_now().await;
        }
        let many: Vec<_> = (0..100)
            .flat_map(|n| frame(0x10, &encode(encoding, &event(&n.to_string()))))
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
async fn what_came_before_the_damage_is_answered() {
    let agent = serve().await;
    for encoding in BOTH {
        let good = frame(0x10, &encode(encoding, &event("c-1")));
        for damage in [vec![0; 4], frame(0x10, b"\xc1"), frame(0x10, b"")] {
            let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
            connection
                .send_bytes(&[good.clone(), damage].concat())
                .await;
            let answer = connection.receive().await;
            assert!(answer.is_some(), "the answer to the event before is lost");
            connection.expect_end().await;
        }
    }
}

#[tokio::test]
async fn an_announced_length_takes_no_memory() {
    let agent = serve().await;
    let before = common::virtual_memory();
    for _ in 0..32 {
        let mut connection = RawConnection::connect_in(&agent.path, JSON).await;
        connection
            .send_bytes(&(16 * 1024 * 1024_u32).to_be_bytes())
            .await;
        connection.send_bytes(b"\x10{").await;
    }
    common::eventually("all are gone", async || agent.control.connections() == 0).await;
    let grown = common::virtual_memory().saturating_sub(before);
    assert!(
        grown < 128 * 1024 * 1024,
        "{grown} bytes for 32 announcements"
    );
}

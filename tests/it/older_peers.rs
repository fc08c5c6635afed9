//! Messages as `zentinel-agent-protocol` 0.6.11 writes them: positional structs and repeated ids.

use crate::common::{
    BOTH, RawConnection, arrived, config, message, raw_pool, result_of, serve, status_of,
};
use rmpv::Value as Packed;
use serde_json::{Value, json};
use std::time::Duration;
use tollgate::{CallError as Error, Decision, Encoding};

const PACKED: Encoding = Encoding::MessagePack;

fn pack(value: &Packed) -> Vec<u8> {
    let mut payload = Vec::new();
    rmpv::encode::write_value(&mut payload, value).expect("writing to a vector does not fail");
    payload
}

fn text(text: &str) -> Packed {
    Packed::from(text)
}

/// Returns a map with these entries in this order. Keys may repeat.
fn map(entries: &[(&str, Packed)]) -> Packed {
    Packed::Map(
        entries
            .iter()
            .map(|(key, value)| (text(key), value.clone()))
            .collect(),
    )
}

/// Sends an event to an agent. Returns the decision, or `None` if the agent closed the connection.
async fn decided(
    connection: &mut RawConnection,
    message: u8,
    payload: &[u8],
    id: &str,
) -> Option<Value> {
    connection.send(message, payload).await;
    let (number, answer) = connection.receive().await?;
    assert_eq!(number, message::AGENT_RESPONSE);
    let answer = connection.decode(&answer);
    assert_eq!(answer["audit"]["custom"]["correlation_id"], id);
    Some(answer["decision"].clone())
}

#[tokio::test]
async fn positional_body_chunks_are_read() {
    let agent = serve().await;
    let mut connection = RawConnection::connect_in(&agent.path, PACKED).await;
    let data = || Packed::Binary(vec![0, 0xff, b'a']);
    let without_size = [text("c-1"), data(), true.into(), 7.into(), 3.into()];
    let with_size = [
        text("c-1"),
        data(),
        true.into(),
        99.into(),
        7.into(),
        3.into(),
    ];
    let size_unknown = [
        text("c-1"),
        data(),
        true.into(),
        Packed::Nil,
        7.into(),
        3.into(),
    ];

    for (message, count) in [
        (message::REQUEST_BODY_CHUNK, "bytes_received"),
        (message::RESPONSE_BODY_CHUNK, "bytes_sent"),
    ] {
        for (chunk, size) in [
            (&without_size[..], json!(null)),
            (&with_size, json!(99)),
            (&size_unknown, json!(null)),
        ] {
            let payload = pack(&Packed::Array(chunk.to_vec()));
            let decision = decided(&mut connection, message, &payload, "c-1").await;
            assert_eq!(decision, Some(json!("allow")));

            let seen = agent.last_seen();
            assert_eq!(seen["correlation_id"], "c-1");
            assert_eq!(seen["is_last"], true);
            assert_eq!(
                (&seen["total_size"], &seen["chunk_index"], &seen[count]),
                (&size, &json!(7), &json!(3))
            );
            assert_eq!(seen["data"], "AP9h");
        }
    }
}

#[tokio::test]
async fn malformed_positional_chunks_are_blocked() {
    let agent = serve().await;
    let mut connection = RawConnection::connect_in(&agent.path, PACKED).await;
    let data = || Packed::Binary(vec![1]);
    for chunk in [
        vec![text("c-1")],
        vec![text("c-1"), data()],
        vec![text("c-1"), true.into(), data(), 7.into(), 3.into()],
        vec![text("c-1"), data(), true.into(), text("7"), 3.into()],
        vec![
            text("c-1"),
            data(),
            true.into(),
            99.into(),
            Packed::Nil,
            3.into(),
        ],
    ] {
        let payload = pack(&Packed::Array(chunk.clone()));
        let decision = decided(
            &mut connection,
            message::REQUEST_BODY_CHUNK,
            &payload,
            "c-1",
        )
        .await;
        assert_eq!(
            decision.expect("an answer")["block"]["status"],
            500,
            "{chunk:?}"
        );
    }

    assert!(agent.seen.lock().unwrap().is_empty());
}

fn positional_metadata(id: &str, traceparent: Option<&str>) -> Packed {
    let mut items = vec![
        text(id),
        text("r-1"),
        text("192.0.2.7"),
        54321.into(),
        Packed::Nil,
        text("HTTP/2"),
        text("TLSv1.3"),
        Packed::Nil,
        text("route"),
        Packed::Nil,
        text("2026-01-02T03:04:05Z"),
    ];
    items.extend(traceparent.map(text));
    Packed::Array(items)
}

fn head(correlation_id: &str, metadata: Packed, uri: &str) -> Vec<u8> {
    let headers = map(&[("host", Packed::Array(vec![text("example.com")]))]);
    pack(&map(&[
        ("correlation_id", text(correlation_id)),
        ("metadata", metadata),
        ("method", text("GET")),
        ("uri", text(uri)),
        ("headers", headers),
    ]))
}

#[tokio::test]
async fn request_headers_with_positional_metadata_are_read() {
    let agent = serve().await;
    let mut connection = RawConnection::connect_in(&agent.path, PACKED).await;
    for traceparent in [None, Some("00-abc-def-01")] {
        let payload = head("c-1", positional_metadata("c-1", traceparent), "/block");
        let decision = decided(&mut connection, message::REQUEST_HEADERS, &payload, "c-1").await;
        assert_eq!(decision.unwrap()["block"]["status"], 403);

        let seen = agent.last_seen();
        let metadata = &seen["metadata"];
        assert_eq!(metadata["correlation_id"], "c-1");
        assert_eq!(metadata["client_port"], 54321);
        assert_eq!(metadata["server_name"], json!(null));
        assert_eq!(metadata["tls_version"], "TLSv1.3");
        assert_eq!(metadata["route_id"], "route");
        assert_eq!(metadata["timestamp"], "2026-01-02T03:04:05Z");
        assert_eq!(metadata["traceparent"].as_str(), traceparent);
        assert_eq!(seen["headers"], json!({"host": ["example.com"]}));
    }
}

#[tokio::test]
async fn request_headers_with_conflicting_ids_are_never_allowed() {
    let agent = serve().await;
    let mut connection = RawConnection::connect_in(&agent.path, PACKED).await;
    let payload = head("c-1", positional_metadata("c-2", None), "/");

    let decision = decided(&mut connection, message::REQUEST_HEADERS, &payload, "c-1").await;
    assert_eq!(decision.expect("an answer")["block"]["status"], 500);

    let short = Packed::Array(vec![text("c-1"), text("r-1")]);
    let decision = decided(
        &mut connection,
        message::REQUEST_HEADERS,
        &head("c-1", short, "/"),
        "c-1",
    )
    .await;
    assert_eq!(decision.expect("an answer")["block"]["status"], 500);

    assert!(agent.seen.lock().unwrap().is_empty());
}

/// Returns the events other than request headers as 0.6.11 writes them, without the id.
fn typed_events() -> [(u8, Vec<(&'static str, Value)>); 6] {
    [
        (
            message::REQUEST_BODY_CHUNK,
            vec![
                ("data", json!("YWJj")),
                ("is_last", json!(true)),
                ("chunk_index", json!(0)),
                ("bytes_received", json!(3)),
            ],
        ),
        (
            message::RESPONSE_HEADERS,
            vec![("status", json!(200)), ("headers", json!({}))],
        ),
        (
            message::RESPONSE_BODY_CHUNK,
            vec![
                ("data", json!("YWJj")),
                ("is_last", json!(true)),
                ("chunk_index", json!(0)),
                ("bytes_sent", json!(3)),
            ],
        ),
        (
            message::REQUEST_COMPLETE,
            vec![
                ("status", json!(200)),
                ("duration_ms", json!(1)),
                ("request_body_size", json!(2)),
                ("response_body_size", json!(3)),
                ("upstream_attempts", json!(1)),
                ("error", json!(null)),
            ],
        ),
        (
            message::WEBSOCKET_FRAME,
            vec![
                ("opcode", json!("text")),
                ("data", json!("YWJj")),
                ("client_to_server", json!(true)),
                ("frame_index", json!(0)),
                ("fin", json!(true)),
                ("client_ip", json!("::1")),
            ],
        ),
        (
            message::GUARDRAIL_INSPECT,
            vec![
                ("inspection_type", json!("pii_detection")),
                ("content", json!("text")),
            ],
        ),
    ]
}

/// Encodes an event with two ids, by repeating the key.
fn with_ids(encoding: Encoding, ids: [&str; 2], fields: &[(&'static str, Value)]) -> Vec<u8> {
    let ids = ids.map(|id| ("correlation_id", json!(id)));
    let entries: Vec<_> = ids.iter().chain(fields).collect();
    match encoding {
        Encoding::Json => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("\"{key}\":{value}"))
                .collect();
            format!("{{{}}}", entries.join(",")).into_bytes()
        }
        Encoding::MessagePack => {
            let entries = entries.iter().map(|(key, value)| {
                let value = rmpv::ext::to_value(value).expect("it has a MessagePack form");
                (text(key), value)
            });
            pack(&Packed::Map(entries.collect()))
        }
        other => unreachable!("{other} is not spoken on Unix sockets"),
    }
}

#[tokio::test]
async fn repeated_ids_are_accepted_if_they_agree() {
    for encoding in BOTH {
        let agent = serve().await;
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
        for (message, fields) in typed_events() {
            let payload = with_ids(encoding, ["c-1", "c-1"], &fields);
            let decision = decided(&mut connection, message, &payload, "c-1").await;
            assert_eq!(decision, Some(json!("allow")), "{message:#04x}");
        }
        assert_eq!(agent.seen.lock().unwrap().len(), 6);
    }
}

#[tokio::test]
async fn conflicting_ids_are_never_allowed() {
    for encoding in BOTH {
        let agent = serve().await;
        for (message, fields) in typed_events() {
            let mut connection = RawConnection::connect_in(&agent.path, encoding).await;
            let payload = with_ids(encoding, ["c-1", "c-2"], &fields);
            if let Some(decision) = decided(&mut connection, message, &payload, "c-1").await {
                assert_eq!(decision["block"]["status"], 500, "{message:#04x}");
            }
        }
        assert!(agent.seen.lock().unwrap().is_empty());
    }
}

/// Encodes a positional response with this decision and id.
fn positional_answer(decision: Packed, id: &str) -> Vec<u8> {
    let empty = || Packed::Array(Vec::new());
    let custom = map(&[("correlation_id", text(id))]);
    let audit = Packed::Array(vec![empty(), empty(), Packed::Nil, empty(), custom]);
    pack(&Packed::Array(vec![
        2.into(),
        decision,
        empty(),
        empty(),
        Packed::Map(Vec::new()),
        audit,
        false.into(),
        Packed::Nil,
        Packed::Nil,
        Packed::Nil,
    ]))
}

#[tokio::test]
async fn positional_answers_are_read() {
    let (_agent, pool, mut connection) = raw_pool(config(PACKED)).await;
    let allowed = arrived(&pool, &mut connection, "c-1").await;

    let payload = positional_answer(text("allow"), "c-1");
    let zentinel = b"\x9a\x02\xa5allow\x90\x90\x80\x95\x90\x90\xc0\x90\x81\xaecorrelation_id\xa3c-1\xc2\xc0\xc0\xc0";
    assert_eq!(payload, zentinel);

    connection.send(message::AGENT_RESPONSE, &payload).await;
    assert_eq!(result_of(allowed).await.unwrap().decision, Decision::Allow);

    let blocked = arrived(&pool, &mut connection, "c-2").await;
    let block = Packed::Array(vec![418.into(), Packed::Nil, Packed::Nil]);
    connection
        .send(
            message::AGENT_RESPONSE,
            &positional_answer(map(&[("block", block)]), "c-2"),
        )
        .await;
    assert_eq!(status_of(blocked).await, 418);
}

/// The id in a malformed answer of this shape need not be found. Then the deadline ends the call.
#[tokio::test]
async fn malformed_positional_answer_fails_the_call() {
    let request_timeout = Duration::from_millis(200);
    let config = config(PACKED).request_timeout(request_timeout);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let pending = arrived(&pool, &mut connection, "c-1").await;
    connection
        .send(
            message::AGENT_RESPONSE,
            &positional_answer(text("maybe"), "c-1"),
        )
        .await;

    let after = arrived(&pool, &mut connection, "c-2").await;
    connection.block("c-2", 418).await;
    assert_eq!(status_of(after).await, 418);
    assert_eq!(crate::common::faults(&pool).await.undecodable_answers, 1);

    assert_fails!(
        result_of(pending).await,
        Error::InvalidMessage { .. } | Error::Timeout { .. }
    );
}

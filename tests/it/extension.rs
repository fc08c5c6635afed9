//! Tollgate's extension on the wire, as docs/protocol.md specifies it, against a hand-written peer.

use crate::common::*;
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;
use tollgate::{
    AddError, AgentConfig, AgentPool, AgentPoolConfig, CallError, ConnectError, Decision, Encoding,
    events::RequestBodyChunkEvent,
};

pub(crate) fn extended(mut handshake: Value, field: &Value) -> Value {
    handshake["tollgate"] = field.clone();
    handshake
}

/// Connects a proxy with version 1 of the extension.
async fn extended_proxy(agent: &ServedAgent, encoding: Encoding) -> RawConnection {
    proxy_in_version(1, agent, encoding).await
}

/// Connects a proxy with one version of the extension.
pub(crate) async fn proxy_in_version(
    version: u64,
    agent: &ServedAgent,
    encoding: Encoding,
) -> RawConnection {
    let mut proxy = RawConnection::connect(&agent.path).await;
    let offer = extended(
        offer_handshake(encoding.as_str()),
        &json!({"versions": [version]}),
    );
    proxy.send_value(message::HANDSHAKE_REQUEST, &offer).await;
    let (_, response) = proxy.message().await;
    assert_eq!(response["tollgate"], json!({"version": version}));
    proxy.encoding = encoding;
    proxy
}

/// Connects a pool to an agent that the test plays and that knows version 1 of the extension only.
async fn extended_pool(config: AgentPoolConfig) -> (RawAgent, AgentPool, RawConnection) {
    pool_in_version(1, config).await
}

/// Connects a pool to an agent that the test plays and that chooses this version.
pub(crate) async fn pool_in_version(
    version: u64,
    config: AgentPoolConfig,
) -> (RawAgent, AgentPool, RawConnection) {
    let agent = RawAgent::listen();
    let encoding = config.encodings[0];
    let pool = AgentPool::with_config(config);
    let accept = async {
        let mut connection = agent.accept().await;
        let (_, offer) = connection.message().await;
        assert_eq!(offer["tollgate"]["versions"], json!([2, 1]));
        let chosen = json!({"version": version});
        let response = extended(accept_handshake(encoding.as_str()), &chosen);
        connection
            .send_value(message::HANDSHAKE_RESPONSE, &response)
            .await;
        connection.encoding = encoding;
        connection
    };
    let endpoint = agent.path.display().to_string();
    let (added, connection) = tokio::join!(
        pool.add(AgentConfig::new("agent", endpoint).require_connection()),
        accept
    );
    added.expect("the pool connects");
    let handle = pool.agent("agent").unwrap();
    assert_eq!(handle.uses_extension(), Some(true));
    assert_eq!(handle.extension_version(), Some(version));
    (agent, pool, connection)
}

pub(crate) fn on_stream(stream: u64, payload: &[u8]) -> Vec<u8> {
    [&stream.to_be_bytes(), payload].concat()
}

/// Receives the next message. Returns its type, stream id and payload.
pub(crate) async fn receive_on_stream(connection: &mut RawConnection) -> (u8, u64, Vec<u8>) {
    let (message, payload) = connection.receive().await.expect("the connection ended");
    let (stream, payload) = payload.split_first_chunk().expect("a stream id");
    (message, u64::from_be_bytes(*stream), payload.to_vec())
}

async fn answer(connection: &mut RawConnection, stream: u64, status: u16) {
    let answer = json!({"version": 2, "decision": {"block": {"status": status}}});
    let payload = encode(connection.encoding, &answer);
    connection
        .send(message::AGENT_RESPONSE, &on_stream(stream, &payload))
        .await;
}

pub(crate) fn status(result: CallResult) -> u16 {
    match result.expect("an answer").decision {
        Decision::Block { status, .. } => status,
        other => panic!("not blocked: {other:?}"),
    }
}

fn chunk_value(id: &str, data: rmpv::Value) -> rmpv::Value {
    let text = |text: &str| rmpv::Value::from(text);
    rmpv::Value::Map(vec![
        (text("correlation_id"), text(id)),
        (text("data"), data),
        (text("is_last"), true.into()),
        (text("chunk_index"), 7.into()),
        (text("bytes_received"), 10.into()),
    ])
}

pub(crate) fn msgpack(value: &rmpv::Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("writing to a vector does not fail");
    out
}

fn field<'v>(value: &'v rmpv::Value, name: &str) -> &'v rmpv::Value {
    let found = value
        .as_map()
        .and_then(|map| map.iter().find(|(key, _)| key.as_str() == Some(name)));
    &found.unwrap_or_else(|| panic!("no {name} in {value}")).1
}

#[tokio::test]
async fn agent_hides_the_extension_from_a_proxy_without_it() {
    let agent = serve().await;
    for field in [
        None,
        Some(json!({"versions": []})),
        Some(json!({"versions": [3, 99]})),
    ] {
        let mut proxy = RawConnection::connect(&agent.path).await;
        let mut offer = offer_handshake("msgpack");
        if let Some(field) = field {
            offer = extended(offer, &field);
        }
        proxy.send_value(message::HANDSHAKE_REQUEST, &offer).await;

        let (_, response) = proxy.message().await;
        assert_eq!(response["success"], true);
        assert_eq!(response.get("tollgate"), None);
    }
}

#[tokio::test]
async fn pool_can_keep_to_the_zentinel_protocol() {
    let config = config(Encoding::MessagePack).use_extension(false);
    let (_agent, pool, mut connection) = raw_pool(config).await;
    assert_eq!(pool.agent("agent").unwrap().uses_extension(), Some(false));
    expect_works(&pool, &mut connection, "a").await;
}

#[tokio::test]
async fn version_that_was_not_offered_is_rejected() {
    for chosen in [json!({"version": 3}), json!({"version": 0})] {
        let agent = RawAgent::listen();
        let pool = AgentPool::with_config(config(Encoding::MessagePack));
        let accept = async {
            let mut connection = agent.accept().await;
            connection.message().await;
            let response = extended(accept_handshake("msgpack"), &chosen);
            connection
                .send_value(message::HANDSHAKE_RESPONSE, &response)
                .await;
            connection
        };

        let endpoint = agent.path.display().to_string();
        let (added, _connection) = tokio::join!(
            pool.add(AgentConfig::new("agent", endpoint).require_connection()),
            accept
        );

        let Err(AddError::Connect { source, .. }) = added else {
            panic!("{added:?}");
        };
        assert!(
            matches!(source, ConnectError::ExtensionNotOffered),
            "{source}"
        );
    }
}

#[tokio::test]
async fn agent_answers_on_the_stream_of_the_event() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut proxy = extended_proxy(&agent, encoding).await;
        for stream in [0, 1, u64::MAX] {
            let event = encode(
                encoding,
                &serde_json::to_value(request("a", "/block")).unwrap(),
            );
            proxy
                .send(message::REQUEST_HEADERS, &on_stream(stream, &event))
                .await;
            let (message, answered, payload) = receive_on_stream(&mut proxy).await;
            assert_eq!((message, answered), (message::AGENT_RESPONSE, stream));

            let response = proxy.decode(&payload);
            assert_eq!(response["decision"]["block"]["status"], 403);
            assert_eq!(response.get("audit"), None);
        }
    }
}

#[tokio::test]
async fn bodies_are_bytes_in_messagepack() {
    let agent = serve().await;
    let mut proxy = extended_proxy(&agent, Encoding::MessagePack).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let event = chunk_value("a", rmpv::Value::Binary(every_byte.clone()));
    proxy
        .send(
            message::RESPONSE_BODY_CHUNK,
            &on_stream(5, &{
                // In a response body the field is called `bytes_sent`.
                let mut event = event;
                if let rmpv::Value::Map(fields) = &mut event {
                    fields[4].0 = "bytes_sent".into();
                }
                msgpack(&event)
            }),
        )
        .await;

    let (_, stream, payload) = receive_on_stream(&mut proxy).await;
    assert_eq!(stream, 5);

    let answer = rmpv::decode::read_value(&mut &payload[..]).unwrap();
    let mutation = field(&answer, "response_body_mutation");
    assert_eq!(field(mutation, "data"), &rmpv::Value::Binary(every_byte));
    assert_eq!(field(mutation, "chunk_index"), &rmpv::Value::from(7));
}

#[tokio::test]
async fn undecodable_event_is_blocked_on_its_stream() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut proxy = extended_proxy(&agent, encoding).await;
        for garbage in [&b""[..], b"\xc1", b"{", b"\x80"] {
            proxy
                .send(message::REQUEST_HEADERS, &on_stream(9, garbage))
                .await;

            let (_, stream, payload) = receive_on_stream(&mut proxy).await;
            assert_eq!(stream, 9);
            let response = proxy.decode(&payload);
            assert_eq!(response["decision"]["block"]["status"], 500);
            assert_eq!(response["audit"]["reason_codes"][0], "agent_error");
        }
    }
}

#[tokio::test]
async fn event_without_a_stream_id_ends_the_connection() {
    let agent = serve().await;
    let mut proxy = extended_proxy(&agent, Encoding::MessagePack).await;
    proxy.send(message::REQUEST_HEADERS, &[0; 7]).await;
    proxy.expect_end().await;
}

#[tokio::test]
async fn each_cancelled_event_is_answered_on_its_stream() {
    let agent = serve().await;
    let mut proxy = extended_proxy(&agent, Encoding::Json).await;
    let event = serde_json::to_value(request("a", "/wait"))
        .unwrap()
        .to_string();

    for stream in [3, 4] {
        proxy
            .send(
                message::REQUEST_HEADERS,
                &on_stream(stream, event.as_bytes()),
            )
            .await;
    }

    let cancel = json!({"correlation_id": "a", "reason": 0, "timestamp_ms": 1});
    proxy.send_value(message::CANCEL, &cancel).await;

    let mut streams = Vec::new();
    for _ in 0..2 {
        let (_, stream, payload) = receive_on_stream(&mut proxy).await;
        streams.push(stream);
        let response = proxy.decode(&payload);
        assert_eq!(
            response["audit"]["reason_codes"],
            json!(["agent_error", "cancelled"])
        );
    }

    streams.sort_unstable();
    assert_eq!(streams, [3, 4]);
}

#[tokio::test]
async fn pool_sends_bodies_as_bytes() {
    let (_agent, pool, mut connection) = extended_pool(config(Encoding::MessagePack)).await;
    for len in [0, 1, 256, 257, 100_000] {
        let data: Bytes = (0..len).map(|n| n as u8).collect();
        let event = RequestBodyChunkEvent::new("a", data.clone(), 0, true);
        let call = tokio::spawn({
            let pool = pool.clone();
            async move { pool.agent("agent").unwrap().send("a", &event).await }
        });

        let (message, stream, payload) = receive_on_stream(&mut connection).await;
        assert_eq!(message, message::REQUEST_BODY_CHUNK);
        let value = rmpv::decode::read_value(&mut &payload[..]).unwrap();
        assert_eq!(field(&value, "data"), &rmpv::Value::Binary(data.to_vec()));

        answer(&mut connection, stream, 403).await;
        assert_eq!(status(result_of(call).await), 403);
    }
}

#[tokio::test]
async fn answers_in_any_order_reach_their_calls() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = extended_pool(config(encoding)).await;
        let mut exchange = pool.agent("agent").unwrap().exchange("same id").unwrap();
        for uri in ["/1", "/2", "/3"] {
            exchange.push(&request("same id", uri)).await.unwrap();
        }

        let mut streams = Vec::new();
        for n in 1..=3 {
            let (_, stream, payload) = receive_on_stream(&mut connection).await;
            assert_eq!(connection.decode(&payload)["uri"], format!("/{n}"));
            streams.push((stream, 400 + n));
        }

        for (stream, status) in streams.into_iter().rev() {
            answer(&mut connection, stream, status).await;
        }

        for expected in 401..=403 {
            assert_eq!(status(exchange.next_answer().await.unwrap()), expected);
        }
        assert!(exchange.next_answer().await.is_none());
    }
}

#[tokio::test]
async fn late_repeated_and_unknown_answers_are_dropped() {
    let config = config(Encoding::MessagePack).request_timeout(Duration::from_millis(50));
    let (_agent, pool, mut connection) = extended_pool(config).await;

    let first = call(&pool, "a");
    let (_, late, _) = receive_on_stream(&mut connection).await;
    assert_fails!(result_of(first).await, CallError::Timeout { .. });

    // The next event of the same exchange is sent at once, and gets its own answer.
    let second = call(&pool, "a");
    let (_, stream, _) = receive_on_stream(&mut connection).await;
    assert_ne!(stream, late);

    for (stream, status) in [
        (late, 401),
        (0, 402),
        (u64::MAX, 402),
        (stream + (1 << 32), 402),
    ] {
        answer(&mut connection, stream, status).await;
    }

    answer(&mut connection, stream, 403).await;
    answer(&mut connection, stream, 404).await;
    assert_eq!(status(result_of(second).await), 403);

    connection.sync().await;
    let counts = faults(&pool).await;
    assert_eq!(counts.late_answers, 2);
    assert_eq!(counts.unmatched_answers, 3);
}

#[tokio::test]
async fn undecodable_answer_fails_the_call_of_its_stream() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = extended_pool(config(encoding)).await;
        let call = call(&pool, "a");
        let (_, stream, _) = receive_on_stream(&mut connection).await;

        connection.send(message::AGENT_RESPONSE, &[1, 2, 3]).await;
        connection
            .send(message::AGENT_RESPONSE, &on_stream(stream, b"\xc1"))
            .await;

        assert_fails!(result_of(call).await, CallError::InvalidMessage { .. });
        assert_eq!(faults(&pool).await.undecodable_answers, 2);
    }
}

/// The example of docs/protocol.md, byte for byte.
#[tokio::test]
async fn bytes_match_the_documented_example() {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(0xa0 | u8::try_from(text.len()).unwrap());
        out.extend(text.as_bytes());
    }
    let mut event = b"\0\0\0\x58\x11\0\0\0\0\0\0\0\x07\x86".to_vec();
    for (key, value) in [
        ("correlation_id", &b"\xa3r-1"[..]),
        ("is_last", b"\xc3"),
        ("total_size", b"\xc0"),
        ("chunk_index", b"\0"),
        ("bytes_received", b"\x02"),
        ("data", b"\xc4\x02hi"),
    ] {
        text(&mut event, key);
        event.extend(value);
    }

    let agent = serve().await;
    let mut proxy = extended_proxy(&agent, Encoding::MessagePack).await;
    proxy.send_bytes(&event).await;

    let (message, payload) = proxy.receive().await.unwrap();
    let mut expected = b"\0\0\0\0\0\0\0\x07\x82".to_vec();
    text(&mut expected, "version");
    expected.push(2);
    text(&mut expected, "decision");
    text(&mut expected, "allow");

    assert_eq!((message, &payload), (message::AGENT_RESPONSE, &expected));
    assert_eq!(payload.len() + 1, 0x22);
}

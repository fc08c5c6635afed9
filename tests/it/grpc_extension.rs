//! Tollgate's extension in protobuf, field by field: each peer gets only messages that it knows.
use crate::common::http2::{
    ClientConnection, PROCESS_STREAM, RawStream, SendHalf, grpc_config, raw_grpc_pool,
    raw_grpc_pool_with,
};
use crate::common::proto::{
    Value, accept_handshake, bytes, content, find, number, stream_id, text,
};
use crate::common::{call, eventually, faults, request, result_of, serve_grpc};
use serde_json::json;
use std::time::Duration;
use tollgate::{
    AgentConfig,
    control::{AgentNotice, DrainReason, LogLevel, LogMessage, ShutdownReason},
    events::RequestMetadata,
};

/// Returns an agent's request to reload its settings.
fn reload(id: &str) -> Vec<u8> {
    bytes(5, [bytes(1, id), number(2, 1), bytes(10, [])].concat())
}

/// Makes a call and asserts that its event is the next message.
async fn expect_only_event(pool: &tollgate::AgentPool, stream: &mut RawStream, id: &str) {
    let pending = call(pool, id);
    assert_eq!(stream.event().await, id);
    stream.block(id, 418);
    result_of(pending).await.unwrap();
}

#[tokio::test]
async fn zentinel_agent_gets_no_extension_messages() {
    let (_agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
    let agent = pool.agent("agent").unwrap();
    let drained = agent
        .request_drain(Duration::from_millis(500), DrainReason::Manual)
        .await;
    assert!(!drained.unwrap());
    let shut = agent
        .request_shutdown(Duration::from_millis(1), ShutdownReason::Upgrade)
        .await;
    assert!(!shut.unwrap());

    stream.send_message(&reload("r-1"));
    eventually("the request is counted, though not answered", async || {
        let stats = agent.stats();
        stats.config_updates_accepted + stats.config_updates_refused == 1
    })
    .await;

    expect_only_event(&pool, &mut stream, "c-1").await;
    let pending = call(&pool, "c-2");
    let event = stream.expect_message().await;
    assert_eq!(find(&event, 1000), None);
    stream.block("c-2", 418);
    result_of(pending).await.unwrap();
}

#[tokio::test]
async fn extended_agent_gets_messages_in_the_extension_fields() {
    let answering = accept_handshake(Some(1));
    let (_agent, pool, _connection, mut stream) =
        raw_grpc_pool_with(grpc_config(), &answering).await;

    let drained = pool
        .agent("agent")
        .unwrap()
        .request_drain(Duration::from_millis(500), DrainReason::Maintenance)
        .await;
    assert!(drained.unwrap());
    let drain = content(&stream.expect_message().await, 1003);
    assert_eq!(find(&drain, 1), Some(Value::Number(500)));
    assert_eq!(find(&drain, 2), Some(Value::Number(2)));

    let shut = pool
        .agent("agent")
        .unwrap()
        .request_shutdown(Duration::from_millis(70), ShutdownReason::Upgrade)
        .await;
    assert!(shut.unwrap());
    let shutdown = content(&stream.expect_message().await, 1002);
    assert_eq!(find(&shutdown, 1), Some(Value::Number(4)));
    assert_eq!(find(&shutdown, 2), Some(Value::Number(70)));

    stream.send_message(&reload("r-1"));
    let response = content(&stream.expect_message().await, 1001);
    assert_eq!(text(&response, 1), "r-1");
    assert_eq!(find(&response, 2), Some(Value::Number(1)));

    let mut notices = pool.notices();
    let fields_json = r#"{"n":[1,2.5,null]}"#;
    let pair = [bytes(1, "k"), bytes(2, "v")].concat();
    let line = [
        number(1, 3),
        bytes(2, "m"),
        bytes(3, "c-1"),
        bytes(4, pair),
        number(5, 7),
        bytes(1000, fields_json),
    ];
    stream.send_message(&bytes(8, line.concat()));
    let AgentNotice::Log { message, .. } = notices.recv().await.unwrap() else {
        panic!("another notice");
    };
    let expected = LogMessage::new(LogLevel::Warn, "m")
        .about("c-1")
        .with_field("k", json!("v"))
        .with_field("n", json!([1, 2.5, null]));
    assert_eq!(message.fields, expected.fields);
    assert_eq!((message.level, &*message.message), (LogLevel::Warn, "m"));
    assert_eq!(message.correlation_id.as_deref(), Some("c-1"));
}

#[tokio::test]
async fn disabled_extension_is_not_offered() {
    let config = grpc_config().use_extension(false);
    let agent = crate::common::http2::RawServer::listen().await;

    let pool = tollgate::AgentPool::with_config(config);
    let (added, _held) = tokio::join!(
        pool.add(AgentConfig::new("agent", &*agent.endpoint).require_connection()),
        async {
            let (connection, incoming) = agent.accept_stream().await;
            let mut stream = incoming.respond();
            let handshake = content(&stream.expect_message().await, 1);
            assert_eq!(find(&handshake, 1000), None);
            stream.send_message(&accept_handshake(None));
            (connection, stream)
        }
    );
    added.unwrap();
}

#[tokio::test]
async fn zentinel_proxy_gets_no_extension_messages() {
    let agent = serve_grpc().await;
    let mut connection = ClientConnection::to(&agent.path).await;
    let mut stream = connection.shake_hands().await;

    agent
        .control
        .log(LogMessage::new(LogLevel::Info, "unheard"));

    stream.send_message(&bytes(11, number(1, 7)));
    let pong = content(&stream.expect_message().await, 7);
    assert_eq!(find(&pong, 1), Some(Value::Number(7)));
}

#[tokio::test]
async fn extended_proxy_gets_messages_in_the_extension_fields() {
    let agent = serve_grpc().await;
    let mut connection = ClientConnection::to(&agent.path).await;

    let mut opened = connection.open(PROCESS_STREAM).await;
    let offer = [bytes(1, [2]), bytes(2, "raw"), bytes(1000, [9, 1])].concat();
    opened.send_message(&bytes(1, offer));
    let mut stream = opened.responded().await;
    let response = content(&stream.expect_message().await, 1);
    assert_eq!(find(&response, 1000), Some(Value::Number(1)));

    // An answer proves that the agent has processed the handshake.
    let event = crate::common::proto::request("c-1", "/");
    stream.send_message(&[stream_id(1 << 63), event].concat());
    let answer = stream.expect_message().await;
    assert_eq!(find(&answer, 1000), Some(Value::Number(1 << 63)));
    assert_eq!(find(&content(&answer, 2), 1), None);

    let line = LogMessage::new(LogLevel::Error, "m")
        .with_field("k", json!("v"))
        .with_field("n", json!(7));
    agent.control.log(line);
    let line = content(&stream.expect_message().await, 8);
    assert_eq!(find(&line, 1), Some(Value::Number(4)));
    assert_eq!(text(&line, 2), "m");
    let pair = content(&line, 4);
    assert_eq!((text(&pair, 1), text(&pair, 2)), ("k".into(), "v".into()));
    assert_eq!(text(&line, 1000), r#"{"n":7}"#);
}

/// Values for which `zentinel-agent-protocol`'s messages have no field still reach the agent.
#[tokio::test]
async fn values_without_a_zentinel_field_reach_the_agent() {
    let agent = serve_grpc().await;
    let pool = crate::common::pool_with(grpc_config(), &agent.path).await;
    let mut event = request("c-1", "/");
    event.metadata = RequestMetadata {
        tls_cipher: Some("TLS_CHACHA20_POLY1305_SHA256".to_owned()),
        timestamp: "2026-01-02T03:04:05.123456789+02:00".to_owned(),
        ..event.metadata
    };

    pool.agent("agent")
        .unwrap()
        .send("c-1", &event)
        .await
        .unwrap();
    let seen = agent.last_seen();
    assert_eq!(
        seen["metadata"],
        serde_json::to_value(&event.metadata).unwrap()
    );
    assert_eq!(faults(&pool).await.undecodable_answers, 0);
}

//! Version 2 of tollgate's extension on the wire, against a hand-written peer.

use crate::common::*;
use crate::extension::{
    msgpack, on_stream, pool_in_version, proxy_in_version, receive_on_stream, status,
};
use rmpv::Value;
use std::time::Duration;
use tollgate::{
    AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentResponse, CallError, Decision,
    Encoding, EventType, RequestHeadersView, events::RequestBodyChunkEvent, time_left,
};

/// Returns a request head in version 2.
fn head(id: &str, time_left: Value, uri: &str) -> Vec<u8> {
    let headers = vec![
        (0.into(), Value::Binary(b"example.com".to_vec())),
        ("x-raw".into(), Value::Binary(b"caf\xe9".to_vec())),
    ];
    msgpack(&Value::Array(vec![
        id.into(),
        time_left,
        2.into(),
        uri.into(),
        2.into(),
        Value::Binary(vec![192, 0, 2, 7]),
        4711.into(),
        1_767_323_045_000_u64.into(),
        "q".into(),
        Value::Map(headers),
        Value::Map(vec![(3.into(), "api".into())]),
    ]))
}

async fn send_head(proxy: &mut RawConnection, stream: u64, head: &[u8]) {
    proxy
        .send(message::REQUEST_HEADERS, &on_stream(stream, head))
        .await;
}

/// Receives an answer. Returns its stream id and its items.
async fn receive_answer(proxy: &mut RawConnection) -> (u64, Vec<Value>) {
    let (message, stream, payload) = receive_on_stream(proxy).await;
    assert_eq!(message, message::AGENT_RESPONSE);
    (stream, items(&payload))
}

fn items(payload: &[u8]) -> Vec<Value> {
    match rmpv::decode::read_value(&mut &payload[..]).unwrap() {
        Value::Array(items) => items,
        other => panic!("not an array: {other}"),
    }
}

/// Returns the block with status 500 and a reason code.
fn failed(code: &str) -> Vec<Value> {
    let codes = Value::Array(vec!["agent_error".into(), code.into()]);
    let audit = Value::Map(vec![(3.into(), codes)]);
    let block = vec![1.into(), 500.into(), Value::Nil, Value::Nil];
    vec![Value::Array(block), Value::Map(vec![(3.into(), audit)])]
}

#[tokio::test]
async fn agent_reads_and_answers_in_arrays() {
    let agent = serve().await;
    let mut proxy = proxy_in_version(2, &agent, Encoding::MessagePack).await;
    send_head(&mut proxy, 7, &head("r-1", Value::Nil, "/block")).await;
    let (stream, answer) = receive_answer(&mut proxy).await;
    let headers = Value::Map(vec![("x-reason".into(), "rule".into())]);
    let block = vec![1.into(), 403.into(), "no".into(), headers];
    assert_eq!((stream, answer), (7, vec![Value::Array(block)]));

    let seen = agent.seen.lock().unwrap()[0].clone();
    let metadata = serde_json::json!({
        "correlation_id": "r-1", "request_id": "q", "client_ip": "192.0.2.7",
        "client_port": 4711, "server_name": null, "protocol": "HTTP/1.1", "tls_version": null,
        "tls_cipher": null, "route_id": "api", "upstream_id": null,
        "timestamp": "2026-01-02T03:04:05.000Z",
    });
    let expected = serde_json::json!({
        "metadata": metadata, "method": "POST", "uri": "/block",
        "headers": {"host": ["example.com"], "x-raw": ["caf\u{e9}"]},
    });
    assert_eq!(seen, expected);

    send_head(&mut proxy, 8, &head("r-2", 500.into(), "/")).await;
    let (_, stream, payload) = receive_on_stream(&mut proxy).await;
    assert_eq!((stream, &payload[..]), (8, &[0x91, 0x00][..]));
}

#[tokio::test]
async fn event_that_does_not_decode_is_blocked_on_its_stream() {
    let agent = serve().await;
    let mut proxy = proxy_in_version(2, &agent, Encoding::MessagePack).await;
    let valid = head("r-1", Value::Nil, "/");
    let surplus = [&valid[..], b"\0"].concat();
    let as_map = encode(
        Encoding::MessagePack,
        &serde_json::to_value(request("a", "/")).unwrap(),
    );
    for (payload, code) in [
        (&b""[..], "cut_short"),
        (&valid[..valid.len() - 1], "cut_short"),
        (&surplus, "surplus"),
        // An event of version 1.
        (&as_map, "wrong_type"),
        (b"\x93\xa1a\xc0\x09", "unknown_name"),
        (b"\x91\xa1a", "missing_field"),
    ] {
        send_head(&mut proxy, 9, payload).await;
        assert_eq!(receive_answer(&mut proxy).await, (9, failed(code)));
    }
    assert!(agent.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn json_is_the_same_in_both_versions() {
    let agent = serve().await;
    let mut proxy = proxy_in_version(2, &agent, Encoding::Json).await;
    let event = encode(
        Encoding::Json,
        &serde_json::to_value(request("a", "/block")).unwrap(),
    );
    send_head(&mut proxy, 3, &event).await;
    let (_, stream, payload) = receive_on_stream(&mut proxy).await;
    let answer: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (stream, &answer["decision"]["block"]["status"]),
        (3, &403.into())
    );
}

/// Receives an event that the pool sends. Returns its stream id and its items.
async fn receive_event(agent: &mut RawConnection, expected: u8) -> (u64, Vec<Value>) {
    let (message, stream, payload) = receive_on_stream(agent).await;
    assert_eq!(message, expected);
    (stream, items(&payload))
}

async fn answer(agent: &mut RawConnection, stream: u64, answer: &[u8]) {
    agent
        .send(message::AGENT_RESPONSE, &on_stream(stream, answer))
        .await;
}

#[tokio::test]
async fn pool_writes_and_reads_arrays() {
    let config = config(Encoding::MessagePack);
    let (_agent, pool, mut connection) = pool_in_version(2, config).await;
    let handle = pool.agent("agent").unwrap();
    let exchange = async {
        let mut exchange = handle.exchange("r-1").unwrap();
        let head = exchange.send(&request("r-1", "/a")).await;
        let data = vec![0xff; 300];
        let chunk = RequestBodyChunkEvent::new("r-1", data, 0, true);
        (head, exchange.send(&chunk).await)
    };
    let agent = async {
        let (stream, items) = receive_event(&mut connection, message::REQUEST_HEADERS).await;
        assert_eq!(
            (items[0].as_str(), items[3].as_str()),
            (Some("r-1"), Some("/a"))
        );
        answer(&mut connection, stream, &[0x91, 0x00]).await;
        let (stream, items) = receive_event(&mut connection, message::REQUEST_BODY_CHUNK).await;
        assert_eq!(items[6], Value::Binary(vec![0xff; 300]));
        answer(&mut connection, stream, b"\x91\x94\x01\xcd\x01\x93\xc0\xc0").await;
    };
    let ((head, body), ()) = tokio::join!(exchange, agent);
    assert_eq!(head.unwrap(), AgentResponse::default_allow());
    assert_eq!(status(body), 403);
}

#[tokio::test]
async fn answer_that_does_not_decode_fails_its_call() {
    let (_agent, pool, mut connection) = pool_in_version(2, config(Encoding::MessagePack)).await;
    let handle = pool.agent("agent").unwrap();
    for bad in [
        &b""[..],
        b"\x90",
        b"\x91\x04",
        b"\x91\x00\x00",
        b"\x82\xa7version\x02\xa8decision\xa5allow",
    ] {
        let agent = async {
            let (stream, _) = receive_event(&mut connection, message::REQUEST_HEADERS).await;
            answer(&mut connection, stream, bad).await;
        };
        let event = request("a", "/");
        let (result, ()) = tokio::join!(handle.send("a", &event), agent);
        let error = result.unwrap_err();
        assert!(
            matches!(error, CallError::InvalidMessage { .. }),
            "{bad:?}: {error}"
        );
    }
}

#[tokio::test]
async fn events_say_how_much_time_is_left() {
    let timeout = Duration::from_secs(20);
    let config = config(Encoding::MessagePack)
        .request_timeout(timeout)
        .max_concurrent_per_connection(1);
    let (_agent, pool, mut connection) = pool_in_version(2, config).await;
    let handle = pool.agent("agent").unwrap();
    let waits = Duration::from_millis(30);
    let agent = async {
        let (stream, items) = receive_event(&mut connection, message::REQUEST_HEADERS).await;
        assert_eq!(items[1].as_u64(), Some(20_000));
        // The second call waits for the slot of the first.
        tokio::time::sleep(waits).await;
        answer(&mut connection, stream, &[0x91, 0x00]).await;
        let (stream, items) = receive_event(&mut connection, message::REQUEST_HEADERS).await;
        let left = Duration::from_millis(items[1].as_u64().unwrap());
        assert!(left > Duration::ZERO && left <= timeout - waits, "{left:?}");
        answer(&mut connection, stream, &[0x91, 0x00]).await;
    };
    let (first, second) = (request("a", "/"), request("b", "/"));
    let (first, second, ()) =
        tokio::join!(handle.send("a", &first), handle.send("b", &second), agent);
    first.unwrap();
    second.unwrap();
}

#[tokio::test]
async fn agent_drops_an_event_that_nobody_waits_for() {
    let agent = serve().await;
    let mut proxy = proxy_in_version(2, &agent, Encoding::MessagePack).await;
    send_head(&mut proxy, 1, &head("r-1", Value::Nil, "/wait")).await;
    for (stream, left) in [(2, Value::from(1)), (3, 60_000.into()), (4, Value::Nil)] {
        send_head(&mut proxy, stream, &head("r-1", left, "/")).await;
    }
    proxy.sync().await;
    // The time that is left for the second event passes.
    tokio::time::sleep(Duration::from_millis(5)).await;
    agent.release.notify_one();
    assert_eq!(receive_answer(&mut proxy).await, (1, vec![0.into()]));
    assert_eq!(receive_answer(&mut proxy).await, (2, failed("expired")));
    assert_eq!(receive_answer(&mut proxy).await, (3, vec![0.into()]));
    assert_eq!(receive_answer(&mut proxy).await, (4, vec![0.into()]));
    assert_eq!(agent.seen.lock().unwrap().len(), 3);
}

/// Redirects to the milliseconds that are left, before and after it waits.
struct Teller;

impl AgentHandler for Teller {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("teller", "Teller", "1").with_event(EventType::RequestHeaders)
    }

    async fn on_request_headers(&self, _: RequestHeadersView<'_>) -> AgentResponse {
        let before = time_left();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let after = time_left();
        assert!(tokio::spawn(async { time_left() }).await.unwrap().is_none());
        let left = before.zip(after).map(|(before, after)| {
            assert!(after + Duration::from_millis(2) <= before);
            before.as_secs()
        });
        AgentResponse::redirect(format!("{left:?}"), 302)
    }
}

#[tokio::test]
async fn handlers_can_ask_for_the_time_that_is_left() {
    assert_eq!(time_left(), None);
    let folder = tempfile::tempdir().unwrap();
    let (path, _control) = serve_handler(Encoding::MessagePack, &folder, Teller).await;
    for (encoding, expected) in [
        (Encoding::MessagePack, "Some(29)"),
        (Encoding::Json, "None"),
    ] {
        let config = config(encoding).request_timeout(Duration::from_secs(30));
        let pool = AgentPool::with_config(config);
        let agent = AgentConfig::new("agent", path.display().to_string()).require_connection();
        let handle = pool.add(agent).await.unwrap();
        assert_eq!(handle.extension_version(), Some(2));
        let (first, second) = (request("a", "/"), request("b", "/"));
        let (first, second) = tokio::join!(handle.send("a", &first), handle.send("b", &second));
        for answer in [first, second] {
            match answer.unwrap().decision {
                Decision::Redirect { url, .. } => assert_eq!(url, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}

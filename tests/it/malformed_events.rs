//! Events that do not decode are never allowed: they are blocked, or the connection is closed.

use crate::common::{BOTH, RawConnection, ServedAgent, encode, message, metadata, serve};
use serde_json::{Map, Value, json};
use tollgate::Encoding;

const ID: &str = "c-1";

/// Returns one event of each type with every field set, and the names of its optional fields.
fn events() -> [(u8, Value, &'static [&'static str]); 8] {
    let headers = json!({"host": ["example.com"]});
    [
        (
            message::REQUEST_HEADERS,
            json!({"metadata": metadata(ID), "method": "GET", "uri": "/", "headers": headers}),
            &[],
        ),
        (
            message::REQUEST_BODY_CHUNK,
            json!({
                "correlation_id": ID, "data": "YWJj", "is_last": true, "total_size": 3,
                "chunk_index": 0, "bytes_received": 3,
            }),
            &["total_size", "chunk_index", "bytes_received"],
        ),
        (
            message::RESPONSE_HEADERS,
            json!({"correlation_id": ID, "status": 200, "headers": headers}),
            &[],
        ),
        (
            message::RESPONSE_BODY_CHUNK,
            json!({
                "correlation_id": ID, "data": "YWJj", "is_last": true, "total_size": 3,
                "chunk_index": 0, "bytes_sent": 3,
            }),
            &["total_size", "chunk_index", "bytes_sent"],
        ),
        (
            message::REQUEST_COMPLETE,
            json!({
                "correlation_id": ID, "status": 200, "duration_ms": 1, "request_body_size": 2,
                "response_body_size": 3, "upstream_attempts": 1, "error": "none",
            }),
            &["error"],
        ),
        (
            message::WEBSOCKET_FRAME,
            json!({
                "correlation_id": ID, "opcode": "text", "data": "YWJj", "client_to_server": true,
                "frame_index": 0, "fin": true, "route_id": "r", "client_ip": "::1",
            }),
            &["route_id"],
        ),
        (
            message::GUARDRAIL_INSPECT,
            json!({
                "correlation_id": ID, "inspection_type": "pii_detection", "content": "text",
                "model": "m", "categories": ["a"], "route_id": "r", "metadata": {"k": "v"},
            }),
            &["model", "categories", "route_id", "metadata"],
        ),
        // Only the id of settings has a fixed type.
        (
            message::CONFIGURE,
            json!({"correlation_id": ID, "config": {"accept": true}, "z": 1}),
            &["config", "z"],
        ),
    ]
}

/// Reaction of an agent to a malformed event.
#[derive(Debug, PartialEq)]
enum Reaction {
    Blocked,
    Closed,
}

/// Connection to an agent that is opened again when the agent closes it.
struct Prober<'a> {
    agent: &'a ServedAgent,
    connection: RawConnection,
}

impl<'a> Prober<'a> {
    async fn new(agent: &'a ServedAgent, encoding: Encoding) -> Self {
        let connection = RawConnection::connect_in(&agent.path, encoding).await;
        Self { agent, connection }
    }

    /// Sends a malformed event. An answer must be a block for [`ID`] that tells the reason.
    async fn react(&mut self, what: &str, message: u8, payload: &[u8]) -> Reaction {
        self.connection.send(message, payload).await;
        let encoding = self.connection.encoding;

        let what = format!("{what} in {message:#04x}, {encoding}");
        let seen = self
            .agent
            .seen
            .lock()
            .expect("the handler does not panic")
            .len();
        assert_eq!(seen, 0, "{what}: the handler was called");

        match self.connection.receive().await {
            None => {
                self.connection = RawConnection::connect_in(&self.agent.path, encoding).await;
                Reaction::Closed
            }
            Some((message::AGENT_RESPONSE, answer)) => {
                let answer = self.connection.decode(&answer);
                expect_blocked(&what, &answer);
                Reaction::Blocked
            }
            other => panic!("{what}: {other:?}"),
        }
    }

    async fn expect(&mut self, expected: Reaction, what: &str, message: u8, payload: &[u8]) {
        let reaction = self.react(what, message, payload).await;
        let encoding = self.connection.encoding;
        assert_eq!(reaction, expected, "{what} in {message:#04x}, {encoding}");
    }
}

fn expect_blocked(what: &str, answer: &Value) {
    assert_eq!(
        answer["decision"]["block"]["status"], 500,
        "{what}: {answer}"
    );
    let codes = answer["audit"]["reason_codes"]
        .as_array()
        .expect("reason codes");
    assert!(codes.contains(&json!("agent_error")), "{what}: {answer}");
    assert_eq!(
        answer["audit"]["custom"]["correlation_id"], ID,
        "{what}: {answer}"
    );
}

/// Returns the paths to the fields of a value, and to those of its metadata.
fn paths(event: &Value, below: &[String]) -> Vec<Vec<String>> {
    let Some(fields) = event.as_object() else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    for (name, value) in fields {
        let mut path = below.to_vec();
        path.push(name.clone());
        if name == "metadata" {
            paths.extend(self::paths(value, &path));
        }
        paths.push(path);
    }
    paths
}

fn parent<'v>(event: &'v mut Value, path: &[String]) -> &'v mut Map<String, Value> {
    let above = &path[..path.len() - 1];
    let value = above
        .iter()
        .fold(event, |value, name| &mut value[name.as_str()]);
    value.as_object_mut().expect("a map")
}

/// Returns `Blocked` if the damaged event still has its id, else `Closed`.
fn expected(path: &[String], message: u8) -> Reaction {
    let id_is_lost = match message {
        message::REQUEST_HEADERS => path == ["metadata"] || path == ["metadata", "correlation_id"],
        _ => path == ["correlation_id"],
    };
    if id_is_lost {
        Reaction::Closed
    } else {
        Reaction::Blocked
    }
}

fn last(path: &[String]) -> &str {
    path.last().expect("a name")
}

/// Metadata fields that may be null or missing.
const OPTIONAL_METADATA: [&str; 6] = [
    "server_name",
    "tls_version",
    "tls_cipher",
    "route_id",
    "upstream_id",
    "traceparent",
];

#[tokio::test]
async fn garbage_closes_the_connection() {
    let agent = serve().await;
    let deep = b"[".repeat(1_000_000);
    let deep_maps = b"\x81\xa1a".repeat(300_000);
    let garbage: [&[u8]; 10] = [
        b"",
        b"}{",
        b"null",
        b"[]",
        b"{}]",
        b"\xc1",
        b"\x81",
        b"\xdf\xff\xff\xff\xff",
        &deep,
        &deep_maps,
    ];

    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, ..) in events() {
            for payload in garbage {
                prober
                    .expect(Reaction::Closed, "garbage", message, payload)
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn truncated_event_is_blocked_or_closes_the_connection() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, event, _) in events() {
            let whole = encode(encoding, &event);
            for len in 0..whole.len() - 1 {
                prober
                    .react(&format!("{len} bytes"), message, &whole[..len])
                    .await;
            }

            let nearly = &whole[..whole.len() - 1];
            prober
                .expect(Reaction::Blocked, "all but one byte", message, nearly)
                .await;
        }
    }
}

#[tokio::test]
async fn missing_field_is_blocked() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, event, optional) in events() {
            for path in paths(&event, &[]) {
                let name = last(&path);
                let in_head = message == message::REQUEST_HEADERS && path.len() == 2;
                let in_guardrail = message == message::GUARDRAIL_INSPECT && path.len() == 2;
                let may_miss = optional.contains(&name)
                    || in_guardrail
                    || (in_head && OPTIONAL_METADATA.contains(&name))
                    // Older proxies send settings without an id.
                    || message == message::CONFIGURE;
                if may_miss {
                    continue;
                }

                let mut damaged = event.clone();
                parent(&mut damaged, &path).remove(name);
                let what = format!("without {path:?}");

                let payload = encode(encoding, &damaged);
                prober
                    .expect(expected(&path, message), &what, message, &payload)
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn field_of_a_wrong_type_is_blocked() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, event, _) in events() {
            for path in paths(&event, &[]) {
                let is_free_form = message == message::CONFIGURE && last(&path) != "correlation_id";
                if is_free_form {
                    continue;
                }

                let wrong = [json!({"a": {"b": 1}}), json!(-1.5), json!([[7]])];
                for value in wrong {
                    let mut damaged = event.clone();
                    parent(&mut damaged, &path).insert(last(&path).to_owned(), value.clone());
                    let what = format!("{value} as {path:?}");
                    let payload = encode(encoding, &damaged);
                    prober
                        .expect(expected(&path, message), &what, message, &payload)
                        .await;
                }
            }
        }
    }
}

#[tokio::test]
async fn values_out_of_bounds_are_blocked() {
    let agent = serve().await;
    let cases = [
        (
            message::REQUEST_HEADERS,
            &["metadata", "client_port"][..],
            json!(70000),
        ),
        (
            message::REQUEST_HEADERS,
            &["metadata", "client_port"],
            json!(-1),
        ),
        (message::REQUEST_BODY_CHUNK, &["data"], json!("not base64!")),
        (message::REQUEST_BODY_CHUNK, &["data"], json!("YWJ")),
        (message::REQUEST_BODY_CHUNK, &["data"], json!(null)),
        (
            message::REQUEST_BODY_CHUNK,
            &["chunk_index"],
            json!(u64::MAX),
        ),
        (message::REQUEST_BODY_CHUNK, &["total_size"], json!(-1)),
        (message::RESPONSE_HEADERS, &["status"], json!(65536)),
        (
            message::RESPONSE_HEADERS,
            &["headers", "host"],
            json!("example.com"),
        ),
        (message::RESPONSE_HEADERS, &["headers", "host"], json!([1])),
        (
            message::RESPONSE_HEADERS,
            &["headers", "host"],
            json!([null]),
        ),
        (message::RESPONSE_BODY_CHUNK, &["is_last"], json!("true")),
        (message::REQUEST_COMPLETE, &["duration_ms"], json!(-1)),
        (message::REQUEST_COMPLETE, &["status"], json!(1.5)),
        (message::WEBSOCKET_FRAME, &["opcode"], json!("TEXT")),
        (message::WEBSOCKET_FRAME, &["opcode"], json!(1)),
        (message::WEBSOCKET_FRAME, &["data"], json!("*")),
        (
            message::GUARDRAIL_INSPECT,
            &["inspection_type"],
            json!("mind_reading"),
        ),
        (message::GUARDRAIL_INSPECT, &["categories"], json!([1])),
        (message::GUARDRAIL_INSPECT, &["metadata", "k"], json!(1)),
    ];

    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, path, value) in &cases {
            let (_, mut event, _) = events()
                .into_iter()
                .find(|event| event.0 == *message)
                .unwrap();

            let path: Vec<_> = path.iter().map(|name| (*name).to_owned()).collect();
            parent(&mut event, &path).insert(last(&path).to_owned(), value.clone());
            let payload = encode(encoding, &event);

            let what = format!("{value} as {path:?}");
            prober
                .expect(Reaction::Blocked, &what, *message, &payload)
                .await;
        }
    }
}

#[tokio::test]
async fn trailing_data_is_blocked() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, event, _) in events() {
            let mut payload = encode(encoding, &event);
            payload.extend(encode(encoding, &json!({})));
            prober
                .expect(Reaction::Blocked, "surplus", message, &payload)
                .await;
        }
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_blocked() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        let event = json!({"correlation_id": ID, "status": 200, "headers": {"host": ["~~~~"]}});
        let mut payload = encode(encoding, &event);
        let at = payload.iter().rposition(|byte| *byte == b'~').unwrap();
        payload[at] = 0xff;

        let reaction = prober
            .react("not UTF-8", message::RESPONSE_HEADERS, &payload)
            .await;
        // JSON that is not UTF-8 cannot be parsed at all, so its id is lost.
        assert!(
            reaction == Reaction::Blocked || encoding == Encoding::Json,
            "{reaction:?}"
        );
    }
}

#[tokio::test]
async fn settings_nested_too_deep_are_blocked() {
    let agent = serve().await;
    let mut deep = json!(1);
    for _ in 0..500 {
        deep = json!([deep]);
    }
    let settings = json!({"correlation_id": ID, "z": deep});

    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        let payload = encode(encoding, &settings);
        prober
            .expect(
                Reaction::Blocked,
                "nested too deep",
                message::CONFIGURE,
                &payload,
            )
            .await;
    }
}

/// The ids contain text that reads like another id once their escapes are resolved.
#[tokio::test]
async fn block_is_never_addressed_to_another_exchange() {
    let agent = serve().await;
    for id in [
        "a\",\"b\":\"c",
        "\"a",
        "a\"",
        "\u{1F980}\n\\\"",
        "a\",\"correlation_id\":\"d",
    ] {
        for damage in ["", ",\"status\":\"x\"", ",\"status\":1,\"headers\":7"] {
            let mut connection = RawConnection::connect_in(&agent.path, Encoding::Json).await;
            let payload = format!("{{\"correlation_id\":{}{damage}}}", json!(id));
            connection
                .send(message::RESPONSE_HEADERS, payload.as_bytes())
                .await;

            if let Some((_, answer)) = connection.receive().await {
                let answer = connection.decode(&answer);
                assert_eq!(answer["audit"]["custom"]["correlation_id"], id, "{payload}");
                assert_eq!(answer["decision"]["block"]["status"], 500);
            }
        }
    }
}

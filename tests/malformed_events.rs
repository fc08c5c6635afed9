//! Events that do not decode are never allowed: they are blocked, or the connection is closed.

mod common;

use common::{BOTH, RawConnection, ServedAgent, encode, metadata, serve};
use serde_json::{Map, Value, json};
use tollgate::Encoding;

const ID: &str = "c-1";

/// One event of each type, every field set, and the fields that may be missing.
fn events() -> [(u8, Value, &'static [&'static str]); 8] {
    let headers = json!({"host": ["example.com"]});
    [
        (
            0x10,
            json!({"metadata": metadata(ID), "method": "GET", "uri": "/", "headers": headers}),
            &[],
        ),
        (
            0x11,
            json!({
                "correlation_id": ID, "data": "YWJj", "is_last": true, "total_size": 3,
                "chunk_index": 0, "bytes_received": 3,
            }),
            &["total_size", "chunk_index", "bytes_received"],
        ),
        (
            0x12,
            json!({"correlation_id": ID, "status": 200, "headers": headers}),
            &[],
        ),
        (
            0x13,
            json!({
                "correlation_id": ID, "data": "YWJj", "is_last": true, "total_size": 3,
                "chunk_index": 0, "bytes_sent": 3,
            }),
            &["total_size", "chunk_index", "bytes_sent"],
        ),
        (
            0x14,
            json!({
                "correlation_id": ID, "status": 200, "duration_ms": 1, "request_body_size": 2,
                "response_body_size": 3, "upstream_attempts": 1, "error": "none",
            }),
            &["error"],
        ),
        (
            0x15,
            json!({
                "correlation_id": ID, "opcode": "text", "data": "YWJj", "client_to_server": true,
                "frame_index": 0, "fin": true, "route_id": "r", "client_ip": "::1",
            }),
            &["route_id"],
        ),
        (
            0x16,
            json!({
                "correlation_id": ID, "inspection_type": "pii_detection", "content": "text",
                "model": "m", "categories": ["a"], "route_id": "r", "metadata": {"k": "v"},
            }),
            &["model", "categories", "route_id", "metadata"],
        ),
        // Nothing but the id of a configuration has a type of its own.
        (
            0x17,
            json!({"correlation_id": ID, "config": {"accept": true}, "z": 1}),
            &["config", "z"],
        ),
    ]
}

/// What an agent does with a malformed event.
#[derive(Debug, PartialEq)]
enum Reaction {
    Blocked,
    Closed,
}

/// A connection that is made anew when the agent closes it.
struct Prober<'a> {
    agent: &'a ServedAgent,
    connection: RawConnection,
}

impl<'a> Prober<'a> {
    async fn new(agent: &'a ServedAgent, encoding: Encoding) -> Self {
        let connection = RawConnection::connect_in(&agent.path, encoding).await;
        Self { agent, connection }
    }

    /// Sends a malformed event. Its answer must be a block for [`ID`] that says why.
    async fn react(&mut self, what: &str, message: u8, payload: &[u8]) -> Reaction {
        self.connection.send(message, payload).await;
        let encoding = self.connection.encoding;
        let what = format!("{what} in {message:#04x}, {encoding}");
        let seen = self.agent.seen.lock().expect("the agent lives").len();
        assert_eq!(seen, 0, "{what}: the handler was called");
        match self.connection.receive().await {
            None => {
                self.connection = RawConnection::connect_in(&self.agent.path, encoding).await;
                Reaction::Closed
            }
            Some((0x20, answer)) => {
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

/// Every place of a value: the paths to its fields and to those of maps within.
fn places(event: &Value, below: &[String]) -> Vec<Vec<String>> {
    let Some(fields) = event.as_object() else {
        return Vec::new();
    };
    let mut places = Vec::new();
    for (name, value) in fields {
        let mut place = below.to_vec();
        place.push(name.clone());
        if name == "metadata" {
            places.extend(self::places(value, &place));
        }
        places.push(place);
    }
    places
}

fn parent<'v>(event: &'v mut Value, place: &[String]) -> &'v mut Map<String, Value> {
    let above = &place[..place.len() - 1];
    let value = above
        .iter()
        .fold(event, |value, name| &mut value[name.as_str()]);
    value.as_object_mut().expect("a map")
}

/// Blocked if the id is left, else closed.
fn expected(place: &[String], message: u8) -> Reaction {
    let id_is_lost = match message {
        0x10 => place == ["metadata"] || place == ["metadata", "correlation_id"],
        _ => place == ["correlation_id"],
    };
    if id_is_lost {
        Reaction::Closed
    } else {
        Reaction::Blocked
    }
}

fn last(place: &[String]) -> &str {
    place.last().expect("a name")
}

/// In metadata these may be null or missing.
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
async fn an_event_cut_anywhere_is_blocked_or_closes_the_connection() {
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
async fn a_missing_field_is_blocked() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, event, optional) in events() {
            for place in places(&event, &[]) {
                let name = last(&place);
                let in_head = message == 0x10 && place.len() == 2;
                let in_guardrail = message == 0x16 && place.len() == 2;
                let may_miss = optional.contains(&name)
                    || in_guardrail
                    || (in_head && OPTIONAL_METADATA.contains(&name))
                    // Older proxies send settings without an id.
                    || message == 0x17;
                if may_miss {
                    continue;
                }
                let mut damaged = event.clone();
                parent(&mut damaged, &place).remove(name);
                let what = format!("without {place:?}");
                let payload = encode(encoding, &damaged);
                prober
                    .expect(expected(&place, message), &what, message, &payload)
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn a_field_of_a_wrong_type_is_blocked() {
    let agent = serve().await;
    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, event, _) in events() {
            for place in places(&event, &[]) {
                let is_free_form = message == 0x17 && last(&place) != "correlation_id";
                if is_free_form {
                    continue;
                }
                let wrong = [json!({"a": {"b": 1}}), json!(-1.5), json!([[7]])];
                for value in wrong {
                    let mut damaged = event.clone();
                    parent(&mut damaged, &place).insert(last(&place).to_owned(), value.clone());
                    let what = format!("{value} as {place:?}");
                    let payload = encode(encoding, &damaged);
                    prober
                        .expect(expected(&place, message), &what, message, &payload)
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
        (0x10, &["metadata", "client_port"][..], json!(70000)),
        (0x10, &["metadata", "client_port"], json!(-1)),
        (0x11, &["data"], json!("not base64!")),
        (0x11, &["data"], json!("YWJ")),
        (0x11, &["data"], json!(null)),
        (0x11, &["chunk_index"], json!(u64::MAX)),
        (0x11, &["total_size"], json!(-1)),
        (0x12, &["status"], json!(65536)),
        (0x12, &["headers", "host"], json!("example.com")),
        (0x12, &["headers", "host"], json!([1])),
        (0x12, &["headers", "host"], json!([null])),
        (0x13, &["is_last"], json!("true")),
        (0x14, &["duration_ms"], json!(-1)),
        (0x14, &["status"], json!(1.5)),
        (0x15, &["opcode"], json!("TEXT")),
        (0x15, &["opcode"], json!(1)),
        (0x15, &["data"], json!("*")),
        (0x16, &["inspection_type"], json!("mind_reading")),
        (0x16, &["categories"], json!([1])),
        (0x16, &["metadata", "k"], json!(1)),
    ];
    for encoding in BOTH {
        let mut prober = Prober::new(&agent, encoding).await;
        for (message, place, value) in &cases {
            let (_, mut event, _) = events()
                .into_iter()
                .find(|event| event.0 == *message)
                .unwrap();
            let place: Vec<_> = place.iter().map(|name| (*name).to_owned()).collect();
            parent(&mut event, &place).insert(last(&place).to_owned(), value.clone());
            let payload = encode(encoding, &event);
            let what = format!("{value} as {place:?}");
            prober
                .expect(Reaction::Blocked, &what, *message, &payload)
                .await;
        }
    }
}

#[tokio::test]
async fn what_goes_on_behind_its_end_is_blocked() {
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
        let reaction = prober.react("not UTF-8", 0x12, &payload).await;
        // JSON that is not UTF-8 is no JSON at all.
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
            .expect(Reaction::Blocked, "nested too deep", 0x17, &payload)
            .await;
    }
}

/// The id holds what reads like another id once its escapes are resolved.
#[tokio::test]
async fn a_block_is_never_addressed_to_another_exchange() {
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
            connection.send(0x12, payload.as_bytes()).await;
            if let Some((_, answer)) = connection.receive().await {
                let answer = connection.decode(&answer);
                assert_eq!(answer["audit"]["custom"]["correlation_id"], id, "{payload}");
                assert_eq!(answer["decision"]["block"]["status"], 500);
            }
        }
    }
}

//! Frames of version 1 of the extension, as the library wrote them before there was version 2:
//! commit e4edca4 recorded `tests/it/recorded_frames.txt` by the first test of this file, with
//! `TOLLGATE_RECORD` set.

use crate::common::*;
use crate::extension::{extended, on_stream};
use serde_json::json;
use std::fmt::Write;
use tollgate::codec::{CallId, Codec};
use tollgate::events::{
    GuardrailInspectEvent, GuardrailInspectionType, RequestBodyChunkEvent, RequestCompleteEvent,
    ResponseBodyChunkEvent, WebSocketFrameEvent, WebSocketOpcode,
};
use tollgate::{
    AgentConfig, AgentPool, Decision, Encoding, Event, Metadata, RequestHeaders, ResponseHeaders,
};

/// Version 1 in MessagePack.
const CODEC: Codec = Codec::extended(Encoding::MessagePack);

/// Stream id of all recorded frames.
const STREAM: u64 = 1 << 32 | 7;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/recorded_frames.txt");

/// An event and its answer, both with their stream id, in hexadecimal digits.
#[derive(Debug, Default)]
struct Recorded {
    message: u8,
    event: String,
    answer: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let digits = digits.map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn recorded() -> Vec<Recorded> {
    let text = std::fs::read_to_string(PATH).unwrap();
    let frames = text.split("event ").filter(|frame| !frame.is_empty());
    let frames = frames.map(|frame| {
        let (message, frame) = frame.split_once('\n').unwrap();
        let (event, answer) = frame.split_once("answer\n").unwrap();
        Recorded {
            message: u8::from_str_radix(message, 16).unwrap(),
            event: event.replace('\n', ""),
            answer: answer.replace('\n', ""),
        }
    });
    frames.collect()
}

/// Returns the lines of a recorded frame.
fn lines_of(frame: &Recorded) -> String {
    let wrapped = |digits: &str| -> String {
        let lines = digits.as_bytes().chunks(96);
        lines
            .map(|line| String::from_utf8_lossy(line).into_owned() + "\n")
            .collect()
    };
    let (event, answer) = (wrapped(&frame.event), wrapped(&frame.answer));
    format!("event {:02x}\n{event}answer\n{answer}", frame.message)
}

/// Calls `each` with the message type and an event, for every event that is recorded, in order.
macro_rules! each_event {
    ($each:ident) => {
        for uri in ["/", "/block", "/redirect", "/challenge", "/headers", "/audit"] {
            $each!(message::REQUEST_HEADERS, &head(uri));
        }
        for data in ["replace", "drop", "pass", ""] {
            let chunk = RequestBodyChunkEvent::new("r-1", data, 3, false).with_total_size(9);
            $each!(message::REQUEST_BODY_CHUNK, &chunk);
        }
        let response = ResponseHeaders {
            correlation_id: "r-1",
            status: 200,
            headers: &[("server", "s"), ("set-cookie", "a"), ("set-cookie", "b")][..],
        };
        $each!(message::RESPONSE_HEADERS, &response);
        let chunk = ResponseBodyChunkEvent::new("r-1", vec![0xff; 300], 0, true);
        $each!(message::RESPONSE_BODY_CHUNK, &chunk);
        $each!(message::REQUEST_COMPLETE, &complete());
        for data in ["drop", "close", "other"] {
            $each!(message::WEBSOCKET_FRAME, &websocket_frame(data));
        }
        $each!(message::GUARDRAIL_INSPECT, &guardrail());
        let settings = json!({"config": {"a": [1, -2, 2.5, null, true]}});
        $each!(message::CONFIGURE, &configure("r-1", settings));
    };
}

fn head(uri: &str) -> RequestHeaders<'_, &'static [(&'static str, &'static str)]> {
    RequestHeaders {
        metadata: Metadata {
            correlation_id: "r-1",
            request_id: "q",
            client_ip: "2001:db8::7",
            client_port: 54321,
            server_name: Some("example.com"),
            protocol: "HTTP/2.0",
            route_id: Some("api"),
            timestamp: "2026-01-02T03:04:05.678Z",
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            body_follows: Some(true),
            ..Metadata::default()
        },
        method: "POST",
        uri,
        headers: &[
            ("host", "h"),
            ("x-forwarded-for", "192.0.2.1"),
            ("host", "h2"),
            ("x", "\u{e9}"),
        ],
    }
}

fn complete() -> RequestCompleteEvent {
    RequestCompleteEvent {
        correlation_id: "r-1".to_owned(),
        status: 502,
        duration_ms: 70_000,
        request_body_size: 1,
        response_body_size: 1 << 33,
        upstream_attempts: 3,
        error: Some("refused".to_owned()),
    }
}

fn websocket_frame(data: &str) -> WebSocketFrameEvent {
    WebSocketFrameEvent {
        correlation_id: "r-1".to_owned(),
        opcode: WebSocketOpcode::Text,
        data: data.to_owned().into(),
        client_to_server: true,
        frame_index: 300,
        fin: true,
        route_id: None,
        client_ip: "192.0.2.7".to_owned(),
    }
}

fn guardrail() -> GuardrailInspectEvent {
    GuardrailInspectEvent {
        correlation_id: "r-1".to_owned(),
        inspection_type: GuardrailInspectionType::PiiDetection,
        content: "text".to_owned(),
        model: Some("m".to_owned()),
        categories: vec!["a".to_owned(), "b".to_owned()],
        route_id: None,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
    }
}

fn written(event: &impl Event) -> Vec<u8> {
    let call = CallId {
        correlation_id: "r-1",
        stream_id: STREAM,
    };
    let mut out = Vec::new();
    let body = CODEC.encode_event(event, call, &mut out);
    out.extend_from_slice(&body);
    out
}

/// Connects a proxy with version 1 of the extension in MessagePack.
async fn proxy(agent: &ServedAgent) -> RawConnection {
    let mut proxy = RawConnection::connect(&agent.path).await;
    let offer = extended(offer_handshake("msgpack"), &json!({"versions": [1]}));
    proxy.send_value(message::HANDSHAKE_REQUEST, &offer).await;
    let (_, response) = proxy.message().await;
    assert_eq!(response["tollgate"], json!({"version": 1}));
    proxy
}

#[tokio::test]
async fn agent_answers_recorded_events_with_the_recorded_bytes() {
    let agent = serve().await;
    let mut proxy = proxy(&agent).await;
    if std::env::var_os("TOLLGATE_RECORD").is_some() {
        let mut lines = String::new();
        macro_rules! record {
            ($message:expr, $event:expr) => {
                let event = written($event);
                proxy.send($message, &event).await;
                let (_, answer) = proxy.receive().await.unwrap();
                let line = Recorded {
                    message: $message,
                    event: hex(&event),
                    answer: hex(&answer),
                };
                lines += &lines_of(&line);
            };
        }
        each_event!(record);
        std::fs::write(PATH, lines).unwrap();
        return;
    }
    for frame in recorded() {
        proxy.send(frame.message, &bytes(&frame.event)).await;
        let (message, answer) = proxy.receive().await.unwrap();
        assert_eq!(message, message::AGENT_RESPONSE);
        assert_eq!(hex(&answer), frame.answer);
    }
}

#[tokio::test]
async fn pool_sends_the_recorded_bytes_and_reads_the_recorded_answers() {
    let agent = RawAgent::listen();
    let pool = AgentPool::with_config(config(Encoding::MessagePack));
    let accept = agent.accept_with(Encoding::MessagePack, |response| {
        response["tollgate"] = json!({"version": 1});
        response["capabilities"]["supported_events"] = json!([1, 2, 3, 4, 5, 6, 7, 8]);
    });
    let endpoint = agent.path.display().to_string();
    let config = AgentConfig::new("agent", endpoint).require_connection();
    let (added, mut connection) = tokio::join!(pool.add(config), accept);
    let handle = added.unwrap();
    let mut frames = recorded().into_iter();
    macro_rules! replay {
        ($message:expr, $event:expr) => {
            let frame = frames.next().unwrap();
            let replay = async {
                let (message, event) = connection.receive().await.unwrap();
                assert_eq!((message, $message), (frame.message, frame.message));
                let (stream, payload) = event.split_first_chunk().unwrap();
                assert_eq!(hex(payload), frame.event[16..]);
                let answer = on_stream(u64::from_be_bytes(*stream), &bytes(&frame.answer)[8..]);
                connection.send(message::AGENT_RESPONSE, &answer).await;
            };
            let event = $event;
            let (answer, ()) = tokio::join!(handle.send("r-1", event), replay);
            let sent: serde_json::Value = connection.decode(&bytes(&frame.answer)[8..]);
            let decision = match answer.unwrap().decision {
                Decision::Allow => sent["decision"] == "allow",
                other => sent["decision"].get(other.as_str()).is_some(),
            };
            assert!(decision, "{sent}");
        };
    }
    each_event!(replay);
    assert!(frames.next().is_none());
}

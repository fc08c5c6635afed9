use super::*;
use crate::protocol::GuardrailInspectionType;
use crate::protocol::events::{
    BodyChunk, Configure, GuardrailInspect, GuardrailInspectEvent, Metadata, RequestBodyChunk,
    RequestComplete, RequestHeaders, ResponseBodyChunk, ResponseHeaders, WebSocketFrame,
    WebSocketOpcode,
};
use crate::wire::{Dialect, Encoding, EventTarget, Extension, StreamId, encode_event};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Length and type of a frame, and the stream id.
const PREFIX: usize = 5 + 8;

/// Expects that an agent sees a borrowed event as it sees it on a connection.
fn expect_same_view<E: Event>(event: &E) {
    let dialect = Dialect::new(Encoding::MessagePack, Some(Extension::V1));
    let target = EventTarget {
        correlation_id: "exchange-1",
        stream: StreamId(0),
        time_left: None,
    };
    let mut frame = Vec::new();
    let body = encode_event(event, target, dialect, &mut frame).unwrap();
    frame.extend_from_slice(&body);
    let payload = Bytes::from(frame).split_off(PREFIX);
    let received = IncomingEvent::from_msgpack(E::EVENT_TYPE, &payload).unwrap();
    let mut headers = BorrowedHeaders::new();
    let borrowed = IncomingEvent::borrowed(event, "exchange-1", &mut headers).unwrap();
    assert_eq!(format!("{borrowed:?}"), format!("{received:?}"));
    assert_eq!(borrowed.correlation_id(), "exchange-1");
    match (borrowed, received) {
        (IncomingEvent::RequestHeaders(borrowed), IncomingEvent::RequestHeaders(received)) => {
            expect_same_headers(&borrowed.headers, &received.headers);
        }
        (IncomingEvent::ResponseHeaders(borrowed), IncomingEvent::ResponseHeaders(received)) => {
            expect_same_headers(&borrowed.headers, &received.headers);
        }
        _ => {}
    }
}

fn expect_same_headers(borrowed: &HeadersView<'_>, received: &HeadersView<'_>) {
    assert_eq!(borrowed, received);
    assert_eq!(borrowed.len(), received.len());
    assert!(borrowed.iter().eq(received.iter()));
    for (name, _) in received.iter() {
        let (name, values) = (name.to_ascii_uppercase(), received.get_all(name));
        assert!(borrowed.get_all(&name).eq(values), "{name}");
    }
    assert_eq!(borrowed.get("absent"), None);
}

fn head<H>(headers: H) -> RequestHeaders<'static, H> {
    RequestHeaders {
        metadata: Metadata {
            correlation_id: "another",
            request_id: "request-1",
            client_ip: "192.0.2.7",
            client_port: 50_000,
            server_name: Some("example.com"),
            protocol: "HTTP/2",
            body_follows: Some(true),
            ..Metadata::default()
        },
        method: "POST",
        uri: "/a?b",
        headers,
    }
}

proptest! {
    #[test]
    fn heads_are_seen_as_on_a_connection(
        pairs in prop::collection::vec(("[a-cA-C]{1,2}", "\\PC{0,8}"), 0..100),
    ) {
        expect_same_view(&head(&pairs[..]));
        expect_same_view(&head(&pairs[..]).to_event());
        let response = ResponseHeaders {
            correlation_id: "another",
            status: 201,
            headers: &pairs[..],
        };
        expect_same_view(&response);
        expect_same_view(&response.to_event());
    }
}

#[test]
fn a_name_without_values_is_seen_as_on_a_connection() {
    let headers = HashMap::from([("x-empty".to_owned(), Vec::<String>::new())]);
    expect_same_view(&head(&headers));
    let headers = HashMap::from([
        ("x-empty".to_owned(), Vec::<String>::new()),
        ("host".to_owned(), vec!["example.com".to_owned()]),
    ]);
    expect_same_view(&head(&headers));
}

#[cfg(feature = "http")]
#[test]
fn header_maps_are_seen_as_on_a_connection() {
    let mut headers = http::HeaderMap::new();
    expect_same_view(&head(&headers));
    headers.insert("host", http::HeaderValue::from_static("example.com"));
    headers.insert(
        "x-latin-1",
        http::HeaderValue::from_bytes(b"caf\xe9").unwrap(),
    );
    expect_same_view(&head(&headers));
    headers.append("host", http::HeaderValue::from_static("example.org"));
    expect_same_view(&head(&headers));
}

#[test]
fn other_events_are_seen_as_on_a_connection() {
    let chunk = BodyChunk {
        total_size: Some(40),
        bytes_so_far: 20,
        ..BodyChunk::new("another", Bytes::from_static(b"\x00data"), 3, false)
    };
    expect_same_view(&RequestBodyChunk(chunk.clone()));
    expect_same_view(&ResponseBodyChunk(chunk.clone()));
    expect_same_view(&chunk.to_request_event());
    expect_same_view(&chunk.to_response_event());
    let complete = RequestComplete {
        correlation_id: "another",
        status: 502,
        duration_ms: 12,
        request_body_size: 5,
        response_body_size: 6,
        upstream_attempts: 2,
        error: Some("refused"),
    };
    expect_same_view(&complete);
    expect_same_view(&complete.to_event());
    let frame = WebSocketFrame {
        correlation_id: "another",
        opcode: WebSocketOpcode::Text,
        data: Bytes::from_static(b"hello"),
        client_to_server: true,
        frame_index: 7,
        fin: true,
        route_id: None,
        client_ip: "192.0.2.7",
    };
    expect_same_view(&frame);
    expect_same_view(&frame.to_event());
    let inspect = GuardrailInspect {
        correlation_id: "another",
        inspection_type: GuardrailInspectionType::PiiDetection,
        content: "text",
        model: Some("m"),
        categories: vec!["a", "b"],
        route_id: None,
        metadata: vec![("k", "v")],
    };
    expect_same_view(&inspect);
    let event: GuardrailInspectEvent = inspect.to_event();
    expect_same_view(&event);
}

fn settings(value: Value) -> Configure<'static> {
    let mut settings = Map::new();
    settings.insert("correlation_id".to_owned(), json!("another"));
    settings.insert("config".to_owned(), value);
    Configure {
        correlation_id: "another",
        settings,
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| json!([inner]))
}

#[test]
fn settings_are_accepted_as_on_a_connection() {
    expect_same_view(&settings(json!({"rules": [1, 2.5, null, "x", true]})));
    expect_same_view(&settings(nested(value::MAX_DEPTH - 1)));
    let refused = |event: &Configure<'_>| {
        let mut headers = BorrowedHeaders::new();
        IncomingEvent::borrowed(event, "1", &mut headers).unwrap_err()
    };
    assert_eq!(
        refused(&settings(nested(value::MAX_DEPTH))),
        NotAccepted::Settings(DecodeErrorKind::TooDeep)
    );
    assert_eq!(
        refused(&settings(vec![0; 100_000].into())),
        NotAccepted::Settings(DecodeErrorKind::TooMany)
    );
}

#[test]
fn events_that_fill_more_than_a_frame_are_refused() {
    let refuses = |event: &RequestHeaders<'_, &[(&str, String)]>| {
        let mut headers = BorrowedHeaders::new();
        let refused = IncomingEvent::borrowed(event, "1", &mut headers);
        matches!(
            refused,
            Err(NotAccepted::TooLarge(FrameError::TooLarge { .. }))
        )
    };
    let value = |len| [("x", "v".repeat(len))];
    assert!(!refuses(&head(&value(MAX_FRAME_LEN - 100)[..])));
    assert!(refuses(&head(&value(MAX_FRAME_LEN)[..])));
    let chunk = BodyChunk::new("1", vec![0; MAX_FRAME_LEN + 1].into(), 0, true);
    let chunk = RequestBodyChunk(chunk);
    let mut headers = BorrowedHeaders::new();
    assert!(IncomingEvent::borrowed(&chunk, "1", &mut headers).is_err());
}

//! The example of docs/protocol.md, byte for byte.

use super::table::between;
use super::{COMPACT, answer_payload};
use crate::owned_event::{STREAM_ID, call, read_answer};
use std::collections::BTreeMap;
use std::time::Duration;
use tollgate::bench::{encode_answer_frame_to, encode_event_within, time_left};
use tollgate::headers::FieldValue;
use tollgate::response::{AuditMetadata, Decision};
use tollgate::{AgentResponse, EventType, HeaderSource, Metadata, RequestHeaders};

/// Returns the bytes of a listing of hexadecimal numbers and quoted texts.
fn bytes_of(listing: &str) -> Vec<u8> {
    let lines = listing.lines().map(|line| line.split(';').next().unwrap());
    let tokens = lines.flat_map(str::split_whitespace);
    tokens
        .flat_map(|token| match token.strip_prefix('"') {
            Some(text) => text.strip_suffix('"').unwrap().as_bytes().to_vec(),
            None => vec![u8::from_str_radix(token, 16).unwrap()],
        })
        .collect()
}

/// Headers of bytes.
struct Headers;

impl HeaderSource for Headers {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        let values: [(&str, &[FieldValue<'_>]); 2] = [
            ("host", &[FieldValue::Bytes(b"h")]),
            (
                "x-test",
                &[FieldValue::Bytes(b"a"), FieldValue::Bytes(b"\xff")],
            ),
        ];
        values
            .into_iter()
            .map(|(name, values)| (name, values.iter().copied()))
    }
}

#[test]
fn the_documented_example_is_what_is_written_and_read() {
    let listing = between("<!-- example of version 2 -->", "<!-- end of example -->");
    let (event, answer) = listing.trim_start_matches('\n').split_once("\n\n").unwrap();
    let (event, answer) = (bytes_of(event), bytes_of(answer));

    let head = RequestHeaders {
        metadata: Metadata {
            correlation_id: "r-1",
            request_id: "q",
            client_ip: "192.0.2.7",
            client_port: 54321,
            protocol: "HTTP/1.1",
            route_id: Some("api"),
            timestamp: "2026-01-02T03:04:05.000Z",
            ..Metadata::default()
        },
        method: "POST",
        uri: "/login",
        headers: Headers,
    };
    let mut written = Vec::new();
    let left = Duration::from_micros(499_001);
    let rest = encode_event_within(COMPACT, &head, call("r-1"), left, &mut written);
    assert!(rest.is_empty());
    assert_eq!(written, event);

    let audit = AuditMetadata {
        reason_codes: vec!["waf".to_owned(), "sqli".to_owned()],
        ..AuditMetadata::default()
    };
    let block = AgentResponse::block(403, None).with_audit(audit);
    let mut written = Vec::new();
    encode_answer_frame_to(COMPACT, &block, call("r-1"), &mut written);
    assert_eq!(written, answer);
    assert_eq!(answer[13..], answer_payload(&block));
    assert_eq!(read_answer(COMPACT, &answer[13..]), Ok(block.clone()));
    assert!(matches!(
        block.decision,
        Decision::Block { status: 403, .. }
    ));
    assert_eq!(event[5..13], STREAM_ID.to_be_bytes());
    let payload = event[13..].to_vec().into();
    let left = time_left(EventType::RequestHeaders, &payload);
    assert_eq!(left, Some(Duration::from_millis(500)));
    let expected = BTreeMap::from([
        ("host".to_owned(), vec!["h".to_owned()]),
        (
            "x-test".to_owned(),
            vec!["a".to_owned(), "\u{ff}".to_owned()],
        ),
    ]);
    let read =
        COMPACT
            .decoder()
            .decode_event(
                EventType::RequestHeaders,
                payload[..].into(),
                |event| match event {
                    tollgate::codec::IncomingEvent::RequestHeaders(event) => {
                        assert_eq!(event.metadata, head.metadata);
                        assert_eq!((event.method, event.uri), (head.method, head.uri));
                        assert_eq!(event.headers.get_bytes("HOST"), Some(&b"h"[..]));
                        event
                            .to_event()
                            .headers
                            .into_iter()
                            .collect::<BTreeMap<_, _>>()
                    }
                    other => panic!("{other:?}"),
                },
            );
    assert_eq!(read.unwrap(), expected);
}

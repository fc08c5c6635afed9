//! Version 2 of the extension: events and answers as arrays.

mod example;
mod header_values;
mod hostile;
mod independent;
#[allow(dead_code, reason = "the benchmarks use the rest")]
#[path = "../../../benches/common/events.rs"]
mod samples;
mod table;

use crate::owned_event::{Encoded, OwnedEvent, call, read_answer};
use crate::strategies::{event, response};
use proptest::prelude::*;
use std::time::Duration;
use tollgate::AgentResponse;
use tollgate::bench::encode_event_within;
use tollgate::codec::Codec;

pub const COMPACT: Codec = Codec::compact();

/// Returns the bytes of an answer behind its stream id.
pub fn answer_payload(response: &AgentResponse) -> Vec<u8> {
    Encoded::answer(response, COMPACT, call(""))
        .joined()
        .split_off(8)
}

proptest! {
    #[test]
    fn events_round_trip(event in event()) {
        let payload = event.payload(COMPACT);
        let read = OwnedEvent::read(COMPACT, event.event_type(), &payload);
        prop_assert_eq!(read.as_ref(), Ok(&event));
    }

    #[test]
    fn answers_round_trip(response in response()) {
        let payload = answer_payload(&response);
        prop_assert_eq!(read_answer(COMPACT, &payload), Ok(response));
    }
}

/// The head that the benchmarks write, with its stream id and the header of its frame.
#[test]
fn a_head_with_ten_usual_headers_takes_at_most_600_bytes() {
    let head = samples::request_headers(10);
    let mut written = Vec::new();
    let left = Duration::from_secs(30);
    let call = call(head.metadata.correlation_id);
    let rest = encode_event_within(COMPACT, &head, call, left, &mut written);
    assert!(rest.is_empty());
    assert!(written.len() <= 600, "{} bytes", written.len());
}

#[test]
fn an_allow_takes_two_bytes_behind_its_stream_id() {
    let allow = AgentResponse::default_allow();
    let written = Encoded::answer(&allow, COMPACT, call("a")).joined();
    assert_eq!(written, [0, 0, 0, 0, 0, 0, 0, 7, 0x91, 0x00]);
}

#[test]
fn large_bodies_are_not_copied() {
    use tollgate::events::{RequestBodyChunkEvent, WebSocketFrameEvent, WebSocketOpcode};
    let data = tollgate::Bytes::from(vec![0xfe; 300]);
    let frame = WebSocketFrameEvent {
        correlation_id: "c".to_owned(),
        opcode: WebSocketOpcode::Binary,
        data: data.clone(),
        client_to_server: true,
        frame_index: 0,
        fin: true,
        route_id: None,
        client_ip: "192.0.2.7".to_owned(),
    };
    for event in [
        OwnedEvent::WebSocketFrame(frame),
        OwnedEvent::RequestBodyChunk(RequestBodyChunkEvent::new("c", data.clone(), 0, true)),
    ] {
        let Encoded { detached, .. } = event.encode(COMPACT);
        assert_eq!(detached.as_ptr(), data.as_ptr());
        assert_eq!(detached.len(), data.len());
    }
}

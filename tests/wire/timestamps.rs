//! Timestamps as protobuf messages of `zentinel-agent-protocol` carry them: in milliseconds.

use crate::generated as proto;
use crate::owned_event::call;
use proptest::prelude::*;
use prost::Message;
use tollgate::codec::Codec;
use tollgate::events::Timestamp;
use tollgate::{Encoding, Metadata, RequestHeaders};

/// Returns the milliseconds that are written for a timestamp in RFC 3339.
fn milliseconds(timestamp: &str) -> u64 {
    let event = RequestHeaders {
        metadata: Metadata {
            timestamp,
            ..Metadata::default()
        },
        method: "GET",
        uri: "/",
        headers: &[("", ""); 0][..],
    };
    let mut message = Vec::new();
    let codec = Codec::zentinel(Encoding::Protobuf);
    let body = codec.encode_event(&event, call("a"), &mut message);
    assert!(body.is_empty());
    let envelope = proto::ProxyToAgent::decode(&message[..]).unwrap();
    let Some(proto::proxy_to_agent::Message::RequestHeaders(event)) = envelope.message else {
        panic!("{envelope:?}");
    };
    event.metadata.unwrap().timestamp_ms
}

#[test]
fn known_times_are_parsed() {
    for (text, ms) in [
        ("1970-01-01T00:00:00.000Z", 0),
        ("2000-02-29T12:00:00.000Z", 951_825_600_000),
        ("2026-11-25T00:54:09.123Z", 1_795_568_049_123),
        ("2400-03-01T00:00:00.000Z", 13_574_649_600_000),
    ] {
        assert_eq!(milliseconds(text), ms);
    }
    assert_eq!(milliseconds("1970-01-01T01:00:00.5+01:00"), 500);
    assert_eq!(milliseconds("1969-12-31t23:00:00-01:00"), 0);
}

#[test]
fn invalid_text_is_zero() {
    for text in [
        "",
        "yesterday",
        "2026-11-25",
        "2026-13-01T00:00:00Z",
        "2026-11-25T00:00:00.Z",
    ] {
        assert_eq!(milliseconds(text), 0, "{text}");
    }
}

proptest! {
    #[test]
    fn timestamps_round_trip(ms in 0..253_402_300_799_999_u64) {
        prop_assert_eq!(milliseconds(&Timestamp::from_ms(ms)), ms);
    }
}

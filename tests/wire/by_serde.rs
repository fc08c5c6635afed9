//! Round trips between this crate's encodings and those of serde.

use crate::owned_event::{CODECS, Encoded, OwnedEvent, call, decode_answer};
use crate::strategies::{event, response, text};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tollgate::codec::Codec;
use tollgate::{AgentResponse, Encoding};

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

fn decode_by_serde<T: DeserializeOwned>(encoding: Encoding, payload: &[u8]) -> T {
    match encoding {
        Encoding::Json => serde_json::from_slice(payload).unwrap(),
        Encoding::MessagePack => rmp_serde::from_slice(payload).unwrap(),
        _ => unreachable!("serde does not support protobuf"),
    }
}

fn decode_event_by_serde(like: &OwnedEvent, encoding: Encoding, payload: &[u8]) -> OwnedEvent {
    match like {
        OwnedEvent::RequestHeaders(_) => {
            OwnedEvent::RequestHeaders(decode_by_serde(encoding, payload))
        }
        OwnedEvent::RequestBodyChunk(_) => {
            OwnedEvent::RequestBodyChunk(decode_by_serde(encoding, payload))
        }
        OwnedEvent::ResponseHeaders(_) => {
            OwnedEvent::ResponseHeaders(decode_by_serde(encoding, payload))
        }
        OwnedEvent::ResponseBodyChunk(_) => {
            OwnedEvent::ResponseBodyChunk(decode_by_serde(encoding, payload))
        }
        OwnedEvent::RequestComplete(_) => {
            OwnedEvent::RequestComplete(decode_by_serde(encoding, payload))
        }
        OwnedEvent::WebSocketFrame(_) => {
            OwnedEvent::WebSocketFrame(decode_by_serde(encoding, payload))
        }
        OwnedEvent::GuardrailInspect(_) => {
            OwnedEvent::GuardrailInspect(decode_by_serde(encoding, payload))
        }
        OwnedEvent::Configure(..) => to_configure(decode_by_serde(encoding, payload)),
    }
}

fn to_configure(mut settings: Map<String, Value>) -> OwnedEvent {
    let id = settings.remove("correlation_id").unwrap();
    OwnedEvent::Configure(id.as_str().unwrap().to_owned(), settings)
}

/// Encodes a message with serde: as JSON, as MessagePack maps and as MessagePack arrays.
fn encode_by_serde(message: &impl Serialize) -> [(Encoding, Vec<u8>); 3] {
    [
        (Encoding::Json, serde_json::to_vec(message).unwrap()),
        (
            Encoding::MessagePack,
            rmp_serde::to_vec_named(message).unwrap(),
        ),
        (Encoding::MessagePack, rmp_serde::to_vec(message).unwrap()),
    ]
}

fn encode_event_by_serde(event: &OwnedEvent) -> Vec<(Encoding, Vec<u8>)> {
    match event {
        OwnedEvent::RequestHeaders(event) => encode_by_serde(event).into(),
        OwnedEvent::RequestBodyChunk(event) => encode_by_serde(event).into(),
        OwnedEvent::ResponseHeaders(event) => encode_by_serde(event).into(),
        OwnedEvent::ResponseBodyChunk(event) => encode_by_serde(event).into(),
        OwnedEvent::RequestComplete(event) => encode_by_serde(event).into(),
        OwnedEvent::WebSocketFrame(event) => encode_by_serde(event).into(),
        // serde skips some of its fields, which makes the positions in its array ambiguous.
        OwnedEvent::GuardrailInspect(event) => encode_by_serde(event)[..2].to_vec(),
        OwnedEvent::Configure(id, settings) => {
            let mut settings = settings.clone();
            settings.insert("correlation_id".to_owned(), id.as_str().into());
            encode_by_serde(&settings).into()
        }
    }
}

proptest! {
    #[test]
    fn serde_decodes_our_events(event in event()) {
        for encoding in BOTH {
            let payload = event.payload(Codec::zentinel(encoding));
            prop_assert_eq!(&decode_event_by_serde(&event, encoding, &payload), &event);
        }
    }

    #[test]
    fn events_from_serde_are_decoded(event in event()) {
        for (encoding, payload) in encode_event_by_serde(&event) {
            let read = OwnedEvent::from_payload(event.event_type(), encoding, &payload);
            prop_assert_eq!(read.as_ref(), Ok(&event));
        }
    }

    #[test]
    fn events_round_trip_in_every_dialect(event in event()) {
        for (at, codec) in CODECS.into_iter().enumerate() {
            let payload = event.payload(codec);
            let read = OwnedEvent::from_payload(event.event_type(), BOTH[at % 2], &payload);
            prop_assert_eq!(read.as_ref(), Ok(&event));
        }
    }

    #[test]
    fn responses_from_serde_are_decoded(response in response()) {
        for (encoding, payload) in encode_by_serde(&response) {
            prop_assert_eq!(decode_answer(encoding, &payload), Ok((None, response.clone())));
        }
    }

    #[test]
    fn responses_round_trip(response in response(), id in text()) {
        for encoding in BOTH {
            let codec = Codec::zentinel(encoding);
            let payload = Encoded::answer(&response, codec, call(&id)).joined();
            let mut by_serde: AgentResponse = decode_by_serde(encoding, &payload);
            let serde_id = by_serde.audit.custom.remove("correlation_id");
            prop_assert_eq!(serde_id, Some(Value::from(id.clone())));
            prop_assert_eq!(&by_serde, &response);
            prop_assert_eq!(
                decode_answer(encoding, &payload),
                Ok((Some(id.clone()), response.clone()))
            );
        }
    }
}

//! serde reads what we write, and we read what serde writes.

use super::strategies::{event, response, text};
use crate::protocol::AgentResponse;
use crate::wire::owned_event::{DIALECTS, OwnedEvent};
use crate::wire::response::{AnswerTo, decode_answer, encode_response};
use crate::wire::{Dialect, Encoding, JsonTape, Payload};
use bytes::Bytes;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

fn read_by_serde<T: DeserializeOwned>(encoding: Encoding, payload: &[u8]) -> T {
    match encoding {
        Encoding::Json => serde_json::from_slice(payload).unwrap(),
        Encoding::MessagePack => rmp_serde::from_slice(payload).unwrap(),
        #[cfg(feature = "grpc")]
        Encoding::Protobuf => unreachable!("serde reads no protobuf"),
    }
}

fn event_read_by_serde(like: &OwnedEvent, encoding: Encoding, payload: &[u8]) -> OwnedEvent {
    match like {
        OwnedEvent::RequestHeaders(_) => {
            OwnedEvent::RequestHeaders(read_by_serde(encoding, payload))
        }
        OwnedEvent::RequestBodyChunk(_) => {
            OwnedEvent::RequestBodyChunk(read_by_serde(encoding, payload))
        }
        OwnedEvent::ResponseHeaders(_) => {
            OwnedEvent::ResponseHeaders(read_by_serde(encoding, payload))
        }
        OwnedEvent::ResponseBodyChunk(_) => {
            OwnedEvent::ResponseBodyChunk(read_by_serde(encoding, payload))
        }
        OwnedEvent::RequestComplete(_) => {
            OwnedEvent::RequestComplete(read_by_serde(encoding, payload))
        }
        OwnedEvent::WebSocketFrame(_) => {
            OwnedEvent::WebSocketFrame(read_by_serde(encoding, payload))
        }
        OwnedEvent::GuardrailInspect(_) => {
            OwnedEvent::GuardrailInspect(read_by_serde(encoding, payload))
        }
        OwnedEvent::Configure(..) => configure_of(read_by_serde(encoding, payload)),
    }
}

fn configure_of(mut settings: Map<String, Value>) -> OwnedEvent {
    let id = settings.remove("correlation_id").unwrap();
    OwnedEvent::Configure(id.as_str().unwrap().to_owned(), settings)
}

/// The forms in which serde writes a message: JSON, MessagePack maps, MessagePack arrays.
fn written_by_serde(message: &impl Serialize) -> [(Encoding, Vec<u8>); 3] {
    [
        (Encoding::Json, serde_json::to_vec(message).unwrap()),
        (
            Encoding::MessagePack,
            rmp_serde::to_vec_named(message).unwrap(),
        ),
        (Encoding::MessagePack, rmp_serde::to_vec(message).unwrap()),
    ]
}

fn event_written_by_serde(event: &OwnedEvent) -> Vec<(Encoding, Vec<u8>)> {
    match event {
        OwnedEvent::RequestHeaders(event) => written_by_serde(event).into(),
        OwnedEvent::RequestBodyChunk(event) => written_by_serde(event).into(),
        OwnedEvent::ResponseHeaders(event) => written_by_serde(event).into(),
        OwnedEvent::ResponseBodyChunk(event) => written_by_serde(event).into(),
        OwnedEvent::RequestComplete(event) => written_by_serde(event).into(),
        OwnedEvent::WebSocketFrame(event) => written_by_serde(event).into(),
        // Where serde leaves fields in the middle out, its arrays say nothing about what is where.
        OwnedEvent::GuardrailInspect(event) => written_by_serde(event)[..2].to_vec(),
        OwnedEvent::Configure(id, settings) => {
            let mut settings = settings.clone();
            settings.insert("correlation_id".to_owned(), id.as_str().into());
            written_by_serde(&settings).into()
        }
    }
}

fn response_of(encoding: Encoding, mut payload: Vec<u8>) -> (Option<String>, AgentResponse) {
    let mut tape = JsonTape::default();
    let bytes = Bytes::from(payload.clone());
    let payload = match encoding {
        Encoding::Json => Payload::Json(&mut payload, &mut tape),
        Encoding::MessagePack => Payload::MessagePack(&bytes),
        #[cfg(feature = "grpc")]
        Encoding::Protobuf => Payload::Protobuf(&bytes),
    };
    decode_answer(payload, |answer| {
        (answer.correlation_id.map(str::to_owned), answer.response)
    })
    .unwrap()
}

proptest! {
    #[test]
    fn events_are_read_by_serde(event in event()) {
        for encoding in BOTH {
            let payload = event.payload(Dialect::published(encoding));
            prop_assert_eq!(&event_read_by_serde(&event, encoding, &payload), &event);
        }
    }

    #[test]
    fn events_of_serde_are_read(event in event()) {
        for (encoding, payload) in event_written_by_serde(&event) {
            let read = OwnedEvent::from_payload(event.event_type(), encoding, payload);
            prop_assert_eq!(read.as_ref(), Ok(&event));
        }
    }

    #[test]
    fn events_read_back_in_every_dialect(event in event()) {
        for dialect in DIALECTS {
            let payload = event.payload(dialect);
            let read = OwnedEvent::from_payload(event.event_type(), dialect.encoding, payload);
            prop_assert_eq!(read.as_ref(), Ok(&event));
        }
    }

    #[test]
    fn responses_of_serde_are_read(response in response()) {
        for (encoding, payload) in written_by_serde(&response) {
            prop_assert_eq!(response_of(encoding, payload), (None, response.clone()));
        }
    }

    #[test]
    fn responses_read_back(response in response(), id in text()) {
        for encoding in BOTH {
            let mut frame = Vec::new();
            let to = AnswerTo::CorrelationId(&id);
            encode_response(&response, to, Dialect::published(encoding), &mut frame).unwrap();
            let payload = frame.split_off(5);
            let mut by_serde: AgentResponse = read_by_serde(encoding, &payload);
            let serde_id = by_serde.audit.custom.remove("correlation_id");
            prop_assert_eq!(serde_id, Some(Value::from(id.clone())));
            prop_assert_eq!(&by_serde, &response);
            prop_assert_eq!(
                response_of(encoding, payload),
                (Some(id.clone()), response.clone())
            );
        }
    }
}

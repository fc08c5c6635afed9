//! A message means the same however its writer shapes it: order of keys, nulls, keys that are unknown or come
//! twice, longer forms of lengths and numbers.

use super::strategies::{event, response};
use crate::wire::owned_event::OwnedEvent;
use crate::wire::response::{AnswerTo, decode_answer, encode_response};
use crate::wire::{DecodeErrorKind, Dialect, Encoding, JsonTape, Payload};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use rmpv::Value;

/// Structs inside messages, each with a field that it always has; the other maps are free-form, where every
/// key counts.
const STRUCTS: [(&str, &str); 2] = [("metadata", "client_ip"), ("audit", "tags")];

fn is_struct(key: &Value, value: &Value) -> bool {
    STRUCTS.iter().any(|(name, field)| {
        let has_field = |fields: &Vec<(Value, Value)>| {
            fields.iter().any(|(key, _)| key.as_str() == Some(field))
        };
        key.as_str() == Some(name) && value.as_map().is_some_and(has_field)
    })
}

#[derive(Debug, Clone)]
struct Shape {
    drops_nulls: bool,
    /// Which pairs come twice, by place; the list goes round.
    repeats: Vec<bool>,
    /// Where pairs go.
    order: Vec<u8>,
    /// A key that no message has, with anything behind it.
    unknown: Option<serde_json::Value>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let unknown = prop_oneof![
        Just(None),
        Just(Some(serde_json::json!(null))),
        Just(Some(
            serde_json::json!({"correlation_id": [1, {"data": []}], "x": -2.5})
        )),
    ];
    let repeats = vec(any::<bool>(), 1..8);
    (any::<bool>(), repeats, vec(any::<u8>(), 1..16), unknown).prop_map(
        |(drops_nulls, repeats, order, unknown)| Shape {
            drops_nulls,
            repeats,
            order,
            unknown,
        },
    )
}

impl Shape {
    fn apply(&self, message: &mut Value) {
        let Value::Map(pairs) = message else {
            return;
        };
        for (key, value) in pairs.iter_mut() {
            if is_struct(key, value) {
                self.apply(value);
            }
        }
        let mut shaped: Vec<(Value, Value)> = Vec::new();
        for (at, pair) in pairs.drain(..).enumerate() {
            if self.drops_nulls && pair.1.is_nil() {
                continue;
            }
            if self.repeats[at % self.repeats.len()] {
                shaped.push(pair.clone());
            }
            shaped.push(pair);
        }
        if let Some(unknown) = &self.unknown {
            let unknown = rmpv::ext::to_value(unknown).unwrap();
            shaped.push(("not_a_field".into(), unknown));
        }
        let mut places = self.order.iter().cycle();
        shaped.sort_by_cached_key(|_| places.next().copied());
        *pairs = shaped;
    }
}

/// A message as a tree, read by an independent decoder.
fn tree(payload: &[u8]) -> Value {
    rmpv::decode::read_value(&mut &payload[..]).unwrap()
}

/// The forms of a tree: JSON, MessagePack as short as it can be, and as long.
fn forms(message: &Value) -> [(Encoding, Vec<u8>); 3] {
    let mut short = Vec::new();
    rmpv::encode::write_value(&mut short, message).unwrap();
    let mut long = Vec::new();
    write_long(message, &mut long);
    [
        (Encoding::Json, serde_json::to_vec(message).unwrap()),
        (Encoding::MessagePack, short),
        (Encoding::MessagePack, long),
    ]
}

/// Every length in 32 bits, every integer in 64.
fn write_long(value: &Value, out: &mut Vec<u8>) {
    let mut begin = |marker: u8, len: usize| {
        out.push(marker);
        out.extend(u32::try_from(len).unwrap().to_be_bytes());
    };
    match value {
        Value::String(text) => {
            begin(0xdb, text.as_bytes().len());
            out.extend(text.as_bytes());
        }
        Value::Binary(bytes) => {
            begin(0xc6, bytes.len());
            out.extend(bytes);
        }
        Value::Array(items) => {
            begin(0xdd, items.len());
            items.iter().for_each(|item| write_long(item, out));
        }
        Value::Map(pairs) => {
            begin(0xdf, pairs.len());
            for (key, value) in pairs {
                write_long(key, out);
                write_long(value, out);
            }
        }
        Value::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => {
                out.push(0xd3);
                out.extend(number.to_be_bytes());
            }
            (None, number) => {
                out.push(0xcf);
                out.extend(number.unwrap().to_be_bytes());
            }
        },
        other => rmpv::encode::write_value(out, other).unwrap(),
    }
}

fn response_of(
    encoding: Encoding,
    mut payload: Vec<u8>,
) -> Result<(Option<String>, crate::protocol::AgentResponse), DecodeErrorKind> {
    let bytes = Bytes::copy_from_slice(&payload);
    let mut tape = JsonTape::default();
    let payload = match encoding {
        Encoding::Json => Payload::Json(&mut payload, &mut tape),
        Encoding::MessagePack => Payload::MessagePack(&bytes),
        #[cfg(feature = "grpc")]
        Encoding::Protobuf => Payload::Protobuf(&bytes),
    };
    decode_answer(payload, |answer| {
        (answer.correlation_id.map(str::to_owned), answer.response)
    })
    .map_err(|undecodable| undecodable.error.kind())
}

const MSGPACK: Dialect = Dialect::published(Encoding::MessagePack);

proptest! {
    #[test]
    fn events_mean_the_same_in_every_shape(event in event(), shape in shape()) {
        // All of a configuration is free-form, so each key of it counts.
        prop_assume!(!matches!(event, OwnedEvent::Configure(..)));
        let mut message = tree(&event.payload(MSGPACK));
        shape.apply(&mut message);
        for (encoding, payload) in forms(&message) {
            let read = OwnedEvent::from_payload(event.event_type(), encoding, payload);
            prop_assert_eq!(read.as_ref(), Ok(&event));
        }
    }

    #[test]
    fn responses_mean_the_same_in_every_shape(response in response(), shape in shape()) {
        let mut frame = Vec::new();
        encode_response(&response, AnswerTo::CorrelationId("id"), MSGPACK, &mut frame).unwrap();
        let mut message = tree(&frame[5..]);
        shape.apply(&mut message);
        for (encoding, payload) in forms(&message) {
            let (id, read) = response_of(encoding, payload).unwrap();
            prop_assert_eq!(id.as_deref(), Some("id"));
            prop_assert_eq!(&read, &response);
        }
    }

    /// A field that comes twice with different values is an error, whichever field it is.
    #[test]
    fn contradictions_are_refused(event in event(), which in any::<prop::sample::Index>()) {
        prop_assume!(!matches!(event, OwnedEvent::Configure(..)));
        let message = tree(&event.payload(MSGPACK));
        let Value::Map(mut pairs) = message else { panic!("{message}") };
        let (key, value) = pairs[which.index(pairs.len())].clone();
        let Some(other) = another(&value) else { return Ok(()) };
        pairs.push((key, other));
        for (encoding, payload) in forms(&Value::Map(pairs)) {
            let read = OwnedEvent::from_payload(event.event_type(), encoding, payload);
            let error = read.unwrap_err().error.kind();
            prop_assert_eq!(error, DecodeErrorKind::Contradiction);
        }
    }
}

/// A value of the same type that a field of this value could have instead; `None` where that depends on the
/// field.
fn another(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Boolean(flag) => Value::Boolean(!flag),
        Value::Integer(number) if number.as_u64() == Some(0) => 1.into(),
        Value::Integer(_) => 0.into(),
        _ => return None,
    })
}

//! Messages decode to the same value regardless of the order of keys, omitted nulls, unknown or
//! repeated keys, and longer forms of lengths and numbers.

use crate::owned_event::{Encoded, OwnedEvent, call, decode_answer};
use crate::strategies::{event, response};
use proptest::collection::vec;
use proptest::prelude::*;
use rmpv::Value;
use tollgate::Encoding;
use tollgate::codec::Codec;
use tollgate::error::DecodeErrorKind;

/// Structs nested in messages, each with a field that is always present. All other nested maps are
/// free-form, so their keys must not be changed.
const STRUCTS: [(&str, &str); 2] = [("metadata", "client_ip"), ("audit", "tags")];

fn is_struct(key: &Value, value: &Value) -> bool {
    STRUCTS.iter().any(|(name, field)| {
        let has_field = |fields: &Vec<(Value, Value)>| {
            fields.iter().any(|(key, _)| key.as_str() == Some(field))
        };
        key.as_str() == Some(name) && value.as_map().is_some_and(has_field)
    })
}

/// A way to rewrite a message without changing its meaning.
#[derive(Debug, Clone)]
struct Shape {
    drops_nulls: bool,
    /// Set for each index whose pair is repeated. Used cyclically.
    repeats: Vec<bool>,
    /// Sort keys of the pairs. Used cyclically.
    order: Vec<u8>,
    /// Value of an additional, unknown key.
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
        let mut order = self.order.iter().cycle();
        shaped.sort_by_cached_key(|_| order.next().copied());
        *pairs = shaped;
    }
}

/// Decodes a message with rmpv.
fn decode_tree(payload: &[u8]) -> Value {
    rmpv::decode::read_value(&mut &payload[..]).unwrap()
}

/// Encodes a message as JSON, and as the shortest and the longest MessagePack.
fn encode_forms(message: &Value) -> [(Encoding, Vec<u8>); 3] {
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

/// Encodes a value with all lengths in 32 bits and all integers in 64 bits.
pub fn write_long(value: &Value, out: &mut Vec<u8>) {
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

const MSGPACK: Codec = Codec::zentinel(Encoding::MessagePack);

proptest! {
    #[test]
    fn events_decode_equally_in_every_shape(event in event(), shape in shape()) {
        // Settings are entirely free-form, so they have no keys that may be changed.
        prop_assume!(!matches!(event, OwnedEvent::Configure(..)));
        let mut message = decode_tree(&event.payload(MSGPACK));
        shape.apply(&mut message);
        for (encoding, payload) in encode_forms(&message) {
            let read = OwnedEvent::from_payload(event.event_type(), encoding, &payload);
            prop_assert_eq!(read.as_ref(), Ok(&event));
        }
    }

    #[test]
    fn responses_decode_equally_in_every_shape(response in response(), shape in shape()) {
        let payload = Encoded::answer(&response, MSGPACK, call("id")).joined();
        let mut message = decode_tree(&payload);
        shape.apply(&mut message);
        for (encoding, payload) in encode_forms(&message) {
            let (id, read) = decode_answer(encoding, &payload).unwrap();
            prop_assert_eq!(id.as_deref(), Some("id"));
            prop_assert_eq!(&read, &response);
        }
    }

    #[test]
    fn repeated_field_with_another_value_is_an_error(
        event in event(),
        which in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!matches!(event, OwnedEvent::Configure(..)));
        let message = decode_tree(&event.payload(MSGPACK));
        let Value::Map(mut pairs) = message else { panic!("{message}") };
        let (key, value) = pairs[which.index(pairs.len())].clone();
        let Some(other) = different_value(&value) else { return Ok(()) };
        pairs.push((key, other));
        for (encoding, payload) in encode_forms(&Value::Map(pairs)) {
            let read = OwnedEvent::from_payload(event.event_type(), encoding, &payload);
            let error = read.unwrap_err().error.kind();
            prop_assert_eq!(error, DecodeErrorKind::Contradiction);
        }
    }
}

/// Returns a different value that is valid for the same field, or `None` if that depends on the
/// field.
fn different_value(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Boolean(flag) => Value::Boolean(!flag),
        Value::Integer(number) if number.as_u64() == Some(0) => 1.into(),
        Value::Integer(_) => 0.into(),
        _ => return None,
    })
}

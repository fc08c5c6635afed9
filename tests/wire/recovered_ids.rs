//! The correlation ids of messages that do not decode.

use serde_json::{Value, json};
use tollgate::codec::Decoder;
use tollgate::{Encoding, EventType};

/// Decodes a message, which must fail both as an event and as an answer. Returns the id.
fn recovered(encoding: Encoding, message: &[u8]) -> Option<String> {
    let mut decoder = Decoder::new(encoding);
    let event = decoder.decode_event(EventType::WebSocketFrame, message.into(), |_| ());
    let answer = decoder.decode_answer(message.into(), |_| ());
    let ids = [event, answer].map(|read| read.unwrap_err().correlation_id);
    assert_eq!(ids[0], ids[1]);
    let [id, _] = ids;
    id
}

fn json(text: &str) -> Option<String> {
    recovered(Encoding::Json, text.as_bytes())
}

fn msgpack(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

fn expect_found(id: Option<String>) {
    assert_eq!(id.as_deref(), Some("a"));
}

#[test]
fn ids_are_found_at_every_known_location() {
    let answer = json!({"decision": 7, "audit": {"custom": {"correlation_id": "a"}}});
    expect_found(recovered(Encoding::MessagePack, &msgpack(&answer)));
    for text in [
        r#"{"correlation_id":"a"}"#,
        r#"{"x":[1],"metadata":{"y":2,"correlation_id":"a"}}"#,
        &answer.to_string(),
    ] {
        expect_found(json(text));
        // Text that is not valid JSON is searched in another way.
        let text = text.strip_suffix('}').unwrap();
        expect_found(json(&format!("{text},\"x\":1000000000000000000x}}")));
    }
}

#[test]
fn escapes_in_an_id_are_decoded_once() {
    let id = "a\",\"correlation_id\":\"b";
    let text = json!({"correlation_id": id, "status": "x"}).to_string();
    assert_eq!(json(&text).as_deref(), Some(id));
    let text = text.replace("\"x\"", "1000000000000000000x");
    assert_eq!(json(&text).as_deref(), Some(id));
}

#[test]
fn ids_before_the_invalid_part_are_found() {
    expect_found(json(r#"{"correlation_id":"a","data":"#));
    expect_found(json(r#"{"metadata":{"correlation_id":"a","x":"#));
    for whole in [
        json!({"correlation_id": "a", "data": "xxxxxxxxxxx"}),
        json!({"metadata": {"correlation_id": "a", "x": "xxxx"}}),
    ] {
        let whole = msgpack(&whole);
        expect_found(recovered(Encoding::MessagePack, &whole[..whole.len() - 3]));
    }
}

#[test]
fn no_id_is_found_in_invalid_input() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        r#"{"correlation_id":7}"#,
        r#"{"correlation_id":"a"b"}"#,
    ] {
        assert_eq!(json(text), None, "{text}");
    }
    for bytes in [&[][..], &[0xc1], &[0x80], &[0x91], &[0x81, 0xa1, b'x']] {
        assert_eq!(recovered(Encoding::MessagePack, bytes), None);
    }
}

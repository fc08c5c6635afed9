//! Hostile input, and the reason codes by which it is refused.

use super::{COMPACT, answer_payload};
use crate::owned_event::{OwnedEvent, read_answer};
use crate::strategies::{event, response};
use proptest::prelude::*;
use rmpv::Value;
use std::time::{Duration, Instant};
use tollgate::{AgentResponse, EventType};

fn encode(items: Vec<Value>) -> Vec<u8> {
    let mut payload = Vec::new();
    rmpv::encode::write_value(&mut payload, &Value::Array(items)).unwrap();
    payload
}

/// Returns the items of a valid request head with one header and one optional field.
fn head() -> Vec<Value> {
    let headers = vec![(0.into(), Value::Binary(b"h".to_vec()))];
    let ip = Value::Binary(vec![192, 0, 2, 7]);
    let fields = vec![(3.into(), "api".into())];
    vec![
        "r-1".into(),
        500.into(),
        0.into(),
        "/".into(),
        2.into(),
        ip,
        4711.into(),
        0.into(),
        "q".into(),
        Value::Map(headers),
        Value::Map(fields),
    ]
}

fn code(event_type: EventType, payload: &[u8]) -> &'static str {
    match OwnedEvent::read(COMPACT, event_type, payload) {
        Ok(_) => "none",
        Err(undecodable) => undecodable.error.kind().code(),
    }
}

/// Returns the reason code for a head in which one item is another value.
fn code_with(at: usize, value: Value) -> &'static str {
    let mut items = head();
    items[at] = value;
    code(EventType::RequestHeaders, &encode(items))
}

fn answer_code(items: Vec<Value>) -> &'static str {
    match read_answer(COMPACT, &encode(items)) {
        Ok(_) => "none",
        Err(undecodable) => undecodable.error.kind().code(),
    }
}

fn map(pairs: &[(Value, Value)]) -> Value {
    Value::Map(pairs.to_vec())
}

fn bin(bytes: &[u8]) -> Value {
    Value::Binary(bytes.to_vec())
}

#[test]
fn the_valid_head_is_read() {
    assert_eq!(code(EventType::RequestHeaders, &encode(head())), "none");
    assert_eq!(code_with(1, Value::Nil), "none");
}

proptest! {
    #[test]
    fn every_truncation_is_refused(event in event(), answer in response(), extra in any::<u8>()) {
        let payload = event.payload(COMPACT);
        for len in 0..payload.len().min(2000) {
            let code = code(event.event_type(), &payload[..len]);
            prop_assert!(code != "none", "{len} bytes of {payload:?}");
        }
        let surplus = [&payload[..], &[extra]].concat();
        prop_assert_eq!(code(event.event_type(), &surplus), "surplus");
        let payload = answer_payload(&answer);
        for len in 0..payload.len().min(2000) {
            prop_assert!(read_answer(COMPACT, &payload[..len]).is_err());
        }
        let surplus = [&payload[..], &[extra]].concat();
        let refused = read_answer(COMPACT, &surplus).unwrap_err();
        prop_assert_eq!(refused.error.kind().code(), "surplus");
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for event_type in EventType::ALL {
            let _ = OwnedEvent::read(COMPACT, event_type, &bytes);
        }
        let _ = read_answer(COMPACT, &bytes);
    }
}

#[test]
fn wrong_types_are_refused() {
    let wrong = [
        Value::Boolean(true),
        Value::F64(1.0),
        Value::Array(vec![]),
        Value::Map(vec![]),
        Value::Ext(1, vec![0; 4]),
        Value::Nil,
        (-1).into(),
        "text".into(),
        bin(b"\xff\xff\xff"),
    ];
    for at in 0..head().len() {
        for value in &wrong {
            let is_valid = match at {
                0 | 2..=5 | 7 | 8 if value.is_str() => true,
                1 if value.is_nil() => true,
                9 | 10 if value.is_map() => true,
                _ => false,
            };
            let code = code_with(at, value.clone());
            assert_eq!(code == "none", is_valid, "{value} at {at}: {code}");
            assert!(
                ["none", "wrong_type", "out_of_range"].contains(&code),
                "{value} at {at}: {code}"
            );
        }
    }
    // Header values are bytes, and nothing else.
    for value in ["text".into(), Value::Nil, 1.into(), Value::Map(vec![])] {
        assert_eq!(
            code_with(9, map(&[(0.into(), value.clone())])),
            "wrong_type"
        );
        let values = Value::Array(vec![bin(b"a"), value]);
        assert_eq!(code_with(9, map(&[(0.into(), values)])), "wrong_type");
    }
    assert_eq!(
        code_with(9, map(&[(bin(b"host"), bin(b"h"))])),
        "wrong_type"
    );
    assert_eq!(
        code_with(10, map(&[("route_id".into(), "api".into())])),
        "wrong_type"
    );
    assert_eq!(code_with(10, map(&[(3.into(), Value::Nil)])), "wrong_type");
    assert_eq!(code_with(10, map(&[(6.into(), 1.into())])), "wrong_type");
}

#[test]
fn unknown_numbers_are_refused() {
    assert_eq!(code_with(2, 9.into()), "unknown_name");
    assert_eq!(code_with(4, 7.into()), "unknown_name");
    for number in [128_u64, 255, 256, 65_536, u64::MAX] {
        assert_eq!(
            code_with(9, map(&[(number.into(), bin(b"h"))])),
            "unknown_name"
        );
        assert_eq!(code_with(2, number.into()), "unknown_name");
    }
    assert_eq!(
        code_with(9, map(&[((-1).into(), bin(b"h"))])),
        "out_of_range"
    );
    assert_eq!(
        code_with(10, map(&[((-1).into(), "x".into())])),
        "out_of_range"
    );
    assert_eq!(code_with(10, map(&[(1.into(), 3.into())])), "none");
    assert_eq!(code_with(10, map(&[(1.into(), 4.into())])), "unknown_name");
    assert_eq!(code_with(6, 65_536.into()), "out_of_range");
    for len in [0, 3, 5, 15, 17] {
        assert_eq!(code_with(5, bin(&vec![1; len])), "out_of_range");
    }
    assert_eq!(answer_code(vec![4.into()]), "unknown_name");
    assert_eq!(answer_code(vec![1.into()]), "wrong_type");
    assert_eq!(
        answer_code(vec![Value::Array(vec![9.into()])]),
        "unknown_name"
    );
    let op = |items| {
        vec![
            0.into(),
            map(&[(0.into(), Value::Array(vec![Value::Array(items)]))]),
        ]
    };
    assert_eq!(answer_code(op(vec![3.into(), 0.into()])), "unknown_name");
    assert_eq!(answer_code(op(vec![2.into(), 128.into()])), "unknown_name");
    assert_eq!(answer_code(op(vec![0.into(), 0.into()])), "missing_field");
    let websocket = |value| vec![0.into(), map(&[(5.into(), value)])];
    assert_eq!(answer_code(websocket(3.into())), "unknown_name");
    assert_eq!(answer_code(websocket(2.into())), "wrong_type");
    let frame = |opcode: u64| {
        let ip = bin(&[1, 2, 3, 4]);
        let flag = Value::Boolean(true);
        encode(vec![
            "r".into(),
            Value::Nil,
            opcode.into(),
            flag.clone(),
            0.into(),
            flag,
            Value::Nil,
            ip,
            bin(b""),
        ])
    };
    assert_eq!(code(EventType::WebSocketFrame, &frame(1)), "none");
    assert_eq!(code(EventType::WebSocketFrame, &frame(3)), "unknown_name");
    let inspect = |kind: u64| {
        encode(vec![
            "r".into(),
            Value::Nil,
            kind.into(),
            "c".into(),
            Value::Nil,
            Value::Array(vec![]),
            Value::Nil,
            map(&[]),
        ])
    };
    assert_eq!(code(EventType::GuardrailInspect, &inspect(1)), "none");
    assert_eq!(
        code(EventType::GuardrailInspect, &inspect(2)),
        "unknown_name"
    );
}

#[test]
fn fewer_items_and_repeated_fields_are_refused() {
    for len in 0..10 {
        let items = head()[..len].to_vec();
        assert_eq!(
            code(EventType::RequestHeaders, &encode(items)),
            "missing_field",
            "{len}"
        );
    }
    assert_eq!(
        code(EventType::RequestHeaders, &encode(head()[..10].to_vec())),
        "none"
    );
    assert_eq!(answer_code(vec![]), "missing_field");
    let twice = |left: &str, right: &str| {
        code_with(
            10,
            map(&[
                (3.into(), left.into()),
                (0.into(), "h".into()),
                (3.into(), right.into()),
            ]),
        )
    };
    assert_eq!(twice("a", "a"), "none");
    assert_eq!(twice("a", "b"), "contradiction");
    let more = |left, right| {
        let fields = [
            (4.into(), Value::Boolean(left)),
            (4.into(), Value::Boolean(right)),
        ];
        answer_code(vec![0.into(), map(&fields)])
    };
    assert_eq!(more(true, true), "none");
    assert_eq!(more(true, false), "contradiction");
}

#[test]
fn text_that_is_not_utf_8_is_refused_except_in_header_values() {
    let broken = |at: usize| {
        let mut payload = encode(head());
        let text = match at {
            0 => &b"\xa3r-1"[..],
            3 => b"\xa1/",
            8 => b"\xa1q",
            _ => b"\xa3api",
        };
        let found = payload
            .windows(text.len())
            .position(|window| window == text)
            .unwrap();
        payload[found + 1] = 0xff;
        payload
    };
    for at in [0, 3, 8, 10] {
        assert_eq!(
            code(EventType::RequestHeaders, &broken(at)),
            "not_utf8",
            "{at}"
        );
    }
    assert_eq!(code_with(9, map(&[(0.into(), bin(b"\xff"))])), "none");
}

#[test]
fn counts_that_lie_are_refused_without_memory() {
    let with_headers = |header: &[u8]| {
        let mut payload = encode(head()[..9].to_vec());
        payload[0] = 0x9a;
        payload.extend_from_slice(header);
        code(EventType::RequestHeaders, &payload)
    };
    for (headers, expected) in [
        (&b"\xdf\xff\xff\xff\xff"[..], "cut_short"),
        (b"\xde\xff\xff", "cut_short"),
        (b"\x82\x00\xc4\x01h", "cut_short"),
        (b"\x81\x00\xc4\xffh", "cut_short"),
        (b"\x81\x00\xc6\xff\xff\xff\xffh", "cut_short"),
        (b"\x81\x00\xdd\xff\xff\xff\xff\xc4\x00", "cut_short"),
        (b"\x81\x00\x92\xc4\x00", "cut_short"),
        (b"\x81\xc1\xc4\x00", "wrong_type"),
        (b"\x80\xc0", "surplus"),
        (b"\x81\x00\xc4\x01h", "none"),
        // One header more than is announced becomes a further item.
        (b"\x80\x00\xc4\x01h", "surplus"),
    ] {
        assert_eq!(with_headers(headers), expected, "{headers:02x?}");
    }
    for payload in [
        &b"\xdd\xff\xff\xff\xff\x00"[..],
        b"\x92\x00\xdf\xff\xff\xff\xff",
    ] {
        assert!(read_answer(COMPACT, payload).is_err());
    }
}

#[test]
fn many_one_byte_names_are_read_in_linear_time() {
    let headers = (0..32 * 1024).map(|at: u32| {
        let name = Value::from(char::from(b'a' + (at % 26) as u8).to_string());
        (name, bin(b""))
    });
    let mut items = head();
    items[9] = Value::Map(headers.collect());
    let payload = encode(items);
    let started = Instant::now();
    let read = OwnedEvent::read(COMPACT, EventType::RequestHeaders, &payload).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    let OwnedEvent::RequestHeaders(event) = read else {
        panic!("{read:?}")
    };
    assert_eq!(event.headers.len(), 26);
    assert_eq!(
        event.headers.values().map(Vec::len).sum::<usize>(),
        32 * 1024
    );
}

#[test]
fn the_id_of_an_event_that_does_not_decode_is_recovered() {
    let mut items = head();
    items[2] = Value::Nil;
    let refused = OwnedEvent::read(COMPACT, EventType::RequestHeaders, &encode(items));
    assert_eq!(refused.unwrap_err().correlation_id.as_deref(), Some("r-1"));
    let deep = [
        &b"\x93\xa1r\xc0"[..],
        &b"\x81\xa1k".repeat(200)[..],
        b"\xc0",
    ]
    .concat();
    assert_eq!(code(EventType::Configure, &deep), "too_deep");
    let allow = answer_payload(&AgentResponse::default_allow());
    assert_eq!(allow.len(), 2);
}

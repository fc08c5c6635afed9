//! An independent reader and writer of events in version 2, by rmpv and the tables of
//! docs/protocol.md.

use super::table::{HEADER_NAMES, METHODS, PROTOCOLS, TLS_VERSIONS};
use super::{COMPACT, answer_payload};
use crate::owned_event::{OwnedEvent, read_answer};
use crate::reshaped::write_long;
use crate::strategies::{event, request_headers, response};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rmpv::Value;
use std::collections::HashMap;
use tollgate::EventType;
use tollgate::events::{IpText, RequestHeadersEvent, RequestMetadata, Timestamp};
use tollgate::response::{AgentResponse, AuditMetadata, Decision, HeaderOp};

fn tree(payload: &[u8]) -> Vec<Value> {
    let mut rest = payload;
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "the message is one value");
    let Value::Array(items) = value else {
        panic!("not an array: {value:?}");
    };
    items
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Returns the text that a number or a text stands for.
fn named(value: &Value, names: &[String]) -> String {
    match value.as_u64() {
        Some(number) => names[number as usize].clone(),
        None => text(value),
    }
}

fn address(value: &Value) -> String {
    let Value::Binary(bytes) = value else {
        return text(value);
    };
    match bytes.len() {
        4 => IpText::from(<[u8; 4]>::try_from(&bytes[..]).unwrap()).to_string(),
        _ => IpText::from(<[u8; 16]>::try_from(&bytes[..]).unwrap()).to_string(),
    }
}

fn timestamp(value: &Value) -> String {
    match value.as_u64() {
        Some(ms) => Timestamp::from_ms(ms).to_string(),
        None => text(value),
    }
}

fn headers(value: &Value) -> HashMap<String, Vec<String>> {
    let pairs = value.as_map().unwrap().iter();
    let pairs = pairs.map(|(name, values)| {
        let bytes = |value: &Value| {
            let Value::Binary(bytes) = value else {
                panic!("not bytes: {value}");
            };
            String::from_utf8(bytes.clone()).unwrap()
        };
        let values = match values {
            Value::Array(values) => values.iter().map(bytes).collect(),
            value => vec![bytes(value)],
        };
        (named(name, &HEADER_NAMES), values)
    });
    pairs.collect()
}

fn read_head(items: &[Value]) -> RequestHeadersEvent {
    let fields: HashMap<u64, &Value> = items.get(10).map_or_else(HashMap::new, |fields| {
        let fields = fields.as_map().unwrap().iter();
        fields
            .map(|(number, value)| (number.as_u64().unwrap(), value))
            .collect()
    });
    let field = |number| fields.get(&number).map(|value| text(value));
    assert!(items[1].is_nil());
    RequestHeadersEvent {
        metadata: RequestMetadata {
            correlation_id: text(&items[0]),
            request_id: text(&items[8]),
            client_ip: address(&items[5]),
            client_port: items[6].as_u64().unwrap() as u16,
            server_name: field(0),
            protocol: named(&items[4], &PROTOCOLS),
            tls_version: fields.get(&1).map(|value| named(value, &TLS_VERSIONS)),
            tls_cipher: field(2),
            route_id: field(3),
            upstream_id: field(4),
            timestamp: timestamp(&items[7]),
            traceparent: field(5),
        },
        method: named(&items[2], &METHODS),
        uri: text(&items[3]),
        headers: headers(&items[9]),
    }
}

/// Makes some texts those that numbers stand for.
fn usual(mut event: RequestHeadersEvent, choice: u64) -> RequestHeadersEvent {
    let at = choice as usize;
    let metadata = &mut event.metadata;
    if choice.is_multiple_of(2) {
        metadata.tls_version = Some(TLS_VERSIONS[at % TLS_VERSIONS.len()].clone());
        event.method = METHODS[at % METHODS.len()].clone();
        metadata.protocol = PROTOCOLS[at % PROTOCOLS.len()].clone();
        metadata.timestamp = Timestamp::from_ms(choice).to_string();
    }
    if choice.is_multiple_of(3) {
        metadata.client_ip = IpText::from((choice as u32).to_be_bytes()).to_string();
    } else if choice % 3 == 1 {
        let halves = u128::from(choice) << 64 | u128::from(choice.rotate_left(7));
        metadata.client_ip = IpText::from(halves.to_be_bytes()).to_string();
    }
    let name = &HEADER_NAMES[at % HEADER_NAMES.len()];
    event.headers.insert(name.clone(), vec!["v".to_owned()]);
    event
}

proptest! {
    #[test]
    fn rmpv_reads_heads_by_the_documented_tables(
        event in request_headers(), choice in any::<u64>()
    ) {
        let event = usual(event, choice);
        let payload = OwnedEvent::RequestHeaders(event.clone()).payload(COMPACT);
        prop_assert_eq!(&read_head(&tree(&payload)), &event);
        let read = OwnedEvent::read(COMPACT, EventType::RequestHeaders, &payload);
        prop_assert_eq!(read, Ok(OwnedEvent::RequestHeaders(event)));
    }

    #[test]
    fn heads_in_text_and_in_long_forms_are_read(event in request_headers()) {
        let items = Value::Array(in_text(&event));
        let (mut short, mut long) = (Vec::new(), Vec::new());
        rmpv::encode::write_value(&mut short, &items).unwrap();
        write_long(&items, &mut long);
        for payload in [short, long] {
            let read = OwnedEvent::read(COMPACT, EventType::RequestHeaders, &payload);
            prop_assert_eq!(read, Ok(OwnedEvent::RequestHeaders(event.clone())));
        }
    }

    #[test]
    fn events_and_answers_are_read_in_every_shape(event in event(), answer in response()) {
        let mut items = tree(&event.payload(COMPACT));
        if let OwnedEvent::RequestHeaders(_) = event {
            // Optional fields: in another order, repeated, and one that is not known.
            match items.get_mut(10) {
                Some(Value::Map(fields)) => {
                    fields.reverse();
                    fields.push(fields[0].clone());
                    fields.insert(0, (1000.into(), Value::Array(vec![Value::Nil])));
                }
                _ => items.push(Value::Map(vec![(7.into(), "unknown".into())])),
            }
        }
        items.push(Value::Map(vec![("surplus".into(), Value::Nil)]));
        let mut payload = Vec::new();
        write_long(&Value::Array(items), &mut payload);
        let read = OwnedEvent::read(COMPACT, event.event_type(), &payload);
        prop_assert_eq!(read.as_ref(), Ok(&event));

        let mut items = tree(&answer_payload(&answer));
        match items.get_mut(1) {
            Some(Value::Map(fields)) => {
                fields.reverse();
                fields.push(fields[0].clone());
                fields.push((8.into(), Value::Boolean(true)));
            }
            _ => items.push(Value::Map(Vec::new())),
        }
        items.push(Value::Nil);
        let mut payload = Vec::new();
        write_long(&Value::Array(items), &mut payload);
        prop_assert_eq!(read_answer(COMPACT, &payload), Ok(answer));
    }

    #[test]
    fn rmpv_reads_answers_by_the_documented_tables(answer in response()) {
        let items = tree(&answer_payload(&answer));
        let fields: HashMap<u64, &Value> = items.get(1).map_or_else(HashMap::new, |fields| {
            let fields = fields.as_map().unwrap().iter();
            fields.map(|(number, value)| (number.as_u64().unwrap(), value)).collect()
        });
        check_decision(&answer.decision, &items[0]);
        let ops = |number| fields.get(&number).map_or_else(Vec::new, |ops| read_ops(ops));
        prop_assert_eq!(&ops(0), &answer.request_headers);
        prop_assert_eq!(&ops(1), &answer.response_headers);
        let needs_more = fields.get(&4).is_some_and(|value| value.as_bool().unwrap());
        prop_assert_eq!(needs_more, answer.needs_more);
        let mutation = fields.get(&6).map(|mutation| &mutation.as_array().unwrap()[1]);
        let data = mutation.and_then(|data| data.as_slice());
        let expected = answer.request_body_mutation.as_ref();
        prop_assert_eq!(data, expected.and_then(|mutation| mutation.data.as_deref()));
        check_audit(&answer.audit, fields.get(&3).copied());
    }
}

/// Returns the items of a head without any number in place of a text.
fn in_text(event: &RequestHeadersEvent) -> Vec<Value> {
    let metadata = &event.metadata;
    let headers = event.headers.iter().map(|(name, values)| {
        let values = values
            .iter()
            .map(|value| Value::Binary(value.clone().into_bytes()));
        (Value::from(name.as_str()), Value::Array(values.collect()))
    });
    let optional = [
        &metadata.server_name,
        &metadata.tls_version,
        &metadata.tls_cipher,
        &metadata.route_id,
        &metadata.upstream_id,
        &metadata.traceparent,
    ];
    let fields = optional
        .into_iter()
        .enumerate()
        .filter_map(|(number, field)| Some((Value::from(number), Value::from(field.as_deref()?))));
    vec![
        metadata.correlation_id.as_str().into(),
        Value::Nil,
        event.method.as_str().into(),
        event.uri.as_str().into(),
        metadata.protocol.as_str().into(),
        metadata.client_ip.as_str().into(),
        metadata.client_port.into(),
        metadata.timestamp.as_str().into(),
        metadata.request_id.as_str().into(),
        Value::Map(headers.collect()),
        Value::Map(fields.collect()),
    ]
}

fn check_decision(decision: &Decision, value: &Value) {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let number = items.first().unwrap_or(value).as_u64();
    match decision {
        Decision::Allow => assert_eq!((number, items.len()), (Some(0), 0)),
        Decision::Block { status, body, .. } => {
            assert_eq!(number, Some(1));
            assert_eq!(items[1].as_u64(), Some(u64::from(*status)));
            assert_eq!(items[2].as_str(), body.as_deref());
        }
        Decision::Redirect { url, status } => {
            assert_eq!(number, Some(2));
            assert_eq!(items[1].as_u64(), Some(u64::from(*status)));
            assert_eq!(items[2].as_str(), Some(&url[..]));
        }
        Decision::Challenge {
            challenge_type,
            params,
        } => {
            assert_eq!(number, Some(3));
            assert_eq!(items[1].as_str(), Some(&challenge_type[..]));
            assert_eq!(items[2].as_map().unwrap().len(), params.len());
        }
    }
}

fn read_ops(value: &Value) -> Vec<HeaderOp> {
    let ops = value.as_array().unwrap().iter().map(|op| {
        let items = op.as_array().unwrap();
        let name = named(&items[1], &HEADER_NAMES);
        match items[0].as_u64() {
            Some(0) => HeaderOp::Set {
                name,
                value: text(&items[2]),
            },
            Some(1) => HeaderOp::Add {
                name,
                value: text(&items[2]),
            },
            _ => HeaderOp::Remove { name },
        }
    });
    ops.collect()
}

fn check_audit(audit: &AuditMetadata, value: Option<&Value>) {
    let Some(value) = value else {
        return assert!(audit.is_empty());
    };
    for (number, value) in value.as_map().unwrap() {
        let texts = || -> Vec<_> { value.as_array().unwrap().iter().map(text).collect() };
        match number.as_u64() {
            Some(0) => assert_eq!(texts(), audit.tags),
            Some(1) => assert_eq!(texts(), audit.rule_ids),
            Some(2) => assert_eq!(value.as_f64(), audit.confidence.map(f64::from)),
            Some(3) => assert_eq!(texts(), audit.reason_codes),
            _ => assert_eq!(value.as_map().unwrap().len(), audit.custom.len()),
        }
    }
}

#[test]
fn usual_addresses_and_times_are_no_texts() {
    let head = |ip: &str, time: &str| {
        let mut runner = TestRunner::deterministic();
        let mut event = request_headers().new_tree(&mut runner).unwrap().current();
        event.metadata.client_ip = ip.to_owned();
        event.metadata.timestamp = time.to_owned();
        let items = tree(&OwnedEvent::RequestHeaders(event).payload(COMPACT));
        (items[5].clone(), items[7].clone())
    };
    let (ip, time) = head("2001:db8::1", "2026-01-02T03:04:05.000Z");
    assert!(matches!(ip, Value::Binary(bytes) if bytes.len() == 16));
    assert_eq!(time.as_u64(), Some(1_767_323_045_000));
    for ip in [
        "",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.4 ",
        "2001:DB8::1",
        "0:0:0:0:0:0:0:1",
        "::ffff:1.2.3.4",
        "1..2.3",
        ".1.2.3",
        "1.2.3.",
        "unix",
    ] {
        let (value, _) = head(ip, "");
        assert!(value.is_str() && value.as_str() == Some(ip), "{ip}");
    }
    for ip in ["0.0.0.0", "255.255.255.255", "10.20.30.4"] {
        let (value, _) = head(ip, "");
        assert!(
            matches!(value, Value::Binary(bytes) if bytes.len() == 4),
            "{ip}"
        );
    }
    let allow = tree(&answer_payload(&AgentResponse::default_allow()));
    assert_eq!(allow, [Value::from(0)]);
}

//! Properties of the codec, and fuzzing of everything that reads bytes.

use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use tollgate_haproxy::client::Answer;
use tollgate_haproxy::wire::{
    Action, Actions, AgentHello, Disconnect, Frame, FrameId, FrameKind, Hello, Messages, Reader,
    Scope, Value, Writer, next_frame, put_frame,
};

/// A value that owns its bytes.
#[derive(Debug, Clone)]
enum Owned {
    Plain(Value<'static>),
    String(Vec<u8>),
    Binary(Vec<u8>),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Plain(value) => *value,
            Self::String(bytes) => Value::String(bytes),
            Self::Binary(bytes) => Value::Binary(bytes),
        }
    }
}

fn values() -> impl Strategy<Value = Owned> {
    let plain = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::Int32),
        any::<u32>().prop_map(Value::Uint32),
        any::<i64>().prop_map(Value::Int64),
        any::<u64>().prop_map(Value::Uint64),
        any::<u32>().prop_map(|bits| Value::Ipv4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| Value::Ipv6(Ipv6Addr::from(bits))),
    ];
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        plain.prop_map(Owned::Plain),
        bytes().prop_map(Owned::String),
        bytes().prop_map(Owned::Binary),
    ]
}

proptest! {
    #[test]
    fn numbers_are_read_as_they_were_written(number: u64) {
        let mut bytes = Vec::new();
        Writer(&mut bytes).varint(number);
        prop_assert!(bytes.len() <= 10);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.varint(), Ok(number));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn values_are_read_as_they_were_written(owned in values()) {
        let mut bytes = Vec::new();
        Writer(&mut bytes).value(owned.value());
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.value(), Ok(owned.value()));
        prop_assert!(reader.is_empty());
        prop_assert!(Reader::new(&bytes[..bytes.len() - 1]).value().is_err());
    }

    #[test]
    fn frames_are_read_as_they_were_written(
        stream: u64,
        frame: u64,
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let id = FrameId { stream, frame };
        let mut bytes = Vec::new();
        put_frame(&mut bytes, FrameKind::Notify, id, |out| out.0.extend_from_slice(&payload));
        let len = next_frame(&bytes, 1 << 20).unwrap().unwrap();
        prop_assert_eq!(len + 4, bytes.len());
        let read = Frame::read(&bytes[4..]).unwrap();
        prop_assert_eq!((read.kind, read.id, read.payload), (FrameKind::Notify, id, &*payload));
    }

    #[test]
    fn actions_are_read_as_they_were_written(owned in values(), name in "[a-z]{1,20}") {
        let name = name.as_bytes();
        let scope = Scope::Transaction;
        let actions = [
            Action::SetVar { scope, name, value: owned.value() },
            Action::UnsetVar { scope, name },
        ];
        let mut bytes = Vec::new();
        actions.iter().for_each(|action| action.write(&mut Writer(&mut bytes)));
        let mut read = Actions::new(&bytes);
        prop_assert_eq!(read.read_next(), Ok(Some(actions[0])));
        prop_assert_eq!(read.read_next(), Ok(Some(actions[1])));
        prop_assert_eq!(read.read_next(), Ok(None));
    }
}

#[test]
fn fuzz_frames() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(Some(len)) = next_frame(bytes, 1 << 20) else {
            return;
        };
        let Ok(frame) = Frame::read(&bytes[4..4 + len]) else {
            return;
        };
        let mut written = Vec::new();
        put_frame(&mut written, frame.kind, frame.id, |out| {
            out.0.extend_from_slice(frame.payload);
        });
        let read = Frame::read(&written[4..]).expect("what was written is a frame");
        assert_eq!((read.id, read.payload), (frame.id, frame.payload));
    });
}

#[test]
fn fuzz_payloads() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = (
            Hello::read(bytes),
            AgentHello::read(bytes),
            Disconnect::read(bytes),
        );
        let _ = Answer::read(bytes);
        let mut messages = Messages::new(bytes);
        while let Ok(Some((message, mut arguments))) = messages.read_next() {
            let mut count = 0;
            while let Ok(Some(argument)) = arguments.read_next() {
                let mut written = Vec::new();
                Writer(&mut written).value(argument.value);
                assert_eq!(Reader::new(&written).value(), Ok(argument.value));
                count += 1;
            }
            assert!(count <= message.count);
            if count < message.count {
                break;
            }
        }
    });
}

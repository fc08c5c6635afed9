//! The bytes of every example of the protocol.

use std::net::{Ipv4Addr, Ipv6Addr};
use tollgate_haproxy::wire::{
    Action, Actions, AgentHello, Disconnect, Flags, Frame, FrameId, FrameKind, Hello, Malformed,
    Messages, Reader, Scope, Status, Value, Writer, next_frame, put_frame,
};

/// Numbers with their bytes.
const NUMBERS: [(u64, &[u8]); 9] = [
    (0, &[0]),
    (239, &[0xef]),
    (240, &[0xf0, 0x00]),
    (256, &[0xf0, 0x01]),
    (2_287, &[0xff, 0x7f]),
    (2_288, &[0xf0, 0x80, 0x00]),
    (16_380, &[0xfc, 0xf0, 0x06]),
    (264_431, &[0xff, 0xff, 0x7f]),
    (
        u64::MAX,
        &[0xff, 0xf0, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x0e],
    ),
];

const HELLO: &[u8] = b"\x00\x00\x00\x4b\x01\x00\x00\x00\x01\x00\x00\
    \x12supported-versions\x08\x032.0\x0emax-frame-size\x03\xfc\xf0\x06\
    \x0ccapabilities\x08\x0apipelining";

const AGENT_HELLO: &[u8] = b"\x00\x00\x00\x40\x65\x00\x00\x00\x01\x00\x00\
    \x07version\x08\x032.0\x0emax-frame-size\x03\xfc\xf0\x06\x0ccapabilities\x08\x0apipelining";

const NOTIFY: &[u8] = b"\x00\x00\x00\x2a\x03\x00\x00\x00\x01\x01\x01\x06tg-req\x04\
    \x02id\x08\x03r-1\x03src\x06\xc0\x00\x02\x07\x03tls\x01\x03sni\x00";

const ACK: &[u8] = b"\x00\x00\x00\x24\x67\x00\x00\x00\x01\x01\x01\
    \x01\x03\x02\x06action\x08\x04deny\x01\x03\x02\x06status\x04\xf3\x0a";

const DISCONNECT: &[u8] = b"\x00\x00\x00\x22\x66\x00\x00\x00\x01\x00\x00\
    \x0bstatus-code\x03\x00\x07message\x08\x03bye";

/// Checks that `bytes` are one whole frame, and returns it.
fn only_frame(bytes: &[u8]) -> Frame<'_> {
    assert_eq!(next_frame(bytes, 1 << 20), Ok(Some(bytes.len() - 4)));
    let frame = Frame::read(&bytes[4..]).unwrap();
    assert_eq!(frame.flags, Flags::FIN);
    frame
}

fn framed(kind: FrameKind, id: FrameId, put: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, kind, id, put);
    out
}

#[test]
fn numbers() {
    for (number, bytes) in NUMBERS {
        let mut reader = Reader::new(bytes);
        assert_eq!(reader.varint(), Ok(number));
        assert!(reader.is_empty());
        let mut written = Vec::new();
        Writer(&mut written).varint(number);
        assert_eq!(written, bytes, "{number}");
        let short = Reader::new(&bytes[..bytes.len() - 1]).varint();
        assert_eq!(short, Err(Malformed::Truncated));
    }
}

#[test]
fn numbers_of_more_than_ten_bytes_or_64_bits_are_refused() {
    let eleven = [
        0xff, 0xf0, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x00,
    ];
    assert_eq!(Reader::new(&eleven).varint(), Err(Malformed::LongNumber));
    let endless = [0xff; 64];
    assert_eq!(Reader::new(&endless).varint(), Err(Malformed::LongNumber));
    let large = [0xff, 0xf0, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x0f];
    assert_eq!(Reader::new(&large).varint(), Err(Malformed::LongNumber));
}

#[test]
fn typed_data() {
    let address = Ipv6Addr::LOCALHOST;
    let mut localhost = vec![0x07];
    localhost.extend_from_slice(&address.octets());
    let cases: [(Value<'_>, &[u8]); 12] = [
        (Value::Null, &[0x00]),
        (Value::Bool(false), &[0x01]),
        (Value::Bool(true), &[0x11]),
        (Value::Uint32(7), &[0x03, 7]),
        (Value::Int32(7), &[0x02, 7]),
        (Value::Int64(403), &[0x04, 0xf3, 0x0a]),
        (
            Value::Int64(-1),
            b"\x04\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
        ),
        (
            Value::Uint64(u64::MAX),
            b"\x05\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
        ),
        (
            Value::Ipv4(Ipv4Addr::new(192, 0, 2, 7)),
            &[0x06, 192, 0, 2, 7],
        ),
        (Value::Ipv6(address), &localhost),
        (Value::String(b"r-\xff"), b"\x08\x03r-\xff"),
        (Value::Binary(b""), b"\x09\x00"),
    ];
    for (value, bytes) in cases {
        let mut reader = Reader::new(bytes);
        assert_eq!(reader.value(), Ok(value));
        assert!(reader.is_empty());
        let mut written = Vec::new();
        Writer(&mut written).value(value);
        assert_eq!(written, bytes);
        for len in 0..bytes.len() {
            let short = Reader::new(&bytes[..len]).value();
            assert_eq!(short, Err(Malformed::Truncated), "{value:?} {len}");
        }
    }
    for tag in 0x0a..=0x0f {
        let bytes = [tag, 0];
        assert_eq!(
            Reader::new(&bytes).value(),
            Err(Malformed::UnknownType(tag))
        );
    }
    // −1 of 32 bits, as 32 and as 64 bits.
    let mut short = vec![0x02];
    Writer(&mut short).varint(u32::MAX.into());
    assert_eq!(Reader::new(&short).value(), Ok(Value::Int32(-1)));
    let long = b"\x02\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e";
    assert_eq!(Reader::new(long).value(), Ok(Value::Int32(-1)));
    let mut large = vec![0x03];
    Writer(&mut large).varint(1 << 32);
    assert_eq!(Reader::new(&large).value(), Err(Malformed::OutOfRange));
}

#[test]
fn hello() {
    let frame = only_frame(HELLO);
    assert_eq!(
        (frame.kind, frame.id),
        (FrameKind::HaproxyHello, FrameId::default())
    );
    let hello = Hello::read(frame.payload).unwrap();
    assert_eq!(
        (hello.max_frame_size, hello.capabilities),
        (16_380, &b"pipelining"[..])
    );
    assert!(!hello.is_health_check && hello.engine_id.is_none());
    let written = framed(FrameKind::HaproxyHello, FrameId::default(), |out| {
        hello.write(out);
    });
    assert_eq!(written, HELLO);

    let hello = AgentHello {
        max_frame_size: 16_380,
    };
    let written = framed(FrameKind::AgentHello, FrameId::default(), |out| {
        hello.write(out);
    });
    assert_eq!(written, AGENT_HELLO);
    assert_eq!(AgentHello::read(only_frame(AGENT_HELLO).payload), Ok(hello));
}

/// Writes the payload of a hello with these values.
fn pairs(pairs: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in pairs {
        Writer(&mut payload).pair(name, *value);
    }
    payload
}

#[test]
fn hello_is_refused_with_the_status_of_the_fault() {
    let versions = ("supported-versions", Value::from("1.5, 2.0"));
    let size = ("max-frame-size", Value::Uint32(256));
    let capabilities = ("capabilities", Value::from(""));
    let other = ("tune", Value::Null);
    assert!(Hello::read(&pairs(&[capabilities, other, size, versions])).is_ok());
    let cases: [(&[(&str, Value<'_>)], Status); 8] = [
        (&[size, capabilities], Status::NoVersion),
        (&[versions, capabilities], Status::NoMaxFrameSize),
        (&[versions, size], Status::NoCapabilities),
        (
            &[
                ("supported-versions", Value::from("1.5,2.00")),
                size,
                capabilities,
            ],
            Status::UnsupportedVersion,
        ),
        (
            &[
                versions,
                ("max-frame-size", Value::Uint32(255)),
                capabilities,
            ],
            Status::BadMaxFrameSize,
        ),
        (
            &[versions, ("max-frame-size", Value::Int64(-1)), capabilities],
            Status::BadMaxFrameSize,
        ),
        (
            &[
                versions,
                ("max-frame-size", Value::from("256")),
                capabilities,
            ],
            Status::NoMaxFrameSize,
        ),
        (&[], Status::NoVersion),
    ];
    for (given, status) in cases {
        assert_eq!(Hello::read(&pairs(given)), Err(status), "{given:?}");
    }
    assert_eq!(Hello::read(b"\x12supp"), Err(Status::InvalidFrame));
}

#[test]
fn question_and_answer() {
    let frame = only_frame(NOTIFY);
    let id = FrameId {
        stream: 1,
        frame: 1,
    };
    assert_eq!((frame.kind, frame.id), (FrameKind::Notify, id));
    let mut messages = Messages::new(frame.payload);
    let (message, mut arguments) = messages.read_next().unwrap().unwrap();
    assert_eq!((message.name, message.count), (&b"tg-req"[..], 4));
    let mut read = Vec::new();
    while let Some(argument) = arguments.read_next().unwrap() {
        read.push((argument.name, argument.value));
    }
    let expected: [(&[u8], Value<'_>); 4] = [
        (b"id", Value::from("r-1")),
        (b"src", Value::Ipv4(Ipv4Addr::new(192, 0, 2, 7))),
        (b"tls", Value::Bool(false)),
        (b"sni", Value::Null),
    ];
    assert_eq!(read, expected);
    assert!(messages.read_next().unwrap().is_none());

    let scope = Scope::Transaction;
    let actions = [
        Action::SetVar {
            scope,
            name: b"action",
            value: Value::from("deny"),
        },
        Action::SetVar {
            scope,
            name: b"status",
            value: Value::Int64(403),
        },
    ];
    let written = framed(FrameKind::Ack, id, |out| {
        actions.iter().for_each(|action| action.write(out));
    });
    assert_eq!(written, ACK);
    let mut read = Actions::new(only_frame(ACK).payload);
    assert_eq!(read.read_next(), Ok(Some(actions[0])));
    assert_eq!(read.read_next(), Ok(Some(actions[1])));
    assert_eq!(read.read_next(), Ok(None));
    let empty = framed(FrameKind::Ack, id, |_| {});
    assert_eq!(empty, b"\x00\x00\x00\x07\x67\x00\x00\x00\x01\x01\x01");
}

#[test]
fn unset_var_and_unknown_actions() {
    let unset = Action::UnsetVar {
        scope: Scope::Process,
        name: b"a",
    };
    let mut payload = Vec::new();
    unset.write(&mut Writer(&mut payload));
    assert_eq!(payload, b"\x02\x02\x00\x01a");
    assert_eq!(Actions::new(&payload).read_next(), Ok(Some(unset)));
    for unknown in [
        &b"\x03\x02\x00\x01a"[..],
        b"\x01\x02\x00\x01a",
        b"\x01\x03\x05\x01a\x00",
    ] {
        assert_eq!(
            Actions::new(unknown).read_next(),
            Err(Malformed::UnknownAction)
        );
    }
}

#[test]
fn disconnect() {
    let frame = only_frame(DISCONNECT);
    let bye = Disconnect {
        code: 0,
        message: b"bye",
    };
    assert_eq!(frame.kind, FrameKind::AgentDisconnect);
    assert_eq!(Disconnect::read(frame.payload), Ok(bye));
    let written = framed(FrameKind::AgentDisconnect, FrameId::default(), |out| {
        bye.write(out);
    });
    assert_eq!(written, DISCONNECT);
}

#[test]
fn frames_are_refused_by_their_length_alone() {
    assert_eq!(next_frame(&[0xff; 4], 1 << 20), Err(Status::FrameTooBig));
    assert_eq!(next_frame(&[0; 4], 1 << 20), Err(Status::InvalidFrame));
    assert_eq!(next_frame(&[0, 0, 0, 9, 1], 1 << 20), Ok(None));
    assert_eq!(next_frame(&[0, 0, 0], 1 << 20), Ok(None));
    assert!(Frame::read(&[3, 0, 0, 0, 1, 0xf0]).is_err());
}

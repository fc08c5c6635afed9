//! Values in MessagePack, in the forms that encoders choose among: as settings, which may have any,
//! as fields that a decoder skips, and as text and bodies.

use serde_json::{Value, json};
use tollgate::codec::{Decoder, IncomingEvent};
use tollgate::error::DecodeErrorKind;
use tollgate::{Bytes, Encoding, EventType};

/// Decodes the value as a setting.
fn setting(value: &[u8]) -> Result<Value, DecodeErrorKind> {
    let message = [b"\x81\xa1k", value].concat();
    let read = Decoder::new(Encoding::MessagePack).decode_event(
        EventType::Configure,
        message.as_slice().into(),
        |event| match event {
            IncomingEvent::Configure(event) => event.settings["k"].clone(),
            other => panic!("{other:?}"),
        },
    );
    read.map_err(|undecodable| undecodable.error.kind())
}

/// Decodes a chunk of a body with this value as its data, behind `skipped`, a field that no decoder
/// knows.
fn chunk(skipped: &[u8], data: &[u8]) -> Result<(Bytes, *const u8), DecodeErrorKind> {
    let known = b"\xaecorrelation_id\xa1a\xa7is_last\xc3\xa4data";
    let message = [b"\x84\xa1x", skipped, known, data].concat();
    let read = Decoder::new(Encoding::MessagePack).decode_event(
        EventType::RequestBodyChunk,
        message.as_slice().into(),
        |event| match event {
            IncomingEvent::RequestBodyChunk(chunk) => {
                (chunk.data.clone(), chunk.correlation_id.as_ptr())
            }
            other => panic!("{other:?}"),
        },
    );
    read.map_err(|undecodable| undecodable.error.kind())
}

#[test]
fn integers_of_every_width_are_read() {
    for (bytes, value) in [
        (&[0x7f][..], json!(127)),
        (&[0xe0], json!(-32)),
        (&[0xcc, 0xff], json!(255)),
        (&[0xcd, 0x01, 0x00], json!(256)),
        (&[0xce, 0xff, 0xff, 0xff, 0xff], json!(u32::MAX)),
        (
            &[0xcf, 255, 255, 255, 255, 255, 255, 255, 255],
            json!(u64::MAX),
        ),
        (&[0xd0, 0x80], json!(-128)),
        (&[0xd1, 0x80, 0x00], json!(-32768)),
        (&[0xd2, 0x80, 0, 0, 0], json!(i32::MIN)),
        (&[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0], json!(i64::MIN)),
    ] {
        assert_eq!(setting(bytes), Ok(value));
    }
}

#[test]
fn invalid_utf8_is_rejected() {
    assert_eq!(setting(b"\xa3abc"), Ok(json!("abc")));
    let text = b"\xa6a\xc3\xa9\xe2\x82\xac";
    assert_eq!(setting(text), Ok(json!("a\u{e9}\u{20ac}")));
    for invalid in [&b"\xa1\x80"[..], b"\xa2a\xff", b"\xa2\xc3("] {
        assert_eq!(setting(invalid), Err(DecodeErrorKind::NotUtf8));
    }
}

#[test]
fn null_is_distinguished_from_every_other_marker() {
    // A list that is null counts as empty. This is the `request_headers` of an answer.
    let answer = b"\x83\xa7version\x02\xa8decision\xa5allow\xafrequest_headers";
    let read = |first: &[u8]| {
        let message = [&answer[..], first].concat();
        let read = Decoder::new(Encoding::MessagePack)
            .decode_answer(message.as_slice().into(), |answer| answer.response);
        read.map_err(|undecodable| undecodable.error.kind())
    };
    assert_eq!(read(&[]), Err(DecodeErrorKind::CutShort));
    for first in 0..=255_u8 {
        match first {
            0xc0 | 0x90 => assert!(read(&[first]).is_ok(), "{first:#x}"),
            0xc1 => assert_eq!(read(&[first]), Err(DecodeErrorKind::Syntax)),
            _ => assert!(read(&[first]).is_err(), "{first:#x}"),
        }
    }
}

#[test]
fn skipping_does_not_recurse() {
    let mut deep = vec![0x91; 1_000_000];
    deep.push(0xc0);
    assert!(chunk(&deep, b"\xa0").is_ok());
}

#[test]
fn every_marker_except_the_reserved_one_is_skipped() {
    for marker in 0..=255_u8 {
        let mut bytes = vec![marker];
        bytes.extend([0; 32]);
        let pad = setting_behind(&bytes);
        assert_eq!(pad, marker == 0xc1, "marker {marker:#x}");
    }
}

/// Returns whether decoding fails with a syntax error at a value that is skipped. Other errors are
/// those of the bytes after it.
fn setting_behind(skipped: &[u8]) -> bool {
    chunk(skipped, b"\xa0") == Err(DecodeErrorKind::Syntax)
}

#[test]
fn lengths_beyond_the_payload_are_rejected() {
    for bytes in [
        &[0xdf, 0xff, 0xff, 0xff, 0xff][..],
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0xc6, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(setting(bytes), Err(DecodeErrorKind::CutShort));
        assert!(chunk(bytes, b"\xa0").is_err());
        assert!(chunk(b"\xc0", bytes).is_err());
    }
}

#[test]
fn body_is_a_slice_of_the_message_or_decoded_base64() {
    let (data, correlation_id) = chunk(b"\xc0", b"\xc4\x03abc").unwrap();
    assert_eq!(data, "abc");
    let distance = b"a\xa7is_last\xc3\xa4data\xc4\x03".len();
    assert_eq!(data.as_ptr(), correlation_id.wrapping_add(distance));
    assert_eq!(chunk(b"\xc0", b"\xa4YWJj").unwrap().0, "abc");
    let invalid = chunk(b"\xc0", b"\xa4????").unwrap_err();
    assert_eq!(invalid, DecodeErrorKind::NotBase64);
}

#[test]
fn nested_values_count_towards_the_limit() {
    let ones = |lists: u8| {
        let list = [&[0xdc, 0x27, 0x10][..], &[1; 10_000]].concat();
        [&[0x90 | lists][..], &list.repeat(lists.into())].concat()
    };
    // Nine lists of 10,000 ones each: fewer than 100,000 values, including all the lists.
    assert!(setting(&ones(9)).is_ok());
    assert_eq!(setting(&ones(10)), Err(DecodeErrorKind::TooMany));
}

#[test]
fn bare_allow_is_what_agents_send() {
    use crate::owned_event::{Encoded, call, decode_answer};
    use tollgate::{AgentResponse, codec::Codec};

    let allow = b"\x82\xa7version\x02\xa8decision\xa5allow";
    let response = AgentResponse::default_allow();
    let codec = Codec::extended(Encoding::MessagePack);
    let written = Encoded::answer(&response, codec, call("a")).joined();
    assert!(written.ends_with(allow));
    let read = decode_answer(Encoding::MessagePack, allow);
    assert_eq!(read, Ok((None, response)));
}

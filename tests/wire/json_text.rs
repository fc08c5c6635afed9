//! JSON text: what is accepted, and what is written.

use crate::owned_event::OwnedEvent;
use serde_json::{Value, json};
use tollgate::bench::json_value;
use tollgate::codec::{Codec, Decoder};
use tollgate::error::DecodeErrorKind;
use tollgate::{Encoding, EventType};

fn read(text: impl AsRef<[u8]>) -> Result<Value, DecodeErrorKind> {
    json_value(&mut text.as_ref().to_vec())
}

#[test]
fn unknown_fields_are_skipped_with_their_values() {
    let text = br#"{"x":[{"a":[1,{"b":[]},"x"],"c":{}},[[],[[2]]]],
        "correlation_id":"a","y":{"z":{}},"status":200,"headers":{}}"#;
    let event = OwnedEvent::from_payload(EventType::ResponseHeaders, Encoding::Json, text);
    assert!(
        matches!(&event, Ok(OwnedEvent::ResponseHeaders(event)) if event.status == 200),
        "{event:?}"
    );
}

#[test]
fn invalid_json_is_an_error() {
    for text in [
        "",
        " ",
        "{",
        "[1,",
        "nul",
        "{\"a\" 1}",
        "\"\\ud800\"",
        "01",
        "1 2",
        "\u{1}",
    ] {
        assert!(read(text).is_err(), "{text:?} was accepted");
    }
    assert_eq!(read(b"\"\xff\""), Err(DecodeErrorKind::NotUtf8));
    assert!(read("[".repeat(1_000_000)).is_err());
}

#[test]
fn lone_surrogates_are_rejected() {
    for text in [
        r#""\ud83e\udd80""#,
        r#""\\ud800""#,
        r#""\n\u00e9\\""#,
        r#""\\\ud83e\udd80\n""#,
    ] {
        assert_eq!(
            read(text).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
    }
    for text in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud83ex\udd80""#,
        r#""\ud83e\n\udd80""#,
        r#""\ud83e\ud83e\udd80""#,
        r#""\\\udc00""#,
        r#"["\ud83e","\udd80"]"#,
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn malformed_long_numbers_are_found_at_any_offset() {
    for blanks in 0..40 {
        for (number, is_malformed) in [
            ("1000000000000000000", false),
            ("1000000000000000000x", true),
            ("-1000000000000000000;null", true),
            ("1.00000000000000000000x", true),
            ("1.00000000000000000000e5", false),
            ("1000000000000000000-", true),
            ("1.00000000000000000000.5", true),
            (r#""1000000000000000000x""#, false),
            (r#""1000000000000000000""#, false),
            (r#""a", "GA1.1.1000000000.1000000000""#, false),
            (r#""\"", "1.00000000000000000000.5x""#, false),
            (r#""\\", 1.00000000000000000000.5"#, true),
            (r#""1000000000000000000x", 1000000000000000000x"#, true),
        ] {
            let json = format!("{}[{number}]", " ".repeat(blanks));
            assert_eq!(read(&json).is_err(), is_malformed, "{json}");
        }
    }
}

#[test]
fn decoder_is_reusable_after_an_error() {
    let mut decoder = Decoder::new(Encoding::Json);
    let mut decode = |text: &[u8]| {
        decoder.decode_event(EventType::Configure, text.into(), |event| {
            event.correlation_id().to_owned()
        })
    };
    assert!(decode(b"{").is_err());
    assert_eq!(decode(br#"{"correlation_id":"a\nb"}"#).unwrap(), "a\nb");
}

#[test]
fn settings_are_written_as_serde_json_reads_them() {
    let every_kind: String = (0..0x250_u32).filter_map(char::from_u32).collect();
    let settings = json!({"a": [1, {}, -1], "b": null, "c": 1.0, "d": [[], true], "e": every_kind});
    let Value::Object(settings) = settings else {
        unreachable!("an object")
    };
    let event = OwnedEvent::Configure("id".to_owned(), settings.clone());
    let written = event.payload(Codec::zentinel(Encoding::Json));
    let mut read: serde_json::Map<String, Value> = serde_json::from_slice(&written).unwrap();
    assert_eq!(read.remove("correlation_id"), Some(json!("id")));
    assert_eq!(read, settings);
}

//! Free-form JSON is an error, or exactly what serde_json says it is.

use super::strategies::custom_value;
use crate::wire::value;
use crate::wire::{DecodeErrorKind, JsonTape};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

fn ours(text: &[u8]) -> Result<Value, DecodeErrorKind> {
    let mut tape = JsonTape::default();
    let mut text = text.to_vec();
    let document = tape.open(&mut text)?;
    value::read(&mut document.reader(), &mut value::Budget::new())
}

/// Whether both say the same. A negative zero is written as an integer but only serde_json makes a fraction of
/// it.
fn agree(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) if theirs.is_f64() => {
            ours.as_f64() == theirs.as_f64()
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| agree(a, b))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(a, b)| a.0 == b.0 && agree(a.1, b.1))
        }
        (ours, theirs) => ours == theirs,
    }
}

fn never_differs(text: &[u8]) {
    if let Ok(ours) = ours(text) {
        let theirs = serde_json::from_slice::<Value>(text);
        let same = theirs.as_ref().is_ok_and(|theirs| agree(&ours, theirs));
        let shown = String::from_utf8_lossy(text);
        assert!(same, "{shown}: {ours} here, {theirs:?} there");
    }
}

const TAKEN: &[&[u8]] = &[
    b"-0",
    b"1.0",
    b"-1.5e-3",
    b"18446744073709551615",
    b"-9223372036854775808",
    b"1e308",
    b"5e-324",
    br#"{"a":1,"a":1}"#,
    br#""\ud83e\udd80""#,
    br#""\u0000\b\f\/""#,
    b" \t\r\n[ ] ",
    b"\"\x7f\"",
];

const REFUSED: &[&[u8]] = &[
    b"",
    b" ",
    b"1e400",
    b"-",
    b"+1",
    b"01",
    b"-01",
    b"1.",
    b".5",
    b"1e",
    b"0x10",
    b"NaN",
    b"Infinity",
    b"nullx",
    b"truefalse",
    b"[1,]",
    b"[,1]",
    b"{\"a\":1,}",
    b"{\"a\"}",
    b"{1:2}",
    b"{} {}",
    b"[] x",
    b"1 2",
    b"[1000000000000000000;null]",
    b"{\"a\":-1000000000000000000x}",
    b"[1.00000000000000000000x]",
    b"'a'",
    b"\xef\xbb\xbf{}",
    b"\"\xff\"",
    b"\"\xc0\x80\"",
    b"\"\xed\xa0\x80\"",
    b"\"\x01\"",
    b"\"\n\"",
    b"\"\\x\"",
    b"\"\\u12\"",
    b"\"\\ud800\"",
    b"\"\\udc00\\ud800\"",
    b"[1",
    b"\"a",
    br#"{"a":1,"a":2}"#,
    b"\x00",
    b"{}\x00",
];

#[test]
fn what_is_odd_but_allowed_is_taken() {
    for text in TAKEN {
        let shown = String::from_utf8_lossy(text);
        assert!(ours(text).is_ok(), "{shown}");
        never_differs(text);
    }
}

#[test]
fn what_is_wrong_is_refused() {
    for text in REFUSED {
        let shown = String::from_utf8_lossy(text);
        assert!(ours(text).is_err(), "{shown}");
    }
}

#[test]
fn no_byte_in_any_place_makes_a_difference() {
    let long = "1".repeat(19);
    let fraction = format!("1.{}", "0".repeat(20));
    for before in [
        "", "0", "7", "1.5", "1e5", "true", "null", "\"a\"", "{}", &long, &fraction,
    ] {
        for after in ["", "2", "x", "null", ",1", "\"b\""] {
            for byte in 0..=255_u8 {
                let text = [b"[", before.as_bytes(), &[byte], after.as_bytes(), b"]"].concat();
                never_differs(&text);
            }
        }
    }
}

/// serde_json makes a fraction of integers beyond 64 bits.
#[test]
fn integers_beyond_64_bits_are_refused_or_the_same() {
    for text in ["18446744073709551616", "-9223372036854775809", "1e20"] {
        never_differs(text.as_bytes());
    }
}

#[test]
fn values_may_be_nested_as_deep_as_serde_json_lets_them() {
    for depth in 120..135 {
        let text = [b"[".repeat(depth), b"]".repeat(depth)].concat();
        never_differs(&text);
    }
}

/// Pieces of JSON, which make JSON now and then.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"a\":",
        "null",
        "true",
        "0",
        "-",
        "1",
        ".",
        "e",
        "9999999999",
        " ",
        "\n",
        "\\",
        "\\u",
        "d83e",
        "udd80",
        "\\\"",
        "\u{1}",
        "\u{e9}",
    ]);
    vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_of_json_never_differ(text in pieces()) {
        never_differs(&text);
    }

    #[test]
    fn damaged_json_never_differs(
        value in custom_value(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut text = value.to_string().into_bytes();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        never_differs(&text);
    }
}

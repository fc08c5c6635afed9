//! Comparison with serde_json: free-form JSON is rejected, or decodes to the same value.

use crate::strategies::custom_value;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use tollgate::bench::json_value;
use tollgate::error::DecodeErrorKind;

fn decode(text: &[u8]) -> Result<Value, DecodeErrorKind> {
    json_value(&mut text.to_vec())
}

/// Returns whether two values are equal.
///
/// Numbers are compared by value: serde_json decodes `-0` as a float, this crate as an integer.
fn are_equal(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) if theirs.is_f64() => {
            ours.as_f64() == theirs.as_f64()
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| are_equal(a, b))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(a, b)| a.0 == b.0 && are_equal(a.1, b.1))
        }
        (ours, theirs) => ours == theirs,
    }
}

/// Fails if this crate accepts a text that serde_json rejects or decodes to another value.
fn assert_same_as_serde_json(text: &[u8]) {
    if let Ok(ours) = decode(text) {
        let theirs = serde_json::from_slice::<Value>(text);
        let is_same = theirs.as_ref().is_ok_and(|theirs| are_equal(&ours, theirs));
        let shown = String::from_utf8_lossy(text);
        assert!(is_same, "{shown}: {ours}, but serde_json: {theirs:?}");
    }
}

const ACCEPTED: &[&[u8]] = &[
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

const REJECTED: &[&[u8]] = &[
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
fn unusual_but_valid_json_is_accepted() {
    for text in ACCEPTED {
        let shown = String::from_utf8_lossy(text);
        assert!(decode(text).is_ok(), "{shown}");
        assert_same_as_serde_json(text);
    }
}

#[test]
fn invalid_json_is_rejected() {
    for text in REJECTED {
        let shown = String::from_utf8_lossy(text);
        assert!(decode(text).is_err(), "{shown}");
    }
}

#[test]
fn any_byte_between_tokens_is_treated_alike() {
    let long = "1".repeat(19);
    let fraction = format!("1.{}", "0".repeat(20));
    for before in [
        "", "0", "7", "1.5", "1e5", "true", "null", "\"a\"", "{}", &long, &fraction,
    ] {
        for after in ["", "2", "x", "null", ",1", "\"b\""] {
            for byte in 0..=255_u8 {
                let text = [b"[", before.as_bytes(), &[byte], after.as_bytes(), b"]"].concat();
                assert_same_as_serde_json(&text);
            }
        }
    }
}

/// serde_json decodes integers beyond 64 bits as floats.
#[test]
fn integers_beyond_64_bits_are_rejected_or_equal() {
    for text in ["18446744073709551616", "-9223372036854775809", "1e20"] {
        assert_same_as_serde_json(text.as_bytes());
    }
}

#[test]
fn nesting_limit_is_that_of_serde_json() {
    for depth in 120..135 {
        let text = [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert_same_as_serde_json(&text);
    }
}

/// Generates sequences of JSON tokens, some of which are valid JSON.
fn tokens() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
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
    vec(token, 0..12).prop_map(|tokens| tokens.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_tokens_are_treated_alike(text in tokens()) {
        assert_same_as_serde_json(&text);
    }

    #[test]
    fn damaged_json_is_treated_alike(
        value in custom_value(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut text = value.to_string().into_bytes();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        assert_same_as_serde_json(&text);
    }
}

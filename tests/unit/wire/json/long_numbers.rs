use super::*;

/// Cookies of Google Analytics have such runs, so the full check must not see them.
#[test]
fn long_runs_in_strings_need_no_full_check() {
    for json in [
        r#"{"cookie":"_ga=GA1.1.1234567890.1234567890"}"#,
        r#"{"a\"b":"\\","c":"\\\"1.0000000000000000000000000000x"}"#,
    ] {
        assert!(serde_json::from_str::<IgnoredAny>(json).is_ok());
        assert!(!may_have_malformed_number(json.as_bytes()), "{json}");
    }
}

use super::*;

#[test]
fn only_equal_tokens_are_valid() {
    let valid = ["first".to_owned(), "second".to_owned()];
    for token in ["first", "second"] {
        assert!(is_valid(token, &valid));
    }
    for token in [
        "",
        "firs",
        "first\0",
        "First",
        "firstsecond",
        &"f".repeat(600),
    ] {
        assert!(!is_valid(token, &valid), "{token:?}");
    }
    assert!(!is_valid("", &[]));
}

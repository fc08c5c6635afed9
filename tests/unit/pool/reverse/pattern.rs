use super::*;

#[test]
fn star_matches_any_text() {
    for (pattern, text) in [
        ("waf", "waf"),
        ("*", ""),
        ("*", "waf"),
        ("waf-*", "waf-"),
        ("waf-*", "waf-7"),
        ("*-eu", "waf-eu"),
        ("a*b*c", "abbc"),
        ("a*b*c", "a-b-b-c"),
        ("a**b", "ab"),
    ] {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [
        ("", "waf"),
        ("waf", "waf2"),
        ("waf", "Waf"),
        ("waf-*", "waf"),
        ("*-eu", "waf-eu2"),
        ("aba*aba", "aba"),
        ("a*b*c", "acb"),
        ("?af", "waf"),
    ] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}

use super::*;

#[test]
fn long_text_is_cut_at_a_character() {
    assert_eq!(cut("abc", 3), "abc");
    assert_eq!(cut("abcd", 3), "abc\u{2026}");
    assert_eq!(cut("\u{e4}\u{e4}", 3), "\u{e4}\u{2026}");
    assert_eq!(cut("a\n", 2), "a\u{2026}");
}

#[test]
fn formatting_stops_at_the_limit() {
    struct Endless;
    impl Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("endless ")?;
            }
        }
    }
    assert_eq!(cut(Endless, 10).len(), 10 + '\u{2026}'.len_utf8());
}

#[test]
fn deceptive_characters_are_escaped() {
    for (text, escaped) in [
        ("a\r\nb", "a\\r\\nb"),
        ("\u{1b}[2J\u{9b}", "\\u{1b}[2J\\u{9b}"),
        ("waf\u{202e}fed", "waf\\u{202e}fed"),
        ("\u{2066}\u{200f}\u{61c}", "\\u{2066}\\u{200f}\\u{61c}"),
        ("line\u{2028}", "line\\u{2028}"),
        ("\u{feff}\u{200b}\u{e0041}", "\\u{feff}\\u{200b}\\u{e0041}"),
        ("na\u{ef}ve \u{65e5}\u{672c}", "na\u{ef}ve \u{65e5}\u{672c}"),
    ] {
        assert_eq!(cut(text, 100), escaped);
    }
}

/// Whether a text fits a pattern, in which `*` stands for any text, also for none.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, mut rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    while let Some((piece, later)) = rest.split_once('*') {
        // The first place that a piece is found at leaves most to the pieces behind it.
        let Some(at) = text.find(piece) else {
            return false;
        };
        text = &text[at + piece.len()..];
        rest = later;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
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
            assert!(fits(pattern, text), "{pattern} {text}");
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
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}

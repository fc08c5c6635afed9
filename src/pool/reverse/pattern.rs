/// Returns whether a text matches a pattern, in which `*` matches any text, including none.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, mut rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    while let Some((piece, later)) = rest.split_once('*') {
        // The leftmost match leaves the most text for the remaining pieces.
        let Some(at) = text.find(piece) else {
            return false;
        };
        text = &text[at + piece.len()..];
        rest = later;
    }
    text.ends_with(rest)
}

#[cfg(test)]
#[path = "../../../tests/unit/pool/reverse/pattern.rs"]
mod tests;

//! Text of arguments, which need not be UTF-8.

use std::borrow::Cow;
use tollgate::headers::FieldValue;

/// Returns bytes as text. What is not UTF-8 is read as ISO-8859-1, as values of headers are.
pub(super) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    FieldValue::Bytes(bytes).to_text()
}

/// Appends a part of a URI. Bytes beyond ASCII of a part that is not UTF-8 are percent-encoded,
/// which means the same.
pub(super) fn push_uri(out: &mut String, part: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if let Cow::Borrowed(text) = text_of(part) {
        return out.push_str(text);
    }
    for &byte in part {
        if byte.is_ascii() {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

//! Header values.

use crate::protocol::text;
use std::borrow::Cow;

/// A value of a header.
///
/// HTTP allows bytes in header values that are not UTF-8 (RFC 9110, section 5.5), but the agent
/// protocol carries text. A value that is UTF-8 is sent unchanged. In any other value each byte is
/// sent as the character with that number, as in ISO-8859-1. No byte is lost; [`bytes_of_latin1`]
/// converts back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// A value that is UTF-8.
    Text(&'a str),
    /// A value that need not be UTF-8.
    Bytes(&'a [u8]),
}

impl<'a> FieldValue<'a> {
    /// Returns the value as agents receive it. Allocates only if it is not UTF-8.
    ///
    /// ```
    /// use tollgate::headers::FieldValue;
    ///
    /// assert_eq!(FieldValue::Text("caf\u{e9}").to_text(), "caf\u{e9}");
    /// assert_eq!(FieldValue::Bytes(b"caf\xe9").to_text(), "caf\u{e9}");
    /// ```
    #[inline]
    pub fn to_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bytes(bytes) => text::from_utf8(bytes).map_or_else(
                |_| Cow::Owned(bytes.iter().copied().map(char::from).collect()),
                Cow::Borrowed,
            ),
        }
    }

    /// Returns the bytes of the value in the HTTP message.
    pub const fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

/// Returns the bytes of a header value that was not UTF-8, from the text that an agent received:
/// each character is one byte. `None` if the text holds a character above U+00FF, so that it cannot
/// come from such a value.
///
/// The text alone does not show whether the value was UTF-8. For a value of ASCII characters the
/// result is the same either way.
///
/// ```
/// use tollgate::headers::bytes_of_latin1;
///
/// assert_eq!(bytes_of_latin1("caf\u{e9}").as_deref(), Some(&b"caf\xe9"[..]));
/// assert_eq!(bytes_of_latin1("\u{20ac}"), None);
/// ```
pub fn bytes_of_latin1(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect()
}

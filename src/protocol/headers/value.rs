use crate::protocol::text;
use std::borrow::Cow;

/// One value of a header.
///
/// HTTP allows bytes in header values that are no UTF-8 (RFC 9110, section 5.5), the wire carries text. A
/// value that is UTF-8 goes as it is. Of any other, each byte goes as the character of that number, which is
/// how ISO-8859-1 reads it: nothing is dropped or replaced, and [`bytes_of_latin1`] gives the bytes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// The usual case.
    Text(&'a str),
    /// Bytes that need not be UTF-8.
    Bytes(&'a [u8]),
}

impl<'a> FieldValue<'a> {
    /// The value as agents get it. Allocates only if it is not UTF-8.
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

    /// The value as it stands in the header.
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

/// The bytes of a header value that was not UTF-8, from the text that an agent got: each character is one
/// byte. `None` if that cannot be how the text came about.
///
/// Text alone does not tell whether a value was UTF-8 or not; a value with nothing but ASCII is the same
/// either way.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_byte_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let value = FieldValue::Bytes(&bytes);
            let text = value.to_text();
            match std::str::from_utf8(&bytes) {
                Ok(utf8) => prop_assert_eq!(text, utf8),
                Err(_) => prop_assert_eq!(bytes_of_latin1(&text), Some(bytes.clone())),
            }
        }
    }
}

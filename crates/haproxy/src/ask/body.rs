//! The part of a request body that a message shows.

use super::arguments::Known;
use std::str;

/// The body of a request, as far as a message shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// The request has no body.
    None,
    /// The message does not say whether there is a body.
    Unknown,
    /// All of the body.
    Whole(&'a [u8]),
    /// The beginning of a body, or nothing of it.
    Part(&'a [u8]),
}

impl<'a> Body<'a> {
    /// Returns what a message shows of a body.
    pub(super) fn of(known: &Known<'a>) -> Self {
        // HAProxy counts what is in its buffer. Of a body with a length it knows the size as well.
        // Over HTTP/2 it counts less than the header says, so the larger one holds.
        let size = known.body_size.max(content_length(known));
        let len = known.body_len;
        let Some(shown) = known.body else {
            return match (len, size) {
                (None, None) if is_bodiless(known) => Self::None,
                (None, None) if has_coding(known) => Self::Part(b""),
                (None, None) => Self::Unknown,
                _ if len.unwrap_or(0) == 0 && size.unwrap_or(0) == 0 => Self::None,
                _ => Self::Part(b""),
            };
        };
        if shown.is_empty() && len.is_none() && size.is_none() && is_bodiless(known) {
            return Self::None;
        }
        let shown_len = shown.len() as u64;
        let is_whole = size.is_some_and(|size| shown_len.min(len.unwrap_or(shown_len)) >= size)
            && len.is_none_or(|len| shown_len >= len);
        match (is_whole, shown.is_empty()) {
            (true, true) => Self::None,
            (true, false) => Self::Whole(shown),
            (false, _) => Self::Part(shown),
        }
    }

    /// Returns whether there is a body, if that is known.
    pub(super) const fn follows(self) -> Option<bool> {
        match self {
            Self::None => Some(false),
            Self::Unknown => None,
            Self::Whole(_) | Self::Part(_) => Some(true),
        }
    }
}

fn content_length(known: &Known<'_>) -> Option<u64> {
    let value = known.headers.as_ref()?.content_length?;
    let length = str::from_utf8(value).ok();
    // One that is no number is longer than any body.
    Some(
        length
            .and_then(|length| length.trim().parse().ok())
            .unwrap_or(u64::MAX),
    )
}

/// Returns whether the headers are known and tell of no body.
fn is_bodiless(known: &Known<'_>) -> bool {
    known.headers.is_some() && content_length(known).is_none() && !has_coding(known)
}

/// Returns whether the body has a length that no header tells.
fn has_coding(known: &Known<'_>) -> bool {
    let headers = known.headers.as_ref();
    headers.is_some_and(|headers| headers.has_transfer_coding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::headers::HeaderList;

    fn shown(body: Option<&'static [u8]>, len: Option<u64>, size: Option<u64>) -> Body<'static> {
        Body::of(&Known {
            body,
            body_len: len,
            body_size: size,
            ..Known::default()
        })
    }

    #[test]
    fn body_is_whole_if_it_has_its_size() {
        assert_eq!(shown(Some(b"abc"), Some(3), Some(3)), Body::Whole(b"abc"));
        assert_eq!(shown(Some(b"abc"), None, Some(3)), Body::Whole(b"abc"));
        assert_eq!(shown(Some(b""), Some(0), Some(0)), Body::None);
        assert_eq!(shown(None, Some(0), Some(0)), Body::None);
    }

    #[test]
    fn cut_body_is_known() {
        assert_eq!(shown(Some(b"abc"), Some(3), Some(4)), Body::Part(b"abc"));
        assert_eq!(shown(Some(b"abc"), Some(4), Some(4)), Body::Part(b"abc"));
        assert_eq!(shown(Some(b"abc"), None, None), Body::Part(b"abc"));
        assert_eq!(shown(None, Some(40_000), Some(40_000)), Body::Part(b""));
        assert_eq!(shown(None, None, Some(1)), Body::Part(b""));
    }

    #[test]
    fn header_outweighs_a_smaller_size() {
        let of = |body, len, size| {
            Body::of(&Known {
                headers: HeaderList::of_text(b"content-length: 10\r\n\r\n").ok(),
                body,
                body_len: Some(len),
                body_size: Some(size),
                ..Known::default()
            })
        };
        assert_eq!(of(Some(&b"abcd"[..]), 4, 4), Body::Part(b"abcd"));
        assert_eq!(of(None, 0, 0), Body::Part(b""));
    }

    #[test]
    fn headers_tell_what_the_arguments_do_not() {
        let with = |text: &'static [u8], body| {
            Body::of(&Known {
                headers: HeaderList::of_text(text).ok(),
                body,
                ..Known::default()
            })
        };
        assert_eq!(with(b"\r\n", None), Body::None);
        assert_eq!(with(b"\r\n", Some(b"")), Body::None);
        assert_eq!(with(b"\r\n", Some(b"a")), Body::Part(b"a"));
        assert_eq!(with(b"content-length: 3\r\n\r\n", None), Body::Part(b""));
        assert_eq!(with(b"content-length: x\r\n\r\n", None), Body::Part(b""));
        assert_eq!(
            with(b"content-length: 3\r\n\r\n", Some(b"abc")),
            Body::Whole(b"abc")
        );
        assert_eq!(
            with(b"transfer-encoding: chunked\r\n\r\n", None),
            Body::Part(b"")
        );
        assert_eq!(shown(None, None, None), Body::Unknown);
    }
}

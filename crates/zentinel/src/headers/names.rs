//! Common header names, in lower case.

use std::borrow::Cow;

macro_rules! names {
    ($($constant:ident = $name:literal,)*) => {
        $(
            #[doc = concat!("The header name `", $name, "`.")]
            pub const $constant: &str = $name;
        )*

        const ALL: &[&str] = &[$($constant),*];
    };
}

names! {
    HOST = "host",
    CONTENT_TYPE = "content-type",
    CONTENT_LENGTH = "content-length",
    USER_AGENT = "user-agent",
    ACCEPT = "accept",
    ACCEPT_ENCODING = "accept-encoding",
    ACCEPT_LANGUAGE = "accept-language",
    AUTHORIZATION = "authorization",
    COOKIE = "cookie",
    SET_COOKIE = "set-cookie",
    CACHE_CONTROL = "cache-control",
    CONNECTION = "connection",
    DATE = "date",
    ETAG = "etag",
    IF_MATCH = "if-match",
    IF_NONE_MATCH = "if-none-match",
    IF_MODIFIED_SINCE = "if-modified-since",
    LAST_MODIFIED = "last-modified",
    LOCATION = "location",
    ORIGIN = "origin",
    REFERER = "referer",
    SERVER = "server",
    TRANSFER_ENCODING = "transfer-encoding",
    VARY = "vary",
    X_FORWARDED_FOR = "x-forwarded-for",
    X_FORWARDED_PROTO = "x-forwarded-proto",
    X_FORWARDED_HOST = "x-forwarded-host",
    X_REAL_IP = "x-real-ip",
    X_REQUEST_ID = "x-request-id",
    X_CORRELATION_ID = "x-correlation-id",
    X_TRACE_ID = "x-trace-id",
    X_SPAN_ID = "x-span-id",
}

/// Returns a header name in lower case. A name of this module, in any case, is borrowed and costs
/// no allocation; any other is an owned string.
///
/// ```
/// use std::borrow::Cow;
/// use zentinel_agent_protocol::headers::intern_header_name;
///
/// assert!(matches!(intern_header_name("Content-Type"), Cow::Borrowed("content-type")));
/// assert!(matches!(intern_header_name("X-Mine"), Cow::Owned(name) if name == "x-mine"));
/// ```
pub fn intern_header_name(name: &str) -> Cow<'static, str> {
    match ALL.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_borrowed_in_any_case() {
        for known in ALL {
            for spelling in [(*known).to_owned(), known.to_ascii_uppercase()] {
                let Cow::Borrowed(interned) = intern_header_name(&spelling) else {
                    panic!("{spelling} is not interned");
                };
                assert_eq!(interned, *known);
            }
        }
        assert_eq!(intern_header_name(""), "");
        assert_eq!(intern_header_name("X-\u{c4}"), "x-\u{c4}");
    }
}

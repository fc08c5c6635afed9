//! Pingora's messages, as tollgate reads and changes them.

use http::uri::{Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use std::borrow::Cow;
use std::fmt::Write;
use tollgate::proxy::{BadRequest, HeaderTarget, HeadersFull, RequestHead};

/// Head of a Pingora message. Changes go through Pingora's methods, which keep the original case of
/// header names.
pub(crate) struct Head<'a, H>(pub(crate) &'a mut H);

macro_rules! header_target {
    ($($header:ty),*) => {$(
        impl HeaderTarget for Head<'_, $header> {
            fn headers(&self) -> &HeaderMap {
                &self.0.headers
            }

            fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
                self.0.insert_header(name, value).map_err(|_| HeadersFull)
            }

            fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
                let added = self.0.append_header(name, value);
                added.map(drop).map_err(|_| HeadersFull)
            }

            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }
        }
    )*};
}

header_target!(RequestHeader, ResponseHeader);

impl RequestHead for Head<'_, RequestHeader> {
    fn method(&self) -> &Method {
        &self.0.method
    }

    fn version(&self) -> Version {
        self.0.version
    }

    fn path_and_query(&self) -> Cow<'_, str> {
        // For an absolute URI, the raw path is the URI, and Pingora's `uri` has the path only.
        if self.authority().is_some() {
            let target = self.0.uri.path_and_query();
            return Cow::Borrowed(target.map_or("", |target| target.as_str()));
        }
        let raw = self.0.raw_path();
        str::from_utf8(raw).map_or_else(|_| Cow::Owned(percent_encoded(raw)), Cow::Borrowed)
    }

    fn authority(&self) -> Option<&str> {
        if self.0.method == Method::CONNECT {
            return None;
        }
        if let Some(authority) = self.0.uri.authority() {
            return Some(authority.as_str());
        }
        let (scheme, rest) = str::from_utf8(self.0.raw_path()).ok()?.split_once("://")?;
        Scheme::try_from(scheme).ok()?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        Some(&rest[..end])
    }

    fn set_path_and_query(&mut self, target: &str) -> Result<(), BadRequest> {
        // Unlike Pingora, `Uri` refuses what is no URI at all.
        Uri::try_from(target).map_err(|_| BadRequest::Target)?;
        let set = self.0.set_raw_path(target.as_bytes());
        set.map_err(|_| BadRequest::Target)
    }
}

/// Spells a target that is not UTF-8 as URIs do, so that it is not mistaken for another one.
fn percent_encoded(target: &[u8]) -> String {
    let mut text = String::with_capacity(target.len() + 16);
    for byte in target {
        if byte.is_ascii() {
            text.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &[u8]) -> RequestHeader {
        RequestHeader::build(Method::GET, target, None).unwrap()
    }

    #[test]
    fn targets_are_taken_apart() {
        for (target, authority, path) in [
            (&b"/a?b=://c"[..], None, "/a?b=://c"),
            (b"*", None, "*"),
            (b"http://a.test/b?c", Some("a.test"), "/b?c"),
            (b"HTTP://a.test:80?c", Some("a.test:80"), "/?c"),
            (b"http://a.test", Some("a.test"), "/"),
            (b"/\xe9?\xff", None, "/%E9?%FF"),
        ] {
            let mut header = head(target);
            let head = Head(&mut header);
            assert_eq!(head.authority(), authority, "{target:?}");
            assert_eq!(head.path_and_query(), path, "{target:?}");
        }
    }

    #[test]
    fn target_is_replaced() {
        let mut header = head(b"http://a.test/x/../b");
        Head(&mut header).set_path_and_query("/b").unwrap();
        assert_eq!(header.raw_path(), b"/b");
        assert_eq!(Head(&mut header).authority(), None);
        assert!(Head(&mut header).set_path_and_query("/ b").is_err());
    }
}

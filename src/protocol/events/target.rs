//! The target of a request: the one normal form of its path, its query and its host.

use crate::protocol::headers::{FieldValue, HeaderSource};
use std::borrow::Cow;
use std::fmt::Write;

/// The parts of a request target (RFC 9112, section 3.2), as they are spelled.
pub(super) struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Splits the target of a request with this method.
    pub(super) fn of(method: &str, uri: &'a str) -> Self {
        if !uri.starts_with('/') {
            if let Some((authority, rest)) = split_absolute(uri) {
                let mut target = Self::without_authority(rest);
                if target.path.is_empty() {
                    target.path = "/";
                }
                target.authority = Some(authority);
                return target;
            }
            if method == "CONNECT" {
                return Self {
                    authority: Some(uri),
                    path: "",
                    query: None,
                };
            }
        }
        Self::without_authority(uri)
    }

    fn without_authority(uri: &'a str) -> Self {
        let uri = uri.split_once('#').map_or(uri, |(uri, _)| uri);
        let (path, query) = match uri.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (uri, None),
        };
        Self {
            authority: None,
            path,
            query,
        }
    }

    pub(super) fn path(&self) -> Cow<'a, str> {
        normal_path(self.path)
    }

    pub(super) fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// Returns the host of the target, else that of the header, else the server's name.
    pub(super) fn host(
        &self,
        headers: &'a impl HeaderSource,
        server_name: Option<&'a str>,
    ) -> Option<Cow<'a, str>> {
        if let Some(authority) = self.authority {
            return host_of(authority);
        }
        let mut values = headers
            .grouped()
            .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
            .flat_map(|(_, values)| values);
        match (values.next(), values.next()) {
            (Some(FieldValue::Text(host)), None) => host_of(host),
            (Some(FieldValue::Bytes(host)), None) => host_of(str::from_utf8(host).ok()?),
            (Some(_), Some(_)) => None,
            (None, _) => host_of(server_name?),
        }
    }
}

/// Returns the authority of an absolute URI, and what follows it.
fn split_absolute(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    is_scheme.then(|| rest.split_at(end))
}

/// Returns the host of an authority, in lower case.
fn host_of(authority: &str) -> Option<Cow<'_, str>> {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.split_once(']') {
        Some((address, _)) if host.starts_with('[') => &host[..=address.len()],
        _ => host.split_once(':').map_or(host, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return None;
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(host))
}

/// Returns the normal form of a path without a query, which all its spellings share. Does not
/// allocate if the path has this form already.
///
/// The result begins with `/` and consists of ASCII characters. Only the empty path and `*` stay
/// as they are.
///
/// | spelling | result | example |
/// |---|---|---|
/// | escape of a letter, a digit or one of `-._~` | the character | `/%61dmin` → `/admin` |
/// | escape of anything else, such as `/` and NUL | stays, in upper case | `/a%2fb` → `/a%2Fb` |
/// | character that a path may not contain | its escape | `/a b\é` → `/a%20b%5C%C3%A9` |
/// | `%` that begins no escape | its escape | `/100%` → `/100%25` |
/// | several slashes | one | `//admin` → `/admin` |
/// | `.` and `..`, escaped or not | removed, `..` with the segment before | `/x/%2e%2e/a` → `/a` |
/// | `..` at the root | removed | `/../admin` → `/admin` |
/// | no slash at the beginning | is added | `admin` → `/admin` |
///
/// Slashes are merged before segments are removed, so `/a//../b` is `/b`. Everything is decoded
/// once: `/%2561` stays as it is. These stay different paths: upper and lower case, a trailing
/// slash and none, `%2F` and `/`, a backslash and `/`, an escape and its character for
/// `!$&'()*+,;=:@`, and a segment with and without parameters (`/admin;x`, `/..;/admin`). A server
/// that takes them for the same path needs rules for each.
///
/// ```
/// use tollgate::events::normal_path;
///
/// assert_eq!(normal_path("/x/..//%61dmin/"), "/admin/");
/// assert_eq!(normal_path("/a%2fb;c"), "/a%2Fb;c");
/// ```
pub fn normal_path(path: &str) -> Cow<'_, str> {
    if path.is_empty() || path == "*" || is_normal(path) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(without_dot_segments(&with_normal_escapes(path)))
}

fn is_normal(path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let is_segment = |segment| !matches!(segment, "." | "..") && has_normal_escapes(segment);
    let mut segments = path.split('/');
    // Only the last segment may be empty: the path of a folder ends with a slash.
    segments.next_back().is_some_and(is_segment)
        && segments.all(|segment| !segment.is_empty() && is_segment(segment))
}

fn has_normal_escapes(segment: &str) -> bool {
    let mut rest = segment.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..]) if is_normal_escape(*high, *low) => after,
            _ if is_path_byte(*byte) => after,
            _ => return false,
        };
    }
    true
}

fn is_normal_escape(high: u8, low: u8) -> bool {
    let is_upper = !high.is_ascii_lowercase() && !low.is_ascii_lowercase();
    is_upper && escaped(high, low).is_some_and(|byte| !is_unreserved(byte))
}

/// Returns a path whose equal spellings are equal, except for slashes and dots.
fn with_normal_escapes(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let mut byte = *byte;
        if let (b'%', [high, low, after @ ..]) = (byte, after)
            && let Some(value) = escaped(*high, *low)
        {
            rest = after;
            byte = value;
            if !is_unreserved(byte) {
                push_escape(&mut normal, byte);
                continue;
            }
        }
        if byte == b'/' || is_path_byte(byte) {
            normal.push(char::from(byte));
        } else {
            push_escape(&mut normal, byte);
        }
    }
    normal
}

fn push_escape(path: &mut String, byte: u8) {
    // Writing to a `String` never fails.
    let _ = write!(path, "%{byte:02X}");
}

/// Merges slashes and removes dot segments.
fn without_dot_segments(path: &str) -> String {
    let mut normal = String::with_capacity(path.len() + 1);
    let mut is_folder = false;
    for segment in path.split('/') {
        is_folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => normal.truncate(normal.rfind('/').unwrap_or(0)),
            _ => {
                normal.push('/');
                normal.push_str(segment);
            }
        }
    }
    if is_folder || normal.is_empty() {
        normal.push('/');
    }
    normal
}

/// Returns the byte that an escape of two hexadecimal digits stands for.
fn escaped(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// Returns whether an escape of this byte means the same as the byte (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Returns whether a segment of a path may contain this byte (RFC 3986, section 3.3).
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

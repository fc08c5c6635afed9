//! Heads of requests: one form for every version of HTTP.

use super::header_ops::HeaderTarget;
use crate::events::normal_path;
use http::header::{
    self, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Uri, Version, request::Parts};
use std::borrow::Cow;

/// The head of a request that a proxy forwards: `http::request::Parts`, or a proxy's own type.
pub trait RequestHead: HeaderTarget {
    /// Returns the method.
    fn method(&self) -> &Method;
    /// Returns the version of HTTP that the client speaks.
    fn version(&self) -> Version;
    /// Returns path and query as the client sent them, without scheme and authority. `*` for a
    /// request about the server as a whole, `/` for an absolute URI without them, and nothing for a
    /// target that is an authority only.
    fn path_and_query(&self) -> Cow<'_, str>;
    /// Returns the authority of an absolute URI, or the `:authority` of HTTP/2.
    fn authority(&self) -> Option<&str>;
    /// Replaces the target by a path and query, without scheme and authority.
    ///
    /// # Errors
    ///
    /// Returns an error if this is no valid target.
    fn set_path_and_query(&mut self, target: &str) -> Result<(), BadRequest>;
}

/// Reason why a request is refused with status 400 before agents are asked: servers differ in what
/// they take it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// There are several hosts, or a host that is none.
    #[error("the request has no host, several, or an invalid one")]
    Host,
    /// The end of the body is ambiguous.
    #[error("content-length or transfer-encoding is invalid, or they contradict each other")]
    Framing,
    /// The target of the request is invalid.
    #[error("the target of the request is invalid")]
    Target,
    /// A trusted proxy sent an `x-forwarded-for` that holds something else than IP addresses.
    #[error("x-forwarded-for holds no valid address where the client's is expected")]
    ForwardedFor,
    /// The `connection` header is invalid.
    #[error("the connection header is invalid")]
    Connection,
    /// A request that goes on with the WebSocket protocol has a body. Servers may take its bytes
    /// for frames, or for another request.
    #[error("a request for a WebSocket connection has a body")]
    WebSocketBody,
}

/// Form of the path that agents and the upstream get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PathForm {
    /// Its normal form, see [`normal_path`], so that agents and the upstream take all spellings of
    /// a path for the same.
    #[default]
    Normal,
    /// As the client spelled it. Agents have to compare
    /// [`RequestHeaders::path`](crate::RequestHeaders::path), and the upstream must not take other
    /// spellings for the same path.
    AsReceived,
}

/// Brings the head of a request into the one form that agents see and the upstream gets, whichever
/// version of HTTP the client speaks.
///
/// * The header `host` holds the authority of the request's target if there is one (`:authority` in
///   HTTP/2, an absolute URI in HTTP/1), and the target has origin form.
/// * Several `cookie` headers are joined by `; ` (RFC 9113, section 8.2.3).
/// * Headers that the client names in `connection`, and those of the connection, are removed.
///   Offers of other protocols than WebSocket are removed.
///
/// # Errors
///
/// A [`BadRequest`] for a request that servers understand in different ways.
pub(super) fn normalise(head: &mut impl RequestHead, form: PathForm) -> Result<(), BadRequest> {
    check_framing(head)?;
    settle_length(head)?;
    settle_host(head)?;
    settle_target(head, form)?;
    join_cookies(head);
    remove_connection_headers(head)
}

/// Returns whether a request asks to go on with the WebSocket protocol (RFC 6455, section 4.1).
pub fn is_websocket(head: &impl RequestHead) -> bool {
    let headers = head.headers();
    head.method() == Method::GET
        && head.version() == Version::HTTP_11
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && headers.contains_key(header::SEC_WEBSOCKET_KEY)
        && headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_some_and(|version| version == "13")
}

fn check_framing(head: &impl RequestHead) -> Result<(), BadRequest> {
    let headers = head.headers();
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    let is_plain = is_chunked(headers)
        && !headers.contains_key(CONTENT_LENGTH)
        && head.version() == Version::HTTP_11;
    if is_plain {
        Ok(())
    } else {
        Err(BadRequest::Framing)
    }
}

/// Returns whether `chunked` is the only transfer coding.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_first = codings
        .next()
        .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    is_first && codings.next().is_none()
}

/// Leaves one `content-length` in its usual form. Servers differ in what they take several of them,
/// or an odd form, for.
fn settle_length(head: &mut impl HeaderTarget) -> Result<(), BadRequest> {
    let mut values = head.headers().get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Ok(());
    };
    let digits = first.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadRequest::Framing);
    }
    let mut has_more = false;
    for other in values {
        if other != first {
            return Err(BadRequest::Framing);
        }
        has_more = true;
    }
    if !has_more && (digits == b"0" || !digits.starts_with(b"0")) {
        return Ok(());
    }
    let text = first.to_str().map_err(|_| BadRequest::Framing)?;
    let length: u64 = text.parse().map_err(|_| BadRequest::Framing)?;
    head.set(CONTENT_LENGTH, HeaderValue::from(length))
        .map_err(|_| BadRequest::Framing)
}

fn settle_host(head: &mut impl RequestHead) -> Result<(), BadRequest> {
    let headers = head.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(BadRequest::Host);
    }
    let Some(authority) = head.authority() else {
        return match host {
            Some(host) if is_host(host.as_bytes()) => Ok(()),
            None if head.version() < Version::HTTP_11 => Ok(()),
            _ => Err(BadRequest::Host),
        };
    };
    if !is_host(authority.as_bytes()) {
        return Err(BadRequest::Host);
    }
    if let Some(host) = host {
        if host.as_bytes() == authority.as_bytes() {
            return Ok(());
        }
        // An absolute URI overrides the header (RFC 9112, section 3.2.2). In HTTP/2 both are for
        // the same purpose, and must not contradict each other.
        let is_same = host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
        if head.version() > Version::HTTP_11 && !is_same {
            return Err(BadRequest::Host);
        }
    }
    let value = HeaderValue::from_str(authority).map_err(|_| BadRequest::Host)?;
    head.set(HOST, value).map_err(|_| BadRequest::Host)
}

/// Returns whether this may be a host with or without a port. Rejects what one server takes for the
/// end of the host, and another does not.
fn is_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host.iter().all(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => true,
            other => b"-._~!$&'()*+;=:[]%".contains(other),
        })
}

fn settle_target(head: &mut impl RequestHead, form: PathForm) -> Result<(), BadRequest> {
    if head.method() == Method::CONNECT {
        return Ok(());
    }
    let spelled = head.path_and_query();
    if spelled.is_empty() {
        // Only `CONNECT` has an authority without a scheme as its target.
        return Err(BadRequest::Target);
    }
    let (path, query) = match spelled.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*spelled, None),
    };
    let path = match form {
        PathForm::Normal => normal_path(path),
        PathForm::AsReceived => Cow::Borrowed(path),
    };
    let is_spelled_so = matches!(path, Cow::Borrowed(_)) && !path.is_empty();
    if is_spelled_so && head.authority().is_none() {
        return Ok(());
    }
    let path = if path.is_empty() { "/" } else { &*path };
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    head.set_path_and_query(&target)
}

fn join_cookies(head: &mut impl RequestHead) {
    let mut cookies = head.headers().get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in [second].into_iter().chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    // Joined valid values are valid, and one value takes no more room than several.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        let _ = head.set(COOKIE, joined);
    }
}

/// Headers of the connection. Those that frame the body are the proxy's own matter.
const OF_CONNECTION: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    UPGRADE,
];

/// Headers that a client cannot have removed by naming them in `connection`: without them the
/// request would be another one.
const STAYS: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING];

/// Removes what must not go beyond this connection, before agents are asked: what they set stays.
///
/// `connection` itself keeps the options that say whether the client's connection stays open, which
/// the server still needs.
fn remove_connection_headers(head: &mut impl RequestHead) -> Result<(), BadRequest> {
    let mut kept = "";
    let mut named = Vec::new();
    for value in head.headers().get_all(CONNECTION) {
        for token in tokens(value) {
            let name = HeaderName::from_bytes(token).map_err(|_| BadRequest::Connection)?;
            match name.as_str() {
                "close" => kept = "close",
                "keep-alive" if kept.is_empty() => kept = "keep-alive",
                "keep-alive" | "upgrade" => {}
                _ => named.push(name),
            }
        }
    }
    for name in named.iter().filter(|name| !STAYS.contains(name)) {
        head.remove(name);
    }
    // Only now: without headers that the client names, the request may be none for a WebSocket.
    let keeps_upgrade = is_websocket(head);
    if keeps_upgrade {
        // Other protocols may be offered in the same header.
        head.set(UPGRADE, HeaderValue::from_static("websocket"))
            .map_err(|_| BadRequest::Connection)?;
    }
    for name in &OF_CONNECTION {
        if head.headers().contains_key(name) && !(keeps_upgrade && name == UPGRADE) {
            head.remove(name);
        }
    }
    let kept = if keeps_upgrade { "upgrade" } else { kept };
    if kept.is_empty() {
        if head.headers().contains_key(CONNECTION) {
            head.remove(&CONNECTION);
        }
        return Ok(());
    }
    head.set(CONNECTION, HeaderValue::from_static(kept))
        .map_err(|_| BadRequest::Connection)
}

/// Removes the headers of the upstream's connection from a response, before agents are asked.
///
/// # Errors
///
/// [`BadRequest::Framing`] for a response whose length clients understand in different ways, or
/// that has a transfer coding that agents cannot look into.
pub(super) fn normalise_response(head: &mut impl HeaderTarget) -> Result<(), BadRequest> {
    let values = head.headers().get_all(CONNECTION).iter();
    let named = values
        .flat_map(tokens)
        .filter_map(|name| HeaderName::from_bytes(name).ok());
    let named: Vec<_> = named.filter(|name| !STAYS.contains(name)).collect();
    for name in named.iter().chain(&OF_CONNECTION).chain([&CONNECTION]) {
        if head.headers().contains_key(name) {
            head.remove(name);
        }
    }
    if !head.headers().contains_key(TRANSFER_ENCODING) {
        return settle_length(head);
    }
    if !is_chunked(head.headers()) {
        return Err(BadRequest::Framing);
    }
    // The coding counts (RFC 9112, section 6.3).
    if head.headers().contains_key(CONTENT_LENGTH) {
        head.remove(&CONTENT_LENGTH);
    }
    Ok(())
}

/// Returns whether a response goes on with the WebSocket protocol.
pub(super) fn goes_on_with_websocket(head: &impl HeaderTarget) -> bool {
    has_token(head.headers(), &UPGRADE, "websocket")
}

/// Returns whether the list in a header has this token, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.any(|value| tokens(value).any(|found| found.eq_ignore_ascii_case(token.as_bytes())))
}

/// Returns the items of a list, without empty ones.
pub(super) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let items = value.as_bytes().split(|byte| *byte == b',');
    items
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

impl RequestHead for Parts {
    fn method(&self) -> &Method {
        &self.method
    }

    fn version(&self) -> Version {
        self.version
    }

    fn path_and_query(&self) -> Cow<'_, str> {
        let target = self.uri.path_and_query();
        Cow::Borrowed(target.map_or("", |target| target.as_str()))
    }

    fn authority(&self) -> Option<&str> {
        if self.method == Method::CONNECT {
            return None;
        }
        self.uri.authority().map(|authority| authority.as_str())
    }

    fn set_path_and_query(&mut self, target: &str) -> Result<(), BadRequest> {
        self.uri = Uri::try_from(target).map_err(|_| BadRequest::Target)?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "../../tests/unit/proxy_head.rs"]
mod tests;

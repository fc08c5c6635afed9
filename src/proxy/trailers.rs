//! Trailers, which agents do not see.

use http::{HeaderMap, HeaderName};

/// Removes the fields from trailers that could change the meaning of a message that was judged
/// without them, if its receiver adds them to the header: those that frame or route the message,
/// modify the request, authenticate, describe the content or name the client (RFC 9110, section
/// 6.5.1).
///
/// Agents do not see trailers, so integrations call this for every message.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
///
/// let mut trailers = HeaderMap::new();
/// trailers.insert("grpc-status", HeaderValue::from_static("0"));
/// trailers.insert("authorization", HeaderValue::from_static("Basic YTpi"));
/// tollgate::proxy::remove_forbidden_trailers(&mut trailers);
/// assert_eq!(trailers.len(), 1);
/// ```
pub fn remove_forbidden_trailers(trailers: &mut HeaderMap) {
    let names = trailers.keys().filter(|name| is_forbidden(name)).cloned();
    for name in names.collect::<Vec<_>>() {
        trailers.remove(&name);
    }
}

fn is_forbidden(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("if-") || name.starts_with("x-forwarded-") || FORBIDDEN.contains(&name)
}

const FORBIDDEN: [&str; 37] = [
    // Framing, and the connection.
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Routing, and the client's address.
    "forwarded",
    "host",
    "via",
    "x-real-ip",
    // Modifiers of requests.
    "cache-control",
    "expect",
    "max-forwards",
    "pragma",
    "range",
    // Authentication.
    "authorization",
    "cookie",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    // What the content is.
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-type",
    // Control of responses.
    "age",
    "date",
    "expires",
    "location",
    "retry-after",
    "vary",
    "warning",
];

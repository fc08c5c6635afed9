//! Requests for a WebSocket connection.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Version};

/// Returns whether a request asks for a WebSocket connection as RFC 6455 describes it: with a GET
/// of HTTP/1.1 that upgrades the connection, and version 13.
pub(crate) fn is_websocket_request(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    method == Method::GET
        && version == Version::HTTP_11
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && headers
            .get(SEC_WEBSOCKET_KEY)
            .is_some_and(|key| !key.is_empty())
        && headers
            .get(SEC_WEBSOCKET_VERSION)
            .is_some_and(|version| version == "13")
}

/// Removes the extensions that a request offers, such as compression, so that the upstream uses
/// none and payloads can be judged.
pub(crate) fn decline_extensions(headers: &mut HeaderMap) {
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
}

/// Returns whether a list in a header has a token, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const FIELDS: [(HeaderName, &str); 4] = [
        (CONNECTION, "keep-alive, Upgrade"),
        (UPGRADE, "WebSocket"),
        (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        (SEC_WEBSOCKET_VERSION, "13"),
    ];

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        let fields = fields.iter().cloned();
        fields
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_request_for_a_websocket_is_recognised() {
        assert!(is_websocket_request(
            &Method::GET,
            Version::HTTP_11,
            &headers(&FIELDS)
        ));
        let mut apart = headers(&FIELDS);
        apart.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        apart.append(CONNECTION, HeaderValue::from_static("upgrade"));
        assert!(is_websocket_request(&Method::GET, Version::HTTP_11, &apart));
    }

    #[test]
    fn other_requests_are_not() {
        let all = headers(&FIELDS);
        assert!(!is_websocket_request(&Method::POST, Version::HTTP_11, &all));
        assert!(!is_websocket_request(&Method::GET, Version::HTTP_10, &all));
        assert!(!is_websocket_request(&Method::GET, Version::HTTP_2, &all));
        for (name, _) in FIELDS {
            let mut headers = all.clone();
            headers.insert(&name, HeaderValue::from_static("upgraded"));
            let is_any = name == SEC_WEBSOCKET_KEY;
            assert_eq!(
                is_websocket_request(&Method::GET, Version::HTTP_11, &headers),
                is_any,
                "{name}"
            );
            headers.remove(&name);
            assert!(
                !is_websocket_request(&Method::GET, Version::HTTP_11, &headers),
                "{name}"
            );
        }
    }

    #[test]
    fn extensions_are_removed() {
        let mut headers = headers(&FIELDS);
        for offer in ["permessage-deflate", "x-other"] {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
        }
        decline_extensions(&mut headers);
        assert!(!headers.contains_key(SEC_WEBSOCKET_EXTENSIONS));
        assert_eq!(headers.len(), FIELDS.len());
    }
}
